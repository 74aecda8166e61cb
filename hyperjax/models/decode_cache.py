"""What a decode keeps between positions: keys, values, and who wrote them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from hyperjax import sharding
from hyperjax.models import attention
from hyperjax.models.t5_attention import KeyValue


@struct.dataclass
class Cache:
  """What a decode keeps between positions, layer by layer.

  Keys and values lie as the products read them, with what an adapter has to be
  attended to, P, in front; those of a row's A beams lie side by side at each position.
  Where a row of `own` is one beam of several, as other programs carry them, there are
  more than of `cross`.
  """

  # key [B, H, K, (P + T) A], value [B, H, (P + T) A, K]
  own: tuple[KeyValue, ...]
  cross: tuple[KeyValue, ...]  # key [B, H, K, P + S], value [B, H, P + S, K]
  own_keys: tuple[Any, ...]  # [B, P + T], what a key's logits get; or None
  cross_keys: tuple[Any, ...]  # [B, P + S]
  # [H, 2 T - 1], by the key's position less the query's; of all layers, or of each.
  distances: tuple[jax.Array, ...]
  origins: Any  # int32 [B, A, T], the beam that wrote a position; None of one
  index: jax.Array  # [], int32: positions written

  @property
  def num_beams(self) -> int:
    return 1 if self.origins is None else self.origins.shape[1]

  @property
  def in_front(self) -> int:
    """Keys that the decoder's adapters have in front of its own."""
    most = (self.distances[0].shape[1] + 1) // 2
    return self.own[0].key.shape[-1] // self.num_beams - most


def as_read(seen: KeyValue) -> KeyValue:
  """[B, H, K, S] and [B, H, S, K]."""
  key_BHKS = seen.key.transpose(0, 2, 3, 1)
  value_BHSK = seen.value.transpose(0, 2, 1, 3)
  head, width = sharding.HEADS, sharding.KV
  return KeyValue(
    sharding.constrain(key_BHKS, sharding.BATCH, head, width, sharding.LENGTH),
    sharding.constrain(
      value_BHSK, sharding.BATCH, head, sharding.LENGTH, width
    ),
  )


def beside(one: KeyValue, beams: int) -> KeyValue:
  """As many of each position as there are beams."""
  if beams == 1:
    return one
  return KeyValue(
    jnp.repeat(one.key, beams, axis=3), jnp.repeat(one.value, beams, axis=2)
  )


def written(
  own: KeyValue, key_B1HK: jax.Array, value_B1HK: jax.Array, place: jax.Array
) -> KeyValue:
  """The same with a position's keys and values, of each beam of a row."""
  rows, heads, width, _ = own.key.shape
  key_BAHK, value_BAHK = (
    x.reshape(rows, -1, heads, width) for x in (key_B1HK, value_B1HK)
  )
  first = place * key_BAHK.shape[1]
  # Without a reshape between: XLA would update two copies.
  update = jax.lax.dynamic_update_slice_in_dim
  return KeyValue(
    update(own.key, key_BAHK.transpose(0, 2, 3, 1), first, axis=3),
    update(own.value, value_BAHK.transpose(0, 2, 1, 3), first, axis=2),
  )


def with_origins(cache: Cache) -> Cache:
  """Each beam writes the position by itself."""
  if cache.origins is None:
    return cache
  rows, beams, _ = cache.origins.shape
  own_BA1 = jnp.broadcast_to(jnp.arange(beams)[:, None], (rows, beams, 1))
  origins = jax.lax.dynamic_update_slice_in_dim(
    cache.origins, own_BA1, cache.index, axis=2
  )
  return dataclasses.replace(cache, origins=origins)


def own_bias(cache: Cache, distances_HN: jax.Array) -> jax.Array:
  """[B or 1, H, A or 1, (P + T) A], what all rows' keys get at a position."""
  in_front, beams = cache.in_front, cache.num_beams
  length = (distances_HN.shape[1] + 1) // 2
  window_HT = jax.lax.dynamic_slice_in_dim(
    distances_HN, length - 1 - cache.index, length, axis=1
  )
  window_HT = jnp.pad(window_HT, ((0, 0), (in_front, 0)))
  if cache.origins is None:
    return window_HT[None, :, None]
  # What is in front is each beam's own.
  each_A = jnp.arange(beams)
  origins_BAT = jnp.concatenate(
    [
      jnp.broadcast_to(each_A[:, None], (len(cache.origins), beams, in_front)),
      cache.origins,
    ],
    axis=2,
  )
  hidden_BATA = attention.padding(origins_BAT[..., None] == each_A)
  bias_BHATA = hidden_BATA[:, None] + window_HT[:, None, :, None]
  return bias_BHATA.reshape(*bias_BHATA.shape[:3], -1)
