"""Loss on held-out contexts while training (t5x's training_eval)."""

import dataclasses

import jax

from hyperjax import checks
from hyperjax.data import feed
from hyperjax.data.sources import (
  Data,
  TaskSet,
  check_room,
  check_tasks,
  num_contexts,
  task_sets,
)
from hyperjax.metrics import Window
from hyperjax.train_state import TrainState
from hyperjax.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class LossEvaluation:
  """Mean loss over the first `num_batches` batches of some data."""

  name: str
  data: Data
  num_batches: checks.Count
  batch_size: checks.Count
  seed: checks.Seed = 0

  def __post_init__(self):
    checks.fields(self)

  @property
  def task_sets(self) -> list[TaskSet]:
    return task_sets(self.data)

  def prepare(self, trainer: Trainer) -> "LossEvaluator":
    return LossEvaluator(self, trainer)


class LossEvaluator:
  """A `LossEvaluation` with its data opened."""

  def __init__(self, evaluation: LossEvaluation, trainer: Trainer):
    self._evaluation, self._trainer = evaluation, trainer
    self._source = evaluation.data.open(evaluation.seed)
    check_tasks(self._source.tasks, trainer.problem)
    check_room(evaluation.data, trainer.problem)
    contexts = num_contexts(
      evaluation.batch_size,
      evaluation.data.rows_per_context,
      f"LossEvaluation.batch_size of {evaluation.name!r}",
    )
    trainer.check(contexts)
    # In parts, as in training: what fits there fits here.
    self._contexts = contexts // trainer.num_microbatches
    self._own = trainer.layout.own_contexts(self._contexts)
    self._place = trainer.layout.place_own

  def run(self, state: TrainState) -> dict[str, float]:
    """Metrics by name; divided once, over all batches."""
    window = Window()
    parts = self._trainer.num_microbatches
    for i in range(self._evaluation.num_batches * parts):
      batch = feed.make_batch(
        self._source,
        i * self._contexts,
        self._own,
        self._trainer.problem.backbone.pad_id,
      )
      metrics = self._trainer.eval_step(state, self._place(batch))
      window.add(jax.device_get(metrics))
    return {
      f"{self._evaluation.name}/{name}": value
      for name, value in window.means().items()
    }
