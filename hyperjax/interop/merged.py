"""Adapters by the kernel that they change, and a T5 with them merged."""

import dataclasses

import jax
import numpy as np

from hyperjax import adapters
from hyperjax.interop import weights


def by_kernel(written: adapters.Adapters) -> dict[str, list[adapters.Node]]:
  """Of one context, by the name of its layer's kernel, t5x's unscanned.

  Such as "encoder/layers_0/attention/query/kernel"; arrays are of that layer. Where
  several change one kernel, they are in the order in which they do.

  Raises:
    ValueError: some change no kernel, or they are not of one context.
  """
  contexts = adapters.num_contexts(written)
  if contexts != 1:
    raise ValueError(
      f"adapters of one context are exported at a time, these are {contexts or 0}"
    )
  found: dict[str, list[adapters.Node]] = {}
  for place, node in adapters.nodes(written).items():
    stack, *site = node.kernel(place).split(".")
    for i in range(len(jax.tree.leaves(node)[0])):
      name = "/".join((stack, f"layers_{i}", *site, "kernel"))
      own = jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i, 0]), node)
      found.setdefault(name, []).append(own)
  return found


def merged(
  source: weights.T5Source, written: adapters.Adapters
) -> weights.T5Source:
  """`source` with each kernel changed as it is read.

  The change is made in float32, then stored in the kernel's own dtype.

  Raises:
    ValueError: as for `by_kernel`, or a kernel is not there.
  """
  changes = by_kernel(written)
  missing = sorted(changes.keys() - source.shapes.keys())
  if missing:
    raise ValueError(f"{source.path} has no {missing[0]} for its adapter")

  def read(name: str) -> np.ndarray:
    kernel = source.read(name)
    if name not in changes:
      return kernel
    changed = kernel
    for change in changes[name]:
      changed = change.merged(changed)
    return changed.astype(kernel.dtype)

  return dataclasses.replace(source, read=read, at_hand={})
