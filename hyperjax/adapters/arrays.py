"""Arithmetic of arrays that kinds of adapters share."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def per_row(x_C: jax.Array, rows: int) -> jax.Array:
  """Each context's array, repeated for its contiguous rows."""
  contexts, *rest = x_C.shape
  x_CG = jnp.broadcast_to(x_C[:, None], (contexts, rows // contexts, *rest))
  return x_CG.reshape(rows, *rest)


def weighted(arrays: Sequence[Any], weights: Sequence[float]) -> Any:
  """The sum of arrays by weights, in a dtype that holds all of them."""
  total = sum(
    np.float32(weight) * array.astype(np.float32)
    for weight, array in zip(weights, arrays, strict=True)
  )
  return np.asarray(total).astype(common_dtype(arrays))


def common_dtype(arrays: Sequence[Any]) -> Any:
  """The least that holds the values of all."""
  return functools.reduce(jnp.promote_types, [x.dtype for x in arrays])


def ratio(difference: Any, size: Any) -> float:
  """A relative difference; from nothing it is infinite, or 0 if there is none."""
  if not size:
    return math.inf if difference else 0.0
  return float(difference / size)


def stacked(
  given: Sequence[Any], contexts: Sequence[int], neutral: Any
) -> np.ndarray:
  """Arrays side by side on axis 1, all filled up to the largest extents."""
  arrays = [None if array is None else np.asarray(array) for array in given]
  some = [array for array in arrays if array is not None]
  shape = np.max([array.shape for array in some], axis=0)
  dtype = jnp.result_type(*some)  # that holds the values of all
  wide = np.full((shape[0], sum(contexts), *shape[2:]), neutral, dtype)
  first = 0
  for array, count in zip(arrays, contexts, strict=True):
    if array is not None:
      _, _, *rest = map(slice, array.shape)
      wide[(slice(None), slice(first, first + count), *rest)] = array
    first += count
  return wide
