"""Weights that devices hold between them, gathered for each product.

Activations are split by rows, so of a weight that is split over the same devices
each needs the whole. Told nothing, a compiler may move the activations instead.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import spmd
from jax.sharding import PartitionSpec

from hyperjax import sharding
from hyperjax.models import quantizing


def project(
  x: jax.Array,
  kernel: jax.Array,
  axes: Sequence[str | None],
  scale: jax.Array | None = None,
) -> jax.Array:
  """The product over the last axis of `x`, in its dtype.

  A kernel, whose logical axes are `axes`, that is gathered is so again for its
  gradient: kept until then, it would lie whole on each device. With `scale` it is
  one of `quantizing`, and gathered as such.
  """
  if scale is not None:
    return _quantized(x, kernel, axes, scale)
  if not is_gathered(axes):
    kernel = kernel.astype(x.dtype)
    if kernel.ndim != 2:
      return _tensordot(x, kernel)
    return _product(x, kernel, precision_here())

  def product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _tensordot(x, gathered(kernel, x.dtype, axes))

  return jax.checkpoint(product)(x, kernel)


def precision_here() -> str | None:
  """That of here: where a gradient is traced, it is no longer set."""
  set_here: Any = jax.config
  return set_here.jax_default_matmul_precision


def _quantized(
  x: jax.Array,
  values: jax.Array,
  axes: Sequence[str | None],
  scale: jax.Array,
) -> jax.Array:
  precision = precision_here()
  if not is_gathered(axes):
    return quantizing.product(x, values, scale, precision)

  def product(x: jax.Array, values: jax.Array, scale: jax.Array) -> jax.Array:
    whole = gathered(values, values.dtype, axes)
    return quantizing.product(x, whole, scale, precision)

  return jax.checkpoint(product)(x, values, scale)


def _tensordot(
  x: jax.Array, kernel: jax.Array, precision: str | None = None
) -> jax.Array:
  return jnp.tensordot(x, kernel, axes=1, precision=precision)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(
  x: jax.Array, kernel: jax.Array, precision: str | None
) -> jax.Array:
  """A product whose gradient leaves what it is given as it lies.

  JAX's own makes the kernel's transposed, for which a CPU transposes the gradient of
  the output, the largest of the arrays, and all that is computed in one with it. This
  transposes `x`, once for all products of it.
  """
  return _tensordot(x, kernel, precision)


def _product_forward(x: Any, kernel: Any, precision: str | None):
  # A plain product, such as policies of rematerialisation know.
  y = _tensordot(x.value, kernel.value, precision)
  # What a frozen array's gradient would need is not kept.
  kept_x = x.value if kernel.perturbed else None
  return y, (kept_x, kernel.value if x.perturbed else None)


def _product_backward(precision: str | None, kept: Any, gradient: jax.Array):
  x, kernel = kept
  of_x = of_kernel = None
  if kernel is not None:
    of_x = _tensordot(gradient, kernel.T, precision)
  if x is not None:
    rows = x.reshape(-1, x.shape[-1]).T
    of_rows = gradient.reshape(-1, gradient.shape[-1])
    of_kernel = _tensordot(rows, of_rows, precision)
  return of_x, of_kernel


_product.defvjp(_product_forward, _product_backward, symbolic_zeros=True)


def gathered(
  weight: jax.Array, dtype: jax.typing.DTypeLike, axes: Sequence[str | None]
) -> jax.Array:
  """A weight in `dtype`, whole over the mesh axes that split the batch.

  Its gradient is reduced to the parts that the weight is kept in. It travels in the
  narrower one of its own dtype and the other.
  """
  if not is_gathered(axes):
    return weight.astype(dtype)
  if weight.dtype.itemsize > jnp.dtype(dtype).itemsize:
    weight = weight.astype(dtype)
  whole: Any = _gathered(weight, *_used_and_kept(axes))
  return whole.astype(dtype)


def for_each_part(x: jax.Array, rows: int, axes: Sequence[str]) -> jax.Array:
  """`x` [1, ...] once for each part of a batch: [P, ...], each where its rows are.

  What layers share has its gradient reduced over devices at every layer; a part's
  own is reduced once, at the end. One part where there is no mesh, or it does not
  divide the rows.
  """
  sizes = jax.sharding.get_abstract_mesh().shape
  parts = math.prod(sizes.get(axis, 1) for axis in _of_batch())
  if parts == 1 or rows % parts:
    return x
  copies = jnp.broadcast_to(x, (parts, *x.shape[1:]))
  return sharding.constrain(copies, sharding.BATCH, *axes)


def add_to_rows(of_parts: jax.Array, of_rows: jax.Array) -> jax.Array:
  """The sum [B, ...] of what parts have [P, ...] and of what their rows have."""
  parts = len(of_parts)
  if parts == 1:
    return of_parts + of_rows
  rows = of_rows.reshape(parts, -1, *of_rows.shape[1:])
  added = of_parts[:, None] + rows
  return added.reshape(-1, *added.shape[2:])


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gathered(
  weight: jax.Array, used: PartitionSpec, kept: PartitionSpec
) -> jax.Array:
  del kept
  return jax.lax.with_sharding_constraint(weight, used)


def _forward(
  weight: jax.Array, used: PartitionSpec, kept: PartitionSpec
) -> tuple[jax.Array, None]:
  return _gathered(weight, used, kept), None


def _backward(
  used: PartitionSpec, kept: PartitionSpec, _: None, gradient: jax.Array
) -> tuple[jax.Array]:
  # Whole first: told the parts alone, a compiler splits what it is the product of.
  whole = jax.lax.with_sharding_constraint(gradient, used)
  return (jax.lax.with_sharding_constraint(whole, kept),)


_gathered.defvjp(_forward, _backward)


def is_gathered(axes: Sequence[str | None]) -> bool:
  """Whether a weight is split over devices that split the batch."""
  used, kept = _used_and_kept(axes)
  sizes = jax.sharding.get_abstract_mesh().shape
  return any(
    sizes.get(axis, 1) > 1
    for here, there in zip(used, kept, strict=True)
    for axis in set(sharding.each_axis(there)) - set(sharding.each_axis(here))
  )


def _used_and_kept(
  axes: Sequence[str | None],
) -> tuple[PartitionSpec, PartitionSpec]:
  """How a weight is split while it is used, and otherwise."""
  rules = nn.get_logical_axis_rules()
  kept = spmd.logical_to_mesh_axes(tuple(axes), rules) or PartitionSpec()
  rows = _of_batch()
  used = [
    tuple(axis for axis in sharding.each_axis(own) if axis not in rows) or None
    for own in kept
  ]
  return PartitionSpec(*used), kept


def _of_batch() -> tuple[str, ...]:
  """The mesh axes that a batch is split over."""
  batch = spmd.logical_to_mesh_axes(
    (sharding.BATCH,), nn.get_logical_axis_rules()
  )
  return sharding.each_axis(batch[0] if batch else None)
