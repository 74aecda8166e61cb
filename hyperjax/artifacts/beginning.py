"""What a hypermodel begins as: the arrays of a T5."""

import logging
from typing import Any

import numpy as np

from hyperjax import trees
from hyperjax.models.hypermodel import HyperT5Config

_log = logging.getLogger(__name__)

_DECODER_LAYERS = "decoder/layers/"


def copied(
  config: HyperT5Config, given: dict[str, Any], wanted: Any
) -> dict[str, Any]:
  """Those arrays of a T5 that have a namesake of the same shape in `wanted`.

  A decoder of fewer layers takes evenly spaced ones, the first and the last among
  them (as Shleifer and Rush, 2020).
  """
  flat = trees.flatten(given)
  layers = config.stacks.num_decoder_layers
  if config.decoder_layers is not None:
    flat = {
      path: _spaced(array, layers)
      if path.startswith(_DECODER_LAYERS)
      else array
      for path, array in flat.items()
    }
  if config.bidirectional_slots:
    # Its buckets mean other distances than the checkpoint's.
    own = ("decoder/relpos_bias/", f"{_DECODER_LAYERS}relpos_bias/")
    flat = {path: x for path, x in flat.items() if not path.startswith(own)}
  shapes = trees.flatten(wanted)
  found = {
    path: array
    for path, array in flat.items()
    if path in shapes and shapes[path].shape == array.shape
  }
  _log.log(
    logging.INFO if found else logging.WARNING,
    "hypermodel: %d of %d arrays begin as a T5's, the others are new",
    len(found),
    len(shapes),
  )
  return trees.unflatten(found)


def _spaced(array_L: Any, layers: int) -> Any:
  chosen = np.linspace(0, len(array_L) - 1, layers).round().astype(int)
  return array_L[chosen]
