"""Losses as a sum and a weight, in float32."""

import jax
import jax.numpy as jnp

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
  log_z_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
  picked_BT = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)
  cross_entropy_BT = log_z_BT - picked_BT[..., 0]
  loss_BT = cross_entropy_BT
  if label_smoothing:
    vocab = logits_BTV.shape[-1]
    low = label_smoothing / (vocab - 1)
    high = 1.0 - label_smoothing
    total_BT = vocab * log_z_BT - logits_BTV.sum(axis=-1)
    entropy = -(high * jnp.log(high) + label_smoothing * jnp.log(low))
    loss_BT = high * cross_entropy_BT + low * (total_BT - cross_entropy_BT)
    loss_BT -= entropy
  z_loss_BT = z_loss * log_z_BT**2
  weight = weights_BT.sum()
  loss = ((loss_BT + z_loss_BT) * weights_BT).sum()
  right_BT = logits_BTV.argmax(axis=-1) == targets_BT
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
  picked_BT = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)
  return ((picked_BT[..., 0] - log_z_BT) * weights_BT).sum(axis=-1)
