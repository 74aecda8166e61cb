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


def in_front(
  demonstrations: jax.Array, tokens_BS: jax.Array, pad_id: int
) -> jax.Array:
  """Each row with its context's demonstrations before it, padding at the end.

  Args:
    demonstrations: token ids of C contexts, [C, S_h] or [C, N, S_n].
    tokens_BS: row b belongs to context b // (B // C).
    pad_id: of the T5 that reads them.
  """
  contexts, rows = len(demonstrations), len(tokens_BS)
  before_CS = demonstrations.reshape(contexts, -1)
  before_BS = jnp.repeat(before_CS, rows // contexts, axis=0)
  joined_BS = jnp.concatenate([before_BS, tokens_BS], axis=1)
  # A stable sort by "is padding": T5 counts positions, so a gap would tell.
  order_BS = jnp.argsort(joined_BS == pad_id, axis=1, stable=True)
  return jnp.take_along_axis(joined_BS, order_BS, axis=1)


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
  logits_BTV = logits(config, setting, shifted(config, targets_BT))
  weights_BT = token_weights(config, targets_BT)
  return objectives.log_likelihood(logits_BTV, targets_BT, weights_BT)


def divergence(
  config: T5Config, setting: Setting, other: Adapters, targets_BT: jax.Array
) -> jax.Array:
  """Kullback and Leibler's, from a setting to the same T5 under `other`: [B].

  Summed over the positions of `targets_BT`, which all of them are given.
  """
  shifted_BT = shifted(config, targets_BT)
  one_BTV, other_BTV = [
    logits(config, each, shifted_BT)
    for each in (setting, setting._replace(adapters=other))
  ]
  found_BT = objectives.divergence(one_BTV, other_BTV)
  return jnp.sum(found_BT * token_weights(config, targets_BT), axis=-1)


def shifted(config: T5Config, targets_BT: jax.Array) -> jax.Array:
  """What the decoder reads to predict its targets."""
  begun_BT = jnp.pad(
    targets_BT, ((0, 0), (1, 0)), constant_values=config.start_id
  )
  return begun_BT[:, :-1]


def token_weights(config: T5Config, targets_BT: jax.Array) -> jax.Array:
  """1 for each target, 0 for padding."""
  return (targets_BT != config.pad_id).astype(jnp.float32)
