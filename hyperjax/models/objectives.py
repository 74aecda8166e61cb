"""Losses as a sum and a weight, in float32."""

import jax
import jax.numpy as jnp

# The logarithm of a probability that is 0 in float32, and that others can be held to.
_NEVER = -1e9
Metrics = dict[str, tuple[jax.Array, jax.Array]]  # name: (sum, weight)


def token_loss(
  logits_BTV: jax.Array,
  targets_BT: jax.Array,
  weights_BT: jax.Array,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
) -> tuple[jax.Array, jax.Array, Metrics]:
  """Cross entropy summed over weighted target tokens, their weight, metrics.

  `z_loss` adds that many times log(Z)^2, which keeps logits near normalised.
  With `label_smoothing` e the target gets 1 - e and the other V - 1 ids share
  e; the entropy of that distribution is subtracted, so that a perfect model
  has loss 0 (t5x's definition of both).
  """
  logits_BTV = logits_BTV.astype(jnp.float32)
  weights_BT = weights_BT.astype(jnp.float32)
  log_z_BT, picked_BT, sum_BT = _read(logits_BTV, targets_BT)
  cross_entropy_BT = log_z_BT - picked_BT
  loss_BT = cross_entropy_BT
  if label_smoothing:
    vocab = logits_BTV.shape[-1]
    low = label_smoothing / (vocab - 1)
    high = 1.0 - label_smoothing
    total_BT = vocab * log_z_BT - sum_BT
    entropy = -(high * jnp.log(high) + label_smoothing * jnp.log(low))
    loss_BT = high * cross_entropy_BT + low * (total_BT - cross_entropy_BT)
    loss_BT -= entropy
  z_loss_BT = z_loss * log_z_BT**2
  weight = weights_BT.sum()
  loss = ((loss_BT + z_loss_BT) * weights_BT).sum()
  right_BT = first_greatest(logits_BTV) == targets_BT
  metrics = {
    "loss": (loss, weight),
    "cross_entropy": ((cross_entropy_BT * weights_BT).sum(), weight),
    "token_accuracy": ((right_BT * weights_BT).sum(), weight),
  }
  return loss, weight, metrics


def log_likelihood(
  logits_BTV: jax.Array, targets_BT: jax.Array, weights_BT: jax.Array
) -> jax.Array:
  """Log-probability of each row's weighted target tokens, summed; [B]."""
  logits_BTV = logits_BTV.astype(jnp.float32)
  log_z_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
  picked_BT = _picked(logits_BTV, targets_BT)
  return ((picked_BT - log_z_BT) * weights_BT).sum(axis=-1)


def divergence(
  one_BTV: jax.Array, other_BTV: jax.Array, top: int | None = None
) -> jax.Array:
  """Kullback and Leibler's, of each position, from logits to others: [B, T].

  With `top` over that many ids that are likeliest by the first, and all others
  taken together, which is never more than over all ids. Float32, not negative.
  """
  one_BTV = jax.nn.log_softmax(one_BTV.astype(jnp.float32))
  other_BTV = jax.nn.log_softmax(other_BTV.astype(jnp.float32))
  if top is None or top >= one_BTV.shape[-1]:
    return _divergence(one_BTV, other_BTV)
  least_BT1 = jax.lax.top_k(one_BTV, top)[0][..., -1:]
  is_top_BTV = one_BTV >= least_BT1
  parts = []
  for log_BTV in (one_BTV, other_BTV):
    rest_BT = jax.nn.logsumexp(
      jnp.where(is_top_BTV, _NEVER, log_BTV), axis=-1, keepdims=True
    )
    kept_BTV = jnp.where(is_top_BTV, log_BTV, _NEVER)
    parts.append(jnp.concatenate([kept_BTV, rest_BT], axis=-1))
  return _divergence(*parts)


def _divergence(one_BTV: jax.Array, other_BTV: jax.Array) -> jax.Array:
  """From log-probabilities."""
  more_BTV = other_BTV - one_BTV
  p_BTV = jnp.exp(one_BTV)
  # q - p sums to 0 and makes each term positive, so that rounding of near
  # equal distributions is not all that is left; expm1 overflows far from 0.
  rest_BTV = jnp.where(
    more_BTV < 1,
    p_BTV * jnp.expm1(jnp.minimum(more_BTV, 1)),
    jnp.exp(other_BTV) - p_BTV,
  )
  return (rest_BTV - p_BTV * more_BTV).sum(axis=-1)


@jax.custom_vjp
def _read(
  logits_BTV: jax.Array, targets_BT: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Of each position log Z, the target's logit and the sum of all.

  Its gradient, written once and over nothing but the logits, is by hand: that of a
  gather is a scatter into an array of zeros as large.
  """
  return (
    jax.nn.logsumexp(logits_BTV, axis=-1),
    _picked(logits_BTV, targets_BT),
    logits_BTV.sum(axis=-1),
  )


def _read_forward(logits_BTV: jax.Array, targets_BT: jax.Array):
  found = _read(logits_BTV, targets_BT)
  return found, (logits_BTV, targets_BT, found[0])


def _read_backward(kept, gradients):
  logits_BTV, targets_BT, log_z_BT = kept
  of_log_z, of_picked, of_sum = (x_BT[..., None] for x_BT in gradients)
  softmax_BTV = jnp.exp(logits_BTV - log_z_BT[..., None])
  is_target_BTV = _ids(logits_BTV) == targets_BT[..., None]
  picked_BTV = jnp.where(is_target_BTV, of_picked, 0.0)
  return softmax_BTV * of_log_z + picked_BTV + of_sum, None


_read.defvjp(_read_forward, _read_backward)


def _picked(logits_BTV: jax.Array, ids_BT: jax.Array) -> jax.Array:
  return jnp.take_along_axis(logits_BTV, ids_BT[..., None], axis=-1)[..., 0]


def first_greatest(logits_BTV: jax.Array) -> jax.Array:
  """`argmax`, as two reductions of one array each, which CPUs do in vectors."""
  greatest_BT1 = logits_BTV.max(axis=-1, keepdims=True)
  is_greatest_BTV = logits_BTV == greatest_BT1
  ids_BTV = _ids(logits_BTV)
  found_BT = jnp.where(is_greatest_BTV, ids_BTV, ids_BTV.shape[-1]).min(axis=-1)
  # Where there is none, but NaN, as `argmax`.
  return jnp.where(found_BT < ids_BTV.shape[-1], found_BT, 0)


def _ids(logits_BTV: jax.Array) -> jax.Array:
  return jax.lax.broadcasted_iota(
    jnp.int32, logits_BTV.shape, logits_BTV.ndim - 1
  )
