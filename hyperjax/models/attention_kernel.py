"""T5's attention as one Pallas kernel each way, for TPUs.

Nothing of size [T, S] is stored: not the logits, nor a bias of them. T5's
relative bias and the causal mask depend on the distance of key and query alone: the
kernel is given the bias of each distance and lays it out along the diagonals of a
block, and the gradient of the bias is the sum along them. The softmax is that of
blocks (Milakov and Gimelshein, 2018; Dao, 2023): the greatest logit so far and the
sum of the weights are carried from block to block.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from hyperjax.models import attention_blocks as blocks

# What keys are filled up with. Even where all keys are masked it has no weight.
_NOTHING = -1e30


def flash(
  query_BTHK: jax.Array,
  key_BSHK: jax.Array,
  value_BSHK: jax.Array,
  keys_BS: jax.Array,
  distances_HN: jax.Array | None = None,
  *,
  prefix: int = 0,
  interpret: bool = False,
) -> jax.Array:
  """Softmax attention, [B, T, H, K]; logits and softmax are float32.

  Args:
    query_BTHK: T is at most `attention.MOST_QUERIES`.
    key_BSHK: the first `prefix` of them have no position.
    value_BSHK: of each key.
    keys_BS: is added to all logits of a key; it has no gradient.
    distances_HN: is added to the logits of a head by the position of the key less
      that of the query, from 1 - T on: N is T + S - prefix - 1.
    prefix: how many keys get nothing by distance.
    interpret: needs no TPU, and is slow.
  """
  length, keys = query_BTHK.shape[1], key_BSHK.shape[1]
  sizes = blocks.Sizes(
    *blocks.padded(length, (1, 2)),
    *blocks.padded(keys, (1, 2, 3, 4)),
    prefix,
    interpret,
  )

  def laid_out(x_BTHK: jax.Array, to: int) -> jax.Array:
    lacking = ((0, 0), (0, 0), (0, to - x_BTHK.shape[1]), (0, 0))
    return jnp.pad(x_BTHK.transpose(0, 2, 1, 3), lacking)

  lacking = ((0, 0), (0, sizes.keys - keys))
  keys_BS = jnp.pad(
    keys_BS.astype(jnp.float32), lacking, constant_values=_NOTHING
  )
  if distances_HN is not None:
    # Entry n then is of the distance n - (padded queries - 1) - prefix.
    before = sizes.queries - length + prefix
    after = sizes.queries + sizes.keys - before - distances_HN.shape[1]
    distances_HN = jnp.pad(
      distances_HN.astype(jnp.float32), ((0, 0), (before, after))
    )[:, None]
  y_BHTK: Any = _flash(
    laid_out(query_BTHK, sizes.queries),
    laid_out(key_BSHK, sizes.keys),
    laid_out(value_BSHK, sizes.keys),
    keys_BS[:, None],
    distances_HN,
    sizes,
  )
  return y_BHTK[:, :, :length].transpose(0, 2, 1, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _flash(
  query, key, value, keys, distances, sizes: blocks.Sizes
) -> jax.Array:
  given = query, key, value, keys, distances
  return _forward(given, sizes, has_stats=False)[0]


def _flash_forward(query, key, value, keys, distances, sizes: blocks.Sizes):
  needs_distances = distances is not None and distances.perturbed
  args: Any = [
    None if x is None else x.value for x in (query, key, value, keys, distances)
  ]
  y, stats = _forward(args, sizes, has_stats=True)
  return y, (args, y, stats, () if needs_distances else None)


def _flash_backward(sizes: blocks.Sizes, kept: Any, y_gradient: jax.Array):
  args, y, stats, needs_distances = kept
  # The softmax's own gradient takes the mean of its weights' away.
  mean = jnp.sum(
    y.astype(jnp.float32) * y_gradient.astype(jnp.float32), axis=-1
  )
  stats = stats.at[:, :, 2].set(mean)
  query, key, value, distances = _backward(
    *args, y_gradient, stats, sizes, needs_distances is not None
  )
  return query, key, value, None, distances


_flash.defvjp(_flash_forward, _flash_backward, symbolic_zeros=True)


def _forward(args: Any, sizes: blocks.Sizes, *, has_stats: bool) -> Any:
  """The output, and of each query its greatest logit and the sum of weights."""
  query, key, value, keys, distances = args
  rows, heads, _, width = query.shape
  places = blocks.places(sizes, width, lambda b, h, i, j: (b, h, i, j))
  given = {"query": query, "key": key, "value": value, "keys": keys}
  if distances is not None:
    given["distances"] = distances
  out = {"y": jax.ShapeDtypeStruct(query.shape, value.dtype)}
  if has_stats:
    shape = (rows, heads, blocks.ROWS, sizes.queries)
    out["stats"] = jax.ShapeDtypeStruct(shape, jnp.float32)
  block = sizes.query_block
  found = pl.pallas_call(
    functools.partial(_forward_kernel, sizes=sizes, given=list(given)),
    grid=sizes.grid(rows, heads),
    in_specs=[places[name] for name in given],
    out_specs=[places[name] for name in out],
    out_shape=list(out.values()),
    scratch_shapes=[
      pltpu.VMEM((block, blocks.LANES), jnp.float32),
      pltpu.VMEM((block, blocks.LANES), jnp.float32),
      pltpu.VMEM((block, width), jnp.float32),
    ],
    interpret=sizes.interpret,
    compiler_params=blocks.parallel(3),
    cost_estimate=blocks.cost(query, key, 2),
  )(*given.values())
  return found if has_stats else (found[0], None)


def _forward_kernel(
  *refs: Any, sizes: blocks.Sizes, given: Sequence[str]
) -> None:
  own = dict(zip(given, refs, strict=False))
  y, *stats, most_ref, sum_ref, total_ref = refs[len(given) :]
  i, j = pl.program_id(2), pl.program_id(3)

  @pl.when(j == 0)
  def _():
    most_ref[...] = jnp.full_like(most_ref, -jnp.inf)
    sum_ref[...] = jnp.zeros_like(sum_ref)
    total_ref[...] = jnp.zeros_like(total_ref)

  logits_TS = blocks.logits(own, sizes, i, j)
  before_T1 = most_ref[:, :1]
  most_T1 = jnp.maximum(before_T1, logits_TS.max(axis=1, keepdims=True))
  weights_TS = jnp.exp(logits_TS - most_T1)
  scale_T1 = jnp.exp(before_T1 - most_T1)
  sum_T1 = scale_T1 * sum_ref[:, :1] + weights_TS.sum(axis=1, keepdims=True)
  value = own["value"][0, 0]
  total_ref[...] = scale_T1 * total_ref[...] + blocks.dot(
    weights_TS.astype(value.dtype), value, (1, 0)
  )
  most_ref[...] = jnp.broadcast_to(most_T1, most_ref.shape)
  sum_ref[...] = jnp.broadcast_to(sum_T1, sum_ref.shape)

  @pl.when(j == pl.num_programs(3) - 1)
  def _():
    y[0, 0] = (total_ref[...] / sum_ref[:, :1]).astype(y.dtype)
    for ref in stats:
      lane = jax.lax.broadcasted_iota(jnp.int32, most_ref.shape, 1)
      both = jnp.where(lane == 0, most_ref[...], sum_ref[...])
      ref[0, 0] = both.T[: blocks.ROWS]


def _backward(
  *args: Any,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
  """Gradients of query, key, value and, where it is needed, distances."""
  query, key, value, keys, distances, y_gradient, stats, sizes, needs = args
  rows, heads, _, width = query.shape
  places = blocks.places(sizes, width, lambda b, h, j, i: (b, h, i, j))
  given = {"query": query, "key": key, "value": value, "keys": keys}
  given |= {"y": y_gradient, "stats": stats}
  if distances is not None:
    given["distances"] = distances
  # Summed over the inner axes of the grid, so they stay where they are.
  sums = jax.ShapeDtypeStruct(query.shape, jnp.float32)
  out = {"all_queries": sums, "key": key, "value": value}
  if needs:
    shape = (rows, heads, 1, sizes.queries + sizes.keys)
    out["all_distances"] = jax.ShapeDtypeStruct(shape, jnp.float32)
  grid = sizes.grid(rows, heads)
  block = (sizes.key_block, width)
  query_gradient, *found = pl.pallas_call(
    functools.partial(
      _backward_kernel, sizes=sizes, given=list(given), needs=needs
    ),
    grid=(*grid[:2], grid[3], grid[2]),
    in_specs=[places[name] for name in given],
    out_specs=[places[name] for name in out],
    out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for x in out.values()],
    scratch_shapes=[pltpu.VMEM(block, jnp.float32)] * 2,
    interpret=sizes.interpret,
    compiler_params=blocks.parallel(2),
    cost_estimate=blocks.cost(query, key, 5),
  )(*given.values())
  of_distances = found[2].sum(axis=0) if needs else None
  return query_gradient.astype(query.dtype), found[0], found[1], of_distances


def _backward_kernel(
  *refs: Any, sizes: blocks.Sizes, given: Sequence[str], needs: bool
) -> None:
  own = dict(zip(given, refs, strict=False))
  query_ref, key_ref, value_ref, *rest = refs[len(given) :]
  key_sum, value_sum = rest[-2:]
  j, i = pl.program_id(2), pl.program_id(3)

  @pl.when(i == 0)
  def _():
    key_sum[...] = jnp.zeros_like(key_sum)
    value_sum[...] = jnp.zeros_like(value_sum)

  @pl.when((i == 0) & (j == 0))
  def _():
    for ref in (query_ref, *rest[:needs]):
      ref[...] = jnp.zeros_like(ref)

  query, key, value, gradient = (
    own[name][0, 0] for name in ("query", "key", "value", "y")
  )
  stats = own["stats"][0, 0].T
  most_T1, sum_T1, mean_T1 = (stats[:, n : n + 1] for n in range(3))
  logits_TS = blocks.logits(own, sizes, i, j)
  weights_TS = jnp.exp(logits_TS - most_T1) / sum_T1
  value_sum[...] += blocks.dot(weights_TS.astype(value.dtype), gradient, (0, 0))
  pull_TS = weights_TS * (blocks.dot(gradient, value, (1, 1)) - mean_T1)
  if needs:
    start = sizes.first_distance(i, j)
    along_1N = blocks.sum_of_diagonals(
      blocks.positioned(pull_TS, sizes, j), sizes
    )
    rest[0][0, 0, :, pl.ds(start, sizes.window)] += along_1N
  pull_TS = pull_TS.astype(query.dtype)
  key_sum[...] += blocks.dot(pull_TS, query, (0, 0))
  own_queries = pl.ds(
    pl.multiple_of(i * sizes.query_block, blocks.LANES), sizes.query_block
  )
  query_ref[0, 0, own_queries] += blocks.dot(pull_TS, key, (1, 0))

  @pl.when(i == pl.num_programs(3) - 1)
  def _():
    key_ref[0, 0] = key_sum[...].astype(key_ref.dtype)
    value_ref[0, 0] = value_sum[...].astype(value_ref.dtype)
