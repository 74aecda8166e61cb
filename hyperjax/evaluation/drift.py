"""How far adapters move a T5 on text that their tasks have nothing to do with."""

from typing import Any

import jax
import numpy as np

from hyperjax import batch
from hyperjax.adapters import Adapters
from hyperjax.data import beside
from hyperjax.evaluation.asked import Asked
from hyperjax.models import forward
from hyperjax.scores.columns import DRIFT
from hyperjax.serving.predictor import Predictor
from hyperjax.sharding import Layout

__all__ = ["DRIFT", "Drift"]


class Drift:
  """Nats a token from the plain T5 to the one under adapters, on held-out text.

  The same texts for all adapters: an evaluation's `unrelated`, its first
  `num_unrelated` windows.
  """

  def __init__(
    self,
    evaluation: Asked,
    tasks: Any,
    predictor: Predictor,
    layout: Layout,
    pad_id: int,
  ):
    """Reads the texts; where there are none nothing is measured."""
    self._predictor, self._layout, self._pad_id = predictor, layout, pad_id
    self._budget = evaluation.tokens_per_batch * layout.data_parallel
    self._inputs = self._targets = np.zeros((0, 1), np.int32)
    source = beside.opened(evaluation.unrelated, tasks, evaluation.seed)
    if source is None:
      return
    found = [source[i] for i in range(evaluation.num_unrelated)]
    inputs, targets = (
      [getattr(one, feature)[0] for one in found]
      for feature in ("inputs", "targets")
    )
    self._inputs = batch.pad(inputs, source.lengths.inputs, pad_id)
    self._targets = batch.pad(targets, source.lengths.targets, pad_id)

  def __bool__(self) -> bool:
    return len(self._inputs) > 0

  @property
  def texts(self) -> list[bytes]:
    """What determines it."""
    return [self._inputs.tobytes(), self._targets.tobytes()] if self else []

  def of(self, backbone: Any, written: Adapters, contexts: int) -> np.ndarray:
    """Of the adapters of each context: float64 [C], a mean over all tokens.

    Args:
      backbone: the T5's parameters.
      written: adapters of contexts, or of one for all.
      contexts: how many there are, of which the mesh has equal parts.
    """
    length = self._inputs.shape[1] + self._targets.shape[1]
    rows = max(1, self._budget // (contexts * length))
    total_C = np.zeros(contexts)
    for first in range(0, len(self._inputs), rows):
      some = slice(first, first + rows)
      inputs, targets = self._inputs[some], self._targets[some]
      setting = forward.Setting(
        backbone, self._layout.place(np.tile(inputs, (contexts, 1)))
      )
      found = self._predictor.divergence(
        setting, written, np.tile(targets, (contexts, 1))
      )
      total_C += found.reshape(contexts, -1).sum(axis=1)
    return total_C / (self._targets != self._pad_id).sum()


def contexts(written: Adapters, layout: Layout) -> int:
  """How many contexts some adapters are of, or the fewest that a mesh has."""
  return max(layout.padded(1), jax.tree.leaves(written)[0].shape[1])
