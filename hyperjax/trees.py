"""Nested dictionaries by path: "encoder/layers/mlp/wi/kernel" and back."""

from collections.abc import Mapping
from typing import Any

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
