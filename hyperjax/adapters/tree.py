"""What is done with adapters of whatever kind: their tree is walked.

Nodes stand at places such as "encoder.attention.query"; what each does in an
average, a batch or a comparison is its own (`spec.Node`).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hyperjax import sharding, trees
from hyperjax.adapters.spec import Adapters, assemble, by_path, nodes


def path_leaves(adapters: Adapters) -> dict[str, Any]:
  """Leaves by dotted path, such as "encoder.attention.query.down"."""
  return by_path(adapters)


def num_contexts(adapters: Adapters) -> int | None:
  """C, or None where `adapters` is empty."""
  leaves = jax.tree.leaves(adapters)
  return leaves[0].shape[1] if leaves else None


def as_params(adapters: Any) -> dict[str, Any]:
  """Leaves as nested dictionaries, each beside the parameter that it changes.

  "encoder/layers/attention/query/down", where the T5 has
  "encoder/layers/attention/query/kernel".
  """
  return trees.unflatten(
    {_param_path(path): leaf for path, leaf in path_leaves(adapters).items()}
  )


def from_params(params: dict[str, Any], like: Adapters) -> Adapters:
  """The adapters that `as_params` was given, of the structure of `like`."""
  flat = trees.flatten(params)
  leaves = [flat[_param_path(path)] for path in path_leaves(like)]
  return jax.tree.unflatten(jax.tree.structure(like), leaves)


def stack(given: Sequence[Adapters]) -> Adapters:
  """The contexts of all side by side, for the rows of one batch.

  Kinds and numbers of slots may differ, and one may be empty: the T5 alone, as
  one context. Each context acts as it does by itself.
  """
  own = [nodes(adapters) for adapters in given]
  contexts = [num_contexts(adapters) or 1 for adapters in given]
  kinds = {place: type(node) for found in own for place, node in found.items()}
  return assemble(
    {
      place: kind.stack([found.get(place) for found in own], contexts)
      for place, kind in kinds.items()
    }
  )


def mean(given: Sequence[Adapters], weights: Sequence[float]) -> Adapters:
  """The weighted mean, place by place, of adapters whose specs have one.

  Who has nothing at a place changes nothing there.
  """
  own = [nodes(adapters) for adapters in given]
  kinds = {place: type(node) for found in own for place, node in found.items()}
  made = {}
  for place, kind in kinds.items():
    here = [
      (x[place], w) for x, w in zip(own, weights, strict=True) if place in x
    ]
    some, shares = zip(*here, strict=True)
    made[place] = kind.mean(some, shares)
  return assemble(made)


def cut(adapters: Adapters, leaves: Adapters) -> tuple[Adapters, float]:
  """The nearest adapters with the slots of a spec's `leaves`, and what is left out.

  That is the norm of the difference over that of what there was, of all places
  together.
  """
  wanted = nodes(leaves)
  found = {
    place: node.cut(_num_slots(wanted[place]))
    for place, node in nodes(adapters).items()
  }
  lost = sum(x for _, x, _ in found.values())
  total = sum(x for _, _, x in found.values())
  kept = assemble({place: node for place, (node, _, _) in found.items()})
  return kept, math.sqrt(lost / total) if total else 0.0


def distance(one: Adapters, other: Adapters) -> float:
  """The largest relative difference at any place.

  Who has nothing at a place changes nothing there.
  """
  ours, theirs = nodes(one), nodes(other)
  found = [0.0]
  for place in ours.keys() | theirs.keys():
    own, its = ours.get(place), theirs.get(place)
    found.append(
      (own or _idle(its)).distance(_idle(own) if its is None else its)
    )
  return max(found)


def _num_slots(node: Any) -> int:
  """Of a node of leaves; 0 of one that has none."""
  found = [
    leaf.shape[leaf.axes.index(axis)]
    for leaf in jax.tree.leaves(node)
    for axis in (sharding.SLOTS, sharding.LENGTH)
    if axis in leaf.axes
  ]
  return found[0] if found else 0


def _idle(node: Any) -> Any:
  """A node of the same arrays, with values that change nothing."""
  return dataclasses.replace(
    node,
    **{
      name: np.full_like(getattr(node, name), value)
      for name, value in node.neutral.items()
      if getattr(node, name) is not None
    },
  )


def _param_path(path: str) -> str:
  stack_name, *rest = path.split(".")
  return "/".join((stack_name, "layers", *rest))
