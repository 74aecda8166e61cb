"""Loss on held-out contexts while training (t5x's training_eval)."""

import dataclasses

import jax

from hyperjax.data import feed
from hyperjax.data.sources import Data
from hyperjax.metrics import Window
from hyperjax.train_state import TrainState
from hyperjax.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class LossEvaluation:
  """Mean loss over the first `num_batches` batches of some data."""

  name: str
  data: Data
  num_batches: int
  batch_size: int
  seed: int = 0

  def prepare(self, trainer: Trainer) -> "LossEvaluator":
    return LossEvaluator(self, trainer)


class LossEvaluator:
  """A `LossEvaluation` with its data opened."""

  def __init__(self, evaluation: LossEvaluation, trainer: Trainer):
    self._evaluation, self._trainer = evaluation, trainer
    self._source = evaluation.data.open(evaluation.seed)
    self._contexts = evaluation.batch_size // evaluation.data.rows_per_context
    trainer.check(self._contexts)

  def run(self, state: TrainState) -> dict[str, float]:
    """Metrics by name; divided once, over all batches."""
    window = Window()
    share = (jax.process_index(), jax.process_count())
    for i in range(self._evaluation.num_batches):
      batch = feed.make_batch(
        self._source, i * self._contexts, self._contexts, share
      )
      metrics = self._trainer.eval_step(state, self._trainer.place(batch))
      window.add(jax.device_get(metrics))
    return {
      f"{self._evaluation.name}/{name}": value
      for name, value in window.means().items()
    }
