"""Weights in eight bits: whole numbers, and a scale for each output.

Weight-only, symmetric, per output channel: products are those of the arithmetic's
type with the whole numbers, which it holds exactly, and what comes of it is scaled.
No array of a product's weights is made in another type but for that product.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax import checks

NONE, INT8, INT8_WO = checks.QUANTIZATIONS
# What is kept in a T5's own type, besides embeddings, norms and position biases.
KEPT: dict[str, frozenset[str] | None] = {
  NONE: None,  # everything
  INT8: frozenset({"wo"}),
  INT8_WO: frozenset(),
}
KERNEL, SCALE = "kernel", "kernel_scale"
_MOST = 127
P = TypeVar("P")  # a problem of `problems`
_LEAST_SCALE = float(np.finfo(np.float32).tiny)
# jax's truncated normal ends at two of the deviations that it is made of, of which
# what is left has this share.
_TRUNCATED = 0.87962566103423978


def is_quantized(quantization: str, layer: str) -> bool:
  """Whether the kernel of a projection of this name is in eight bits."""
  kept = KEPT[quantization]
  return kept is not None and layer not in kept


def is_in(quantization: str, path: str) -> bool:
  """Whether a T5's parameter, such as "encoder/layers/mlp/wi/kernel", is."""
  *_, layer, name = f"/{path}".split("/")
  return name == KERNEL and is_quantized(quantization, layer)


def scale_of(path: str) -> str:
  """Where the scale of the kernel at `path` is."""
  return f"{path.rpartition('/')[0]}/{SCALE}"


def quantized(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """A kernel [..., D, F] as int8, and the float32 scale [..., F] of each output.

  The largest number of an output becomes 127, so that nothing is cut.
  """
  kernel = np.asarray(kernel, np.float32)
  scale = np.maximum(np.abs(kernel).max(axis=-2) / _MOST, _LEAST_SCALE)
  values = np.rint(kernel / scale[..., None, :])
  return np.clip(values, -_MOST, _MOST).astype(np.int8), scale


def of_backbone(problem: P, quantization: str | None) -> P:
  """A problem whose T5 is so quantized; None leaves it as it is."""
  if quantization is None:
    return problem
  given: Any = problem
  backbone = dataclasses.replace(given.backbone, quantization=quantization)
  return dataclasses.replace(given, backbone=backbone)


Init = Callable[..., jax.Array]


def initializers(init: Init, variance: float) -> tuple[Init, Init]:
  """Of the values and the scale of a random kernel that `init` would draw.

  Args:
    init: a truncated normal's.
    variance: of what it draws.
  """
  scale = 2 * variance**0.5 / _TRUNCATED / _MOST

  def of_values(key: jax.Array, shape: Any, dtype: Any) -> jax.Array:
    return jnp.rint(init(key, shape, jnp.float32) / scale).astype(dtype)

  return of_values, jax.nn.initializers.constant(scale)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def product(
  x: jax.Array, values: jax.Array, scale: jax.Array, precision: str | None
) -> jax.Array:
  """`x` [..., D] times the kernel of `values` [D, F] and `scale` [F], in its type.

  Its gradient is of `x` alone. What is kept for it are the whole numbers: of
  another type, what a scan over layers keeps would be all of a T5 in that type.
  """
  return _plain(x, values, scale, precision)


def _plain(x: Any, values: Any, scale: Any, precision: str | None) -> jax.Array:
  # Sums of whole numbers are not yet scaled, and leave float16.
  wide = jnp.float32 if x.dtype == jnp.float16 else None
  y = _tensordot(x, values.astype(x.dtype), precision, wide)
  return _scaled(y, scale).astype(x.dtype)


def _scaled(y: jax.Array, scale: jax.Array) -> jax.Array:
  # In float32: a scale in fewer bits would move all weights of an output.
  return (y.astype(jnp.float32) * scale).astype(y.dtype)


def _tensordot(
  x: Any, kernel: Any, precision: str | None, dtype: Any = None
) -> jax.Array:
  return jnp.tensordot(
    x, kernel, axes=1, precision=precision, preferred_element_type=dtype
  )


def _forward(x: Any, values: Any, scale: Any, precision: str | None):
  # A plain product, such as policies of rematerialisation know.
  return _plain(x, values, scale, precision), (values, scale)


def _backward(precision: str | None, kept: Any, gradient: jax.Array):
  values, scale = kept
  kernel = values.astype(gradient.dtype).T
  of_x = _tensordot(_scaled(gradient, scale), kernel, precision)
  return of_x, None, None


product.defvjp(_forward, _backward)
