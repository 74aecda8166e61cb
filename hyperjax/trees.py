"""Nested dictionaries by path: "encoder/layers/mlp/wi/kernel" and back."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import traverse_util


def flatten(tree: Any) -> dict[str, Any]:
  """Leaves of nested dictionaries by path."""
  return dict(traverse_util.flatten_dict(tree, sep="/"))


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
  """Nested dictionaries of leaves by path."""
  return traverse_util.unflatten_dict(dict(leaves), sep="/")


def listing(problems: list[str], most: int = 20) -> str:
  """Problems as indented lines, the first ones where there are many."""
  shown = problems[:most]
  if len(problems) > most:
    shown.append(f"... and {len(problems) - most} more")
  return "\n  ".join(["", *shown])


def count(tree: Any) -> int:
  """Numbers in all arrays of a tree."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def place_params(given: Any, abstract: Any) -> Any:
  """Parameters on the mesh: each array where and as `abstract` has it.

  Raises:
    ValueError: parameters are missing or of another shape.
  """
  flat = flatten(abstract)
  known = flatten(given)
  lacking = sorted(flat.keys() - known.keys())
  if lacking:
    raise ValueError(
      f"{len(lacking)} parameters are missing: {', '.join(lacking[:10])}"
    )
  return unflatten(place_flat(known, flat))


def place_flat(
  given: dict[str, Any], wanted: dict[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
  """Arrays on the devices and in the dtypes wanted, each shard for itself."""

  def place(path: str, array: Any) -> jax.Array:
    like = wanted[path]
    if array.shape != like.shape:
      raise ValueError(
        f"parameter {path} is {array.shape}, the model's {like.shape}"
      )
    if (array.dtype == np.int8) != (like.dtype == np.int8):
      raise ValueError(
        f"parameter {path} is {array.dtype}, the model's {like.dtype}: what is in "
        "eight bits has a scale, and is not cast"
      )
    if isinstance(array, jax.Array):
      return jax.device_put(array.astype(like.dtype), like.sharding)
    return jax.make_array_from_callback(
      like.shape, like.sharding, lambda i: array[i].astype(like.dtype)
    )

  return {path: place(path, array) for path, array in given.items()}
