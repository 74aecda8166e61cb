"""The attention layer of T5: projections, adapters and heads around `attention`."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from hyperjax import adapters, sharding
from hyperjax.models.attention import Bias, attention, padding
from hyperjax.models.t5_layers import Dense, Dropout, T5Config


@struct.dataclass
class KeyValue:
  """Keys and values of an attention site."""

  key: jax.Array  # [*L, B, S, H, K]
  value: jax.Array  # [*L, B, S, H, K]


class Attention(nn.Module):
  """Multi-head attention; its caller provides keys, values and bias."""

  config: T5Config

  def setup(self):
    config = self.config
    joined = config.num_heads * config.head_dim
    inward = (sharding.EMBED, sharding.JOINED_KV)
    # T5 folds attention's 1/sqrt(K) into the query's initial values.
    self.query = Dense(joined, inward, config, 1 / config.head_dim)
    self.key = Dense(joined, inward, config)
    self.value = Dense(joined, inward, config)
    self.out = Dense(
      config.emb_dim, (sharding.JOINED_KV, sharding.EMBED), config
    )
    self.dropout = Dropout(config.dropout_rate)

  def query_key_value(
    self, x_BTD: jax.Array, adapter: adapters.AttentionAdapter
  ) -> tuple[jax.Array, KeyValue]:
    """Of self-attention, which reads one array."""
    of_query, *of_others = adapters.updates(
      (adapter.query, adapter.key, adapter.value), x_BTD
    )
    query_BTHK = self._split(self.query(x_BTD, of_query))
    return query_BTHK, self._key_value(x_BTD, adapter, *of_others)

  def query_of(
    self, x_BTD: jax.Array, adapter: adapters.AttentionAdapter
  ) -> jax.Array:
    """Of cross-attention, whose keys are of another array."""
    [update] = adapters.updates([adapter.query], x_BTD)
    return self._split(self.query(x_BTD, update))

  def key_value(
    self,
    x_BSD: jax.Array,
    adapter: adapters.AttentionAdapter,
    memory: adapters.Memory | None = None,
  ) -> KeyValue:
    """Keys and values of `x_BSD`, behind a memory's; prefixes are not among them."""
    updates = adapters.updates((adapter.key, adapter.value), x_BSD)
    found = self._key_value(x_BSD, adapter, *updates)
    if memory is None:
      return found
    # Once for all rows of a context.
    own = self.key_value(memory.states[0].astype(x_BSD.dtype), adapter)
    return jax.tree.map(memory, own, found)

  def _key_value(
    self,
    x_BSD: jax.Array,
    adapter: adapters.AttentionAdapter,
    of_key: jax.Array | None,
    of_value: jax.Array | None,
  ) -> KeyValue:
    return KeyValue(
      self._split(self.key(x_BSD, of_key, adapter.ia3_key)),
      self._split(self.value(x_BSD, of_value, adapter.ia3_value)),
    )

  def __call__(
    self,
    query_BTHK: jax.Array,
    key_value: KeyValue,
    bias: Bias,
    adapter: adapters.AttentionAdapter,
  ) -> jax.Array:
    """[B, T, D]. A whole multiple A of the rows of `key_value` may attend to them.

    Row b reads row b // A of `key_value`: since rows are contiguous, they are
    taken as further positions and nothing is repeated.
    """
    seen, bias = extended(key_value, bias, adapter)
    folded = query_BTHK.reshape(len(seen.key), -1, *query_BTHK.shape[2:])
    y_BTHK = attention(folded, seen.key, self._dropped(seen.value), bias)
    return self.out_of(y_BTHK.reshape(*query_BTHK.shape[:2], -1), adapter)

  def out_of(
    self, y_BTF: jax.Array, adapter: adapters.AttentionAdapter
  ) -> jax.Array:
    """The last projection, of what all heads found."""
    [update] = adapters.updates([adapter.out], y_BTF)
    return self.out(y_BTF, update)

  def _dropped(self, value_BSHK: jax.Array) -> jax.Array:
    """Attention's weights drop out for all queries alike, so values may instead."""
    if not self.has_rng("dropout"):
      return value_BSHK
    value_BHKS = value_BSHK.transpose(0, 2, 3, 1)
    return self.dropout(value_BHKS).transpose(0, 3, 1, 2)

  def _split(self, x_BTF: jax.Array) -> jax.Array:
    return split_heads(self.config, x_BTF)


def extended(
  key_value: KeyValue, bias: Bias, adapter: adapters.AttentionAdapter
) -> tuple[KeyValue, Bias]:
  """All that a site attends to: what an adapter has, and its own behind it."""
  if adapter.prefix is None:
    return key_value, bias
  rows, own_length = key_value.key.shape[:2]
  whole = KeyValue(*adapter.prefix(key_value.key, key_value.value))
  hidden_BP = adapter.prefix.hidden(rows)
  return whole, bias.behind(adapter.prefix.length, hidden_BP, own_length)


def visible(mask_BS: jax.Array, memory: adapters.Memory | None) -> jax.Array:
  """What cross-attention adds to the logits of its keys, a memory's in front."""
  if memory is None:
    return padding(mask_BS)
  hidden_BM = memory.hidden(len(mask_BS))
  return jnp.concatenate([hidden_BM, padding(mask_BS)], axis=1)


def split_heads(config: T5Config, x_BTF: jax.Array) -> jax.Array:
  """[B, T, H, K] of [B, T, H * K]."""
  x_BTHK = x_BTF.reshape(*x_BTF.shape[:2], config.num_heads, config.head_dim)
  # Of a memory that all rows share there is one, which no mesh divides.
  rows = sharding.BATCH if len(x_BTHK) > 1 else None
  return sharding.constrain(
    x_BTHK, rows, sharding.LENGTH, sharding.HEADS, sharding.KV
  )
