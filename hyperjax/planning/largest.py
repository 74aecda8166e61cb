"""The largest arrays of a program, for a compiler that does not name them."""

import math
from collections.abc import Iterator
from typing import Any

import jax

from hyperjax.planning.jobs import Job


def arrays(job: Job, jaxpr: Any, most: int = 8) -> list[tuple[str, int]]:
  """Arrays with about the bytes that each device has of them, the largest first.

  A batch's rows are split over devices that hold different ones, and weights as they
  lie there; what the compiler joins with what uses it never lies anywhere.
  """
  placed = _placed(job)
  rows = _rows(job)
  sizes: dict[str, int] = {}
  for name, value in _values(getattr(jaxpr, "jaxpr", jaxpr)):
    if not hasattr(value.dtype, "itemsize"):
      continue  # a key
    kind = (value.shape, value.dtype)
    size = placed.get(kind)
    if size is None:
      size = math.prod(value.shape) * value.dtype.itemsize
      if rows.intersection(value.shape[:2]):
        size //= job.layout.data_parallel
    shape = ",".join(map(str, value.shape))
    sizes.setdefault(f"{value.dtype}[{shape}] {name}", size)
  ordered = sorted(sizes.items(), key=lambda each: -each[1])
  return _one_a_shape(ordered)[:most]


def _placed(job: Job) -> dict[Any, int]:
  """Bytes on a device of arrays that lie there, by shape and type."""
  found = {}
  for leaf in jax.tree.leaves(dict(job.held)):
    shard = leaf.sharding.shard_shape(leaf.shape)
    item = getattr(leaf.dtype, "itemsize", 0)
    found[leaf.shape, leaf.dtype] = math.prod(shard) * item
  return found


def _rows(job: Job) -> set[int]:
  """Extents that count rows or contexts, of a batch or a microbatch."""
  parts = job.num_microbatches
  whole = {len(x) for x in jax.tree.leaves(job.batch)}
  return whole | {count // parts for count in whole}


def _values(jaxpr: Any) -> Iterator[tuple[str, Any]]:
  """What every operation gives, within loops too, with the operation's place."""
  for equation in jaxpr.eqns:
    inner = [
      x
      for x in jax.tree.leaves(
        equation.params, is_leaf=lambda x: hasattr(x, "eqns")
      )
      if hasattr(x, "eqns") or hasattr(x, "jaxpr")
    ]
    for part in inner:
      yield from _values(getattr(part, "jaxpr", part))
    place = str(equation.source_info.name_stack)
    place = "/".join(place.split("/")[-3:])
    name = f"{equation.primitive.name} {place}".strip()
    for value in equation.outvars:
      if hasattr(value.aval, "shape"):
        yield name, value.aval


def _one_a_shape(found: list[tuple[str, int]]) -> list[tuple[str, int]]:
  """The first of each shape."""
  seen: set[str] = set()
  kept = []
  for name, size in found:
    shape = name.partition(" ")[0]
    if shape not in seen:
      seen.add(shape)
      kept.append((name, size))
  return kept
