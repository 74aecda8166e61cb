"""The one way forward through a T5 under adapters: logits and what is made of them.

Pure functions of what a T5 is given. Training, evaluation, serving and the checks
of exports differ in who compiles them, and in nothing else.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from hyperjax.adapters import Adapters
from hyperjax.batch import PAD_ID
from hyperjax.models import applying, decoding, objectives, t5
from hyperjax.models.t5_layers import T5Config


class Setting(NamedTuple):
  """What a T5 answers a batch with."""

  backbone: Any  # its parameters
  tokens: Any  # [B, S], that its encoder reads
  adapters: Adapters = t5.NO_ADAPTERS  # of C contexts, or one for all rows


def logits(
  config: T5Config,
  setting: Setting,
  decoder_input_BT: Any,
  dropout_key: jax.Array | None = None,
) -> jax.Array:
  """Logits [B * A, T, V] of every position; row b reads encoder row b // A.

  Without `dropout_key` nothing is dropped out.
  """
  logits_BTV: Any = applying.apply(
    t5.T5(config),
    config,
    setting.backbone,
    setting.tokens,
    decoder_input_BT,
    applying.cast_adapters(setting.adapters, config),
    dropout_key=dropout_key,
  )
  return logits_BTV


def begun(config: T5Config, decoder_input_BT: Any) -> Any:
  """A batch's decoder input, whose rows begin with this T5's own start."""
  if config.start_id == config.pad_id == PAD_ID:
    return decoder_input_BT
  return jnp.asarray(decoder_input_BT).at[:, 0].set(config.start_id)


def decode(
  config: T5Config,
  setting: Setting,
  key_data: Any = None,
  numbers_B: Any = None,
  *,
  max_length: int,
  decoder: decoding.Decoder = decoding.Greedy,
  num_tokens: int | None = None,
) -> decoding.Decoded:
  """What a decoder finds for each row, as `decoding.generate`.

  `key_data`, uint32 [2], is of what is drawn: for all rows together, or with
  `numbers_B` for each by its own number, whatever rows are beside it.
  """
  key = None
  if key_data is not None:
    key = jax.random.wrap_key_data(key_data)
    if numbers_B is not None:
      key = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers_B)
  return decoding.generate(
    t5.T5(config),
    setting.backbone,
    setting.tokens,
    max_length,
    decoder,
    adapters=setting.adapters,
    num_tokens=num_tokens,
    key=key,
  )


def log_likelihood(
  config: T5Config, setting: Setting, targets_BT: jax.Array
) -> jax.Array:
  """Of each row's targets, summed over their tokens: [B * A]."""
  logits_BTV = logits(config, setting, _shifted(config, targets_BT))
  weights_BT = _weights(config, targets_BT)
  return objectives.log_likelihood(logits_BTV, targets_BT, weights_BT)


def divergence(
  config: T5Config, setting: Setting, other: Adapters, targets_BT: jax.Array
) -> jax.Array:
  """Kullback and Leibler's, from a setting to the same T5 under `other`: [B].

  Summed over the positions of `targets_BT`, which all of them are given.
  """
  shifted_BT = _shifted(config, targets_BT)
  one_BTV, other_BTV = [
    jax.nn.log_softmax(logits(config, each, shifted_BT))
    for each in (setting, setting._replace(adapters=other))
  ]
  more_BTV = other_BTV - one_BTV
  p_BTV = jnp.exp(one_BTV)
  # q - p sums to 0 and makes each term positive, so that rounding of near
  # equal distributions is not all that is left; expm1 overflows far from 0.
  rest_BTV = jnp.where(
    more_BTV < 1,
    p_BTV * jnp.expm1(jnp.minimum(more_BTV, 1)),
    jnp.exp(other_BTV) - p_BTV,
  )
  terms_BTV = rest_BTV - p_BTV * more_BTV
  return jnp.sum(terms_BTV.sum(-1) * _weights(config, targets_BT), axis=-1)


def _shifted(config: T5Config, targets_BT: jax.Array) -> jax.Array:
  """What the decoder reads to predict its targets."""
  begun_BT = jnp.pad(
    targets_BT, ((0, 0), (1, 0)), constant_values=config.start_id
  )
  return begun_BT[:, :-1]


def _weights(config: T5Config, targets_BT: jax.Array) -> jax.Array:
  return (targets_BT != config.pad_id).astype(jnp.float32)
