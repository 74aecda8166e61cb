"""Whether a checkpoint's arrays are those of a model."""

from collections.abc import Mapping
from typing import Any

import jax

from hyperjax import trees


def check(found: Mapping[str, tuple[int, ...]], abstract: Any, where: str):
  """Refuses shapes by path that are not those of `abstract`.

  Raises:
    ValueError: lists what is missing, left over, or of another shape.
  """
  wanted = shapes(abstract)
  wrong = [f"missing: {name}" for name in sorted(wanted.keys() - found.keys())]
  wrong += [f"extra: {name}" for name in sorted(found.keys() - wanted.keys())]
  wrong += [
    f"wrong shape: {name} is {found[name]}, not {wanted[name]}"
    for name in sorted(wanted.keys() & found.keys())
    if wanted[name] != found[name]
  ]
  if wrong:
    raise ValueError(
      f"{where} is a checkpoint of another model:{trees.listing(wrong)}"
    )


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """Shape of each array by its path; lists and named tuples read alike."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  found = {}
  for path, leaf in leaves:
    names = []
    for entry in path:
      for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
          names.append(str(getattr(entry, attribute)))
          break
    found["/".join(names)] = tuple(leaf.shape)
  return found
