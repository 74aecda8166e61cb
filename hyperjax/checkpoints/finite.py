"""Weights that are no numbers are refused where they enter, by their names."""

from typing import Any

import jax
import jax.numpy as jnp

from hyperjax import trees


# Of all at once: programs of several devices that run beside each other may wait for
# each other where there are few threads.
@jax.jit
def _are_finite(arrays: list[jax.Array]) -> list[jax.Array]:
  return [jnp.isfinite(array).all() for array in arrays]


def check_finite(tree: Any, where: str) -> None:
  """Refuses arrays that hold what is not a number, or infinite.

  Args:
    tree: arrays on devices, of one or several processes; all of which call it.
    where: they come from.

  Raises:
    ValueError: lists the arrays.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  named = {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in leaves
    if jnp.issubdtype(leaf.dtype, jnp.floating)
  }
  flags = jax.device_get(_are_finite(list(named.values())))
  wrong = [name for name, flag in zip(named, flags, strict=True) if not flag]
  if wrong:
    raise ValueError(
      f"{where} holds values that are not finite:{trees.listing(wrong)}"
    )
