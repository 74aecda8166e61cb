"""Weights that are no numbers are refused where they enter, by their names."""

from typing import Any

import jax
import jax.numpy as jnp

from hyperjax import trees


@jax.jit
def _is_finite(array: jax.Array) -> jax.Array:
  return jnp.isfinite(array).all()


def check_finite(tree: Any, where: str) -> None:
  """Refuses arrays that hold what is not a number, or infinite.

  Args:
    tree: arrays on devices, of one or several processes; all of which call it.
    where: they come from.

  Raises:
    ValueError: lists the arrays.
  """
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  flags = [
    (jax.tree_util.keystr(path, simple=True, separator="/"), _is_finite(leaf))
    for path, leaf in leaves
    if jnp.issubdtype(leaf.dtype, jnp.floating)
  ]
  wrong = [name for name, flag in flags if not bool(flag)]
  if wrong:
    raise ValueError(
      f"{where} holds values that are not finite:{trees.listing(wrong)}"
    )
