"""Attention's sums in the way that takes a CPU the least, with their gradients."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax.models import gathering


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def in_each_row(pairs_1HTS: jax.Array, rows: int) -> jax.Array:
  """[B, H, T, S], whose gradient is summed over rows by a product.

  XLA's sum over the first axis takes a CPU ten times as long, but its product with
  a vector counts that one's entries in 32 bits, and ends the process beyond.
  """
  return jnp.broadcast_to(pairs_1HTS, (rows, *pairs_1HTS.shape[1:]))


def _row_backward(rows: int, _: None, gradient: jax.Array) -> tuple[jax.Array]:
  if gradient.size // rows > np.iinfo(np.int32).max:
    return (gradient.sum(axis=0, keepdims=True),)
  return (jnp.tensordot(jnp.ones((1, rows), gradient.dtype), gradient, axes=1),)


in_each_row.defvjp(
  lambda pairs, rows: (in_each_row(pairs, rows), None), _row_backward
)


def weighted(
  equation: str, logits_BHTS: jax.Array, value: jax.Array
) -> jax.Array:
  """The mean of values under a softmax, [B, T, H, K]; `equation` is its product.

  To divide heads after the product takes less than weights before it; and XLA joins
  a whole softmax with both products to one loop, which takes a CPU three times as long.
  """
  return _weighted(equation, gathering.precision_here(), logits_BHTS, value)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _weighted(
  equation: str, precision: str | None, logits_BHTS: Any, value: Any
) -> jax.Array:
  return _weighted_forward(equation, precision, logits_BHTS, value)[0]


def _weighted_forward(
  equation: str, precision: str | None, logits_BHTS: Any, value: Any
):
  powers_BHTS = jnp.exp(logits_BHTS - logits_BHTS.max(axis=-1, keepdims=True))
  total_BHT1 = powers_BHTS.sum(axis=-1, keepdims=True)
  # A sum that is not divided yet can be beyond float16.
  wide = jnp.float32 if value.dtype == jnp.float16 else None
  y_BTHK = jnp.einsum(
    equation,
    powers_BHTS.astype(value.dtype),
    value,
    precision=precision,
    preferred_element_type=wide,
  )
  y_BTHK = (y_BTHK / total_BHT1.transpose(0, 2, 1, 3)).astype(value.dtype)
  return y_BTHK, (powers_BHTS, total_BHT1, value)


def _weighted_backward(
  equation: str, precision: str | None, kept: Any, gradient: jax.Array
):
  """As of a softmax: exactly 0 where a query sees one key alone."""
  powers_BHTS, total_BHT1, value = kept
  p_BHTS = powers_BHTS / total_BHT1
  weights_BHTS = p_BHTS.astype(value.dtype)
  product = functools.partial(jnp.einsum, equation, precision=precision)
  [of_p_BHTS] = jax.linear_transpose(lambda x: product(x, value), weights_BHTS)(
    gradient
  )
  [of_value] = jax.linear_transpose(lambda x: product(weights_BHTS, x), value)(
    gradient
  )
  of_p_BHTS = of_p_BHTS.astype(p_BHTS.dtype)
  mean_BHT1 = (p_BHTS * of_p_BHTS).sum(axis=-1, keepdims=True)
  return p_BHTS * (of_p_BHTS - mean_BHT1), of_value


_weighted.defvjp(_weighted_forward, _weighted_backward)
