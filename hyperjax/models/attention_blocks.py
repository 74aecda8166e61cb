"""Blocks of an attention in a Pallas kernel: lengths, places, logits, diagonals."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128  # columns of a register: lengths are padded to a multiple
ROWS = 8


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Padded lengths and their blocks; the first `prefix` keys have no position."""

  queries: int
  query_block: int
  keys: int
  key_block: int
  prefix: int
  interpret: bool

  @property
  def window(self) -> int:
    """The distances that a block has, and one."""
    return self.query_block + self.key_block

  def grid(self, rows: int, heads: int) -> tuple[int, ...]:
    return (
      rows,
      heads,
      self.queries // self.query_block,
      self.keys // self.key_block,
    )

  def first_distance(self, i: Any, j: Any) -> Any:
    """Where the distances of block (i, j) begin."""
    start = j * self.key_block - (i + 1) * self.query_block + self.queries
    return pl.multiple_of(start, LANES)


def padded(length: int, blocks: Sequence[int]) -> tuple[int, int]:
  """A padded length and its block: the greatest that adds at most an eighth."""
  least = -(-length // LANES)
  lengths = {size: -(-least // size) * size for size in blocks}
  best = max(size for size in blocks if lengths[size] <= least * 9 / 8)
  return lengths[best] * LANES, best * LANES


def dot(x: jax.Array, y: jax.Array, contracted: tuple[int, int]) -> jax.Array:
  """In float32; of float32 arrays in full."""
  full = x.dtype == jnp.float32
  return jax.lax.dot_general(
    x,
    y,
    (((contracted[0],), (contracted[1],)), ((), ())),
    precision=jax.lax.Precision.HIGHEST if full else None,
    preferred_element_type=jnp.float32,
  )


def logits(own: dict[str, Any], sizes: Sizes, i: Any, j: Any) -> jax.Array:
  """Of block (i, j), biased; `own` are a kernel's references."""
  logits_TS = dot(own["query"][0, 0], own["key"][0, 0], (1, 1)) + own["keys"][0]
  if "distances" not in own:
    return logits_TS
  window = pl.ds(sizes.first_distance(i, j), sizes.window)
  block_TS = on_diagonals(own["distances"][0, :, window], sizes)
  return logits_TS + positioned(block_TS, sizes, j)


def positioned(block_TS: jax.Array, sizes: Sizes, j: Any) -> jax.Array:
  """Zero for the keys of a prefix."""
  if not sizes.prefix:
    return block_TS
  column = jax.lax.broadcasted_iota(jnp.int32, block_TS.shape, 1)
  is_prefix = column < sizes.prefix - j * sizes.key_block
  return jnp.where(is_prefix, 0.0, block_TS)


def on_diagonals(window_1N: jax.Array, sizes: Sizes) -> jax.Array:
  """A block whose entry (t, s) is that of the distance s - t.

  Row t is the first one moved right by t; rows double from step to step.
  """
  width, rows = window_1N.shape[1], ROWS
  x = jnp.broadcast_to(window_1N, (rows, width))
  shift = width - (sizes.query_block - 1)
  x = pltpu.roll(x, shift, 1, stride=1, stride_axis=0)
  while rows < sizes.query_block:
    x = jnp.concatenate([x, pltpu.roll(x, rows, 1)])
    rows *= 2
  return x[:, : sizes.key_block]


def sum_of_diagonals(block_TS: jax.Array, sizes: Sizes) -> jax.Array:
  """The transpose of `on_diagonals`: rows halve from step to step."""
  empty = jnp.zeros((len(block_TS), sizes.query_block), block_TS.dtype)
  x = jnp.concatenate([block_TS, empty], axis=1)
  rows = len(x)
  while rows > ROWS:
    rows //= 2
    x = pltpu.roll(x[:rows], rows, 1) + x[rows:]
  total = x[ROWS - 1 :]
  for row in range(ROWS - 1):
    total += pltpu.roll(x[row : row + 1], ROWS - 1 - row, 1)
  return total


def places(sizes: Sizes, width: int, order: Any) -> dict[str, pl.BlockSpec]:
  """The block of each array; `order` makes (b, h, i, j) of the grid's indices."""

  def spec(shape: tuple[int, ...], place: Any) -> pl.BlockSpec:
    return pl.BlockSpec(shape, lambda *index: place(*order(*index)))

  query_block = (1, 1, sizes.query_block, width)
  of_query = spec(query_block, lambda b, h, i, j: (b, h, i, 0))
  of_key = spec((1, 1, sizes.key_block, width), lambda b, h, i, j: (b, h, j, 0))
  total = sizes.queries + sizes.keys
  return {
    "query": of_query,
    "y": of_query,
    "key": of_key,
    "value": of_key,
    "keys": spec((1, 1, sizes.key_block), lambda b, h, i, j: (b, 0, j)),
    "distances": spec((1, 1, total), lambda b, h, i, j: (h, 0, 0)),
    "stats": spec(
      (1, 1, ROWS, sizes.query_block), lambda b, h, i, j: (b, h, 0, i)
    ),
    "all_queries": spec(
      (1, 1, sizes.queries, width), lambda b, h, i, j: (b, h, 0, 0)
    ),
    "all_distances": spec((1, 1, 1, total), lambda b, h, i, j: (b, h, 0, 0)),
  }


def parallel(count: int) -> pltpu.CompilerParams:
  """The first axes of the grid are each other's business in nothing."""
  kinds: Any = ("parallel",) * count + ("arbitrary",) * (4 - count)
  return pltpu.CompilerParams(dimension_semantics=kinds)


def cost(query: jax.Array, key: jax.Array, products: int) -> pl.CostEstimate:
  """What XLA's scheduler reckons with."""
  logits = math.prod(query.shape[:3]) * key.shape[2]
  moved = products * (query.size + key.size) * query.dtype.itemsize
  return pl.CostEstimate(
    flops=2 * products * logits * query.shape[-1],
    transcendentals=logits,
    bytes_accessed=moved,
  )
