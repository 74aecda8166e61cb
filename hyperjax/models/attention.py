"""Attention, its back ends, and what is added to its logits.

T5's: no 1/sqrt(K), softmax in float32 (Raffel et al., 2020). What is added is kept
in parts, each as small as it is (`Bias`), and joined where a back end needs it:

- plain: XLA's products and softmax, of any shape on any platform.
- cudnn: the fused kernel of cuDNN, for bfloat16 on NVIDIA's cards.
- pallas: a kernel of our own for TPUs, which stores nothing of size [T, S].
- interpreted: the same, step by step on any platform, to test it.
"""

import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from flax.linen import spmd
from jax.sharding import PartitionSpec

from hyperjax import sharding
from hyperjax.adapters import MASKED
from hyperjax.models import attention_sums, gathering

BACK_ENDS = ("auto", "plain", "cudnn", "pallas", "interpreted")
_OF_KERNEL = ("pallas", "interpreted")
# Of an NVIDIA card; before it cuDNN has no fused attention.
_AMPERE = 8.0
# What is held at once of all queries of a row and head bounds the kernel.
MOST_QUERIES = 8192

_log = logging.getLogger(__name__)


@struct.dataclass
class Bias:
  """What is added to an attention's logits; a part that is None adds nothing.

  What pairs of positions get has two forms, of which a back end wants one.
  """

  pairs: jax.Array | None = None  # [P, H or 1, T, S], of each part of the rows
  # The same by the key's position less the query's, from 1 - T on.
  distances: jax.Array | None = None  # [H or 1, T + S - 1]
  keys: jax.Array | None = None  # [B, prefix + S]; it has no gradient
  prefix: int = struct.field(pytree_node=False, default=0)  # keys in front
  back_end: str = struct.field(pytree_node=False, default="plain")

  def behind(
    self, prefix: int, hidden_BP: jax.Array | None, own: int
  ) -> "Bias":
    """The same for `own` keys behind a prefix, which gets nothing of pairs.

    `hidden_BP` is added to the logits of the prefix; None adds nothing.
    """
    keys_BS = self.keys
    if hidden_BP is not None:
      keys_BS = jnp.zeros((len(hidden_BP), own)) if keys_BS is None else keys_BS
      keys_BS = jnp.concatenate([hidden_BP, keys_BS], axis=1)
    elif keys_BS is not None:
      keys_BS = jnp.pad(keys_BS, ((0, 0), (prefix, 0)))
    return dataclasses.replace(self, keys=keys_BS, prefix=prefix)

  def with_own(self, other: "Bias") -> "Bias":
    """This, and what another adds to pairs."""

    def added(x: jax.Array | None, y: jax.Array | None) -> jax.Array | None:
      if x is None or y is None:
        return y if x is None else x
      return x + y

    return dataclasses.replace(
      self,
      pairs=added(self.pairs, other.pairs),
      distances=added(self.distances, other.distances),
    )

  def summed(self, rows: int) -> jax.Array | None:
    """All of it for so many rows, [B or 1, H or 1, T or 1, prefix + S]."""
    keys_B11S = None if self.keys is None else self.keys[:, None, None]
    if self.pairs is None:
      return keys_B11S
    pairs_PHTS = jnp.pad(self.pairs, ((0, 0),) * 3 + ((self.prefix, 0),))
    is_whole = jax.sharding.get_abstract_mesh().size <= 1
    if is_whole and sharding.platform() == "cpu":
      pairs_BHTS: Any = attention_sums.in_each_row(pairs_PHTS, rows)
      return pairs_BHTS if keys_B11S is None else pairs_BHTS + keys_B11S
    if keys_B11S is None:
      return pairs_PHTS
    return gathering.add_to_rows(pairs_PHTS, keys_B11S)


def attention(
  query_BTHK: jax.Array,
  key_BSHK: jax.Array,
  value_BSHK: jax.Array,
  bias: Bias,
) -> jax.Array:
  """Softmax attention, [B, T, H, K]; the one place where it is computed."""
  if bias.back_end in _OF_KERNEL:
    return _in_kernel(query_BTHK, key_BSHK, value_BSHK, bias)
  is_even = not (query_BTHK.shape[1] % 2 or key_BSHK.shape[1] % 2)
  if bias.back_end == "cudnn" and is_even:
    return _in_cudnn(
      query_BTHK, key_BSHK, value_BSHK, bias.summed(len(query_BTHK))
    )
  logits_BHTS = jnp.einsum(
    "bthk,bshk->bhts",
    query_BTHK,
    key_BSHK,
    preferred_element_type=jnp.float32,
  )
  summed = bias.summed(len(query_BTHK))
  if summed is not None:
    logits_BHTS += summed
  if sharding.platform() == "cpu":
    return attention_sums.weighted("bhts,bshk->bthk", logits_BHTS, value_BSHK)
  weights_BHTS = jax.nn.softmax(logits_BHTS, axis=-1)
  return jnp.einsum(
    "bhts,bshk->bthk", weights_BHTS.astype(value_BSHK.dtype), value_BSHK
  )


def of_one(
  query_BAHK: jax.Array,
  key_BHKS: jax.Array,
  value_BHSK: jax.Array,
  added: Sequence[jax.Array],
) -> jax.Array:
  """[B, A, H, K], of A rows that attend to the same keys, as in decoding.

  Keys and values lie as the products read them. `added` are what logits get, each of
  a shape that [B, H, A, S] can be reached from.
  """
  logits_BHAS = jnp.einsum(
    "bahk,bhks->bhas",
    query_BAHK,
    key_BHKS,
    preferred_element_type=jnp.float32,
  )
  for one in added:
    logits_BHAS += one
  return attention_sums.weighted("bhas,bhsk->bahk", logits_BHAS, value_BHSK)


def _in_cudnn(
  query_BTHK: jax.Array,
  key_BSHK: jax.Array,
  value_BSHK: jax.Array,
  bias: jax.Array | None,
) -> jax.Array:
  if bias is not None:
    # Its type must be the query's; and its lengths are not broadcast.
    lengths = (*bias.shape[:2], query_BTHK.shape[1], key_BSHK.shape[1])
    bias = jnp.broadcast_to(bias, lengths).astype(query_BTHK.dtype)
  return jax.nn.dot_product_attention(
    query_BTHK,
    key_BSHK,
    value_BSHK,
    bias,
    scale=1.0,
    implementation="cudnn",
  )


def _in_kernel(
  query_BTHK: jax.Array, key_BSHK: jax.Array, value_BSHK: jax.Array, bias: Bias
) -> jax.Array:
  """On each device by itself: a compiler cannot split a kernel."""
  # Pallas takes as long to import as most of this package.
  from hyperjax.models import attention_kernel

  rows, keys, heads, _ = key_BSHK.shape
  keys_BS = jnp.zeros((rows, keys)) if bias.keys is None else bias.keys
  given = [query_BTHK, key_BSHK, value_BSHK, keys_BS]
  if bias.distances is not None:
    length = bias.distances.shape[1]
    given.append(jnp.broadcast_to(bias.distances, (heads, length)))
  flash = functools.partial(
    attention_kernel.flash,
    prefix=bias.prefix,
    interpret=bias.back_end == "interpreted",
  )
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return flash(*given)
  of_rows, of_heads = (
    _divided(mesh, axis, size)
    for axis, size in ((sharding.BATCH, rows), (sharding.HEADS, heads))
  )
  whole = PartitionSpec(of_rows, None, of_heads, None)
  places = [
    whole,
    whole,
    whole,
    PartitionSpec(of_rows),
    PartitionSpec(of_heads),
  ]
  return jax.shard_map(
    flash,
    in_specs=tuple(places[: len(given)]),
    out_specs=whole,
    check_vma=False,
  )(*given)


def _divided(mesh: Any, axis: str, size: int) -> tuple[str, ...] | None:
  """The mesh axes that split a logical one; None where they do not divide it."""
  found = spmd.logical_to_mesh_axes((axis,), nn.get_logical_axis_rules())
  axes = sharding.each_axis(found[0] if found else None)
  parts = int(np.prod([mesh.shape.get(each, 1) for each in axes]))
  return None if size % parts else axes or None


def back_end(
  wanted: str, dtype: str, head_dim: int, queries: int, keys: int
) -> str:
  """Which computes an attention of these lengths, its prefix not counted.

  Args:
    wanted: of `BACK_ENDS`; "auto" goes by the platform. Where it does not fit,
      because a run has moved for instance, it is the plain one.
    dtype: of the arithmetic.
    head_dim: width of a head.
    queries: positions at once; of one, as in decoding, it is the plain one.
    keys: positions that they see.
  """
  platform = sharding.platform()
  chosen = wanted
  if wanted == "auto":
    chosen = "cudnn" if platform == "gpu" else "plain"
  # float16 has no number as low as what hides a position.
  is_short = dtype == "bfloat16" and head_dim % 8 == 0 and head_dim <= 128
  fits = {
    "cudnn": is_short and _has_cudnn(),
    "pallas": platform == "tpu" and dtype in ("bfloat16", "float32"),
  }
  if queries == 1 or not fits.get(chosen, True):
    chosen = "plain"
  if chosen in _OF_KERNEL and queries > MOST_QUERIES:
    chosen = "plain"
  if queries > 1:
    _tell(chosen, platform, dtype)
  return chosen


def _has_cudnn() -> bool:
  """Whether programs are made for NVIDIA's cards from Ampere on."""
  device = sharding.device()
  if device.platform != "gpu":
    return False
  try:
    return float(device.compute_capability) >= _AMPERE
  except (AttributeError, ValueError):  # another maker's
    return False


@functools.cache
def _tell(chosen: str, platform: str, dtype: str) -> None:
  """Once for each; on a CPU there is no choice."""
  level = logging.DEBUG if platform == "cpu" else logging.INFO
  _log.log(level, "attention on %s in %s: %s", platform, dtype, chosen)


def positioned(distances_HN: jax.Array, length: int, chosen: str) -> Bias:
  """The bias of `length` positions among themselves, for a back end."""
  if chosen in _OF_KERNEL:
    return Bias(distances=distances_HN, back_end=chosen)
  return Bias(pairs=of_pairs(distances_HN, length)[None], back_end=chosen)


def of_pairs(distances_HN: jax.Array, length: int) -> jax.Array:
  """[H, T, S] of [H, T + S - 1]: entry (t, s) is that of the distance s - t.

  By shapes alone, and so is its gradient: rows of one element less than what is
  laid out in them begin one distance earlier each.
  """
  heads, total = distances_HN.shape
  rows_HTN = jnp.broadcast_to(
    jnp.pad(distances_HN, ((0, 0), (0, 1)))[:, None],
    (heads, length, total + 1),
  )
  flat = rows_HTN.reshape(heads, -1)[:, length - 1 :][:, : length * total]
  return flat.reshape(heads, length, total)[:, :, : total - length + 1]


def padding(mask_BS: jax.Array) -> jax.Array:
  """[B, S]: zero where `mask_BS` is true, `MASKED` elsewhere."""
  return jnp.where(mask_BS, 0.0, MASKED)


def causal_bias(query_T: jax.Array, key_S: jax.Array) -> jax.Array:
  """[1, 1, T, S]: a position sees itself and what is before it."""
  return jnp.where(key_S <= query_T[:, None], 0.0, MASKED)[None, None]
