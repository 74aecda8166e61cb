"""Parameters as t5x keeps them, one array per layer, and as our modules do.

Our stacks hold each weight of all layers in one array ("encoder/layers/mlp/wo/
kernel", layer on axis 0), so that `nn.scan` can walk it. Public T5 checkpoints,
and t5x's rules that restore them by name, have "encoder/layers_3/mlp/wo/kernel".
Nothing here needs t5x.
"""

import re
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from hyperjax import sharding, trees

_STACKED = "/layers/"
_SINGLE = re.compile(r"/layers_(\d+)/")


def unstack(params: Any) -> dict[str, Any]:
  """Nested dictionaries with an array per layer, from stacked ones."""
  single = {}
  for path, array in trees.flatten(params).items():
    if _STACKED not in path:
      single[path] = array
      continue
    for i in range(len(array)):
      single[path.replace(_STACKED, f"/layers_{i}/")] = array[i]
  return trees.unflatten(single)


def stack(params: Any) -> dict[str, Any]:
  """The inverse of `unstack`: nested dictionaries as our modules take them."""
  stacked: dict[str, Any] = {}
  layers: dict[str, dict[int, Any]] = {}
  for path, array in trees.flatten(params).items():
    found = _SINGLE.search(path)
    if found is None:
      stacked[path] = array
      continue
    name = _SINGLE.sub(_STACKED, path)
    layers.setdefault(name, {})[int(found[1])] = array
  for name, by_layer in layers.items():
    stacked[name] = jnp.stack([by_layer[i] for i in range(len(by_layer))])
  return trees.unflatten(stacked)


def axis_names(boxed: Any) -> dict[str, Any]:
  """Logical axes of each array of `unstack`, from parameters in flax's boxes.

  Leaves are `PartitionSpec`s; the axis of the layers is gone where a layer has
  an array of its own. Axes that have no name here, of small arrays that stay whole,
  are t5x's "embed".
  """
  names = {
    path: type(spec)(*(name or sharding.EMBED for name in spec))
    for path, spec in trees.flatten(nn.get_partition_spec(boxed)).items()
  }
  params = trees.flatten(nn.meta.unbox(boxed))
  single = {}
  for path, spec in names.items():
    if _STACKED not in path:
      single[path] = spec
      continue
    own = type(spec)(*spec[1:])
    for i in range(len(params[path])):
      single[path.replace(_STACKED, f"/layers_{i}/")] = own
  return trees.unflatten(single)
