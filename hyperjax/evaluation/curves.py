"""Learning curves of tasks that are trained side by side, each by itself.

At every evaluation each task's held-out rows are scored under its own adapter:
the mean loss of a target token, and how many decoded answers are right. A line
of `metrics.jsonl` has both for each task and their means over tasks.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping

import numpy as np

from hyperjax import checks, metrics
from hyperjax.batch import Batch, Lengths, assemble, power_of_two
from hyperjax.data import pairs
from hyperjax.data.sources import TaskSet, TasksSideBySide, check_tasks
from hyperjax.data.store.store import Task
from hyperjax.evaluation import answering, texts
from hyperjax.memory.answer import Fitting, OutOfMemory
from hyperjax.models import decoding
from hyperjax.scores import columns, text_metrics
from hyperjax.train_state import TrainState
from hyperjax.trainer import Trainer

_log = logging.getLogger(__name__)

LOSS = "loss"


@dataclasses.dataclass(frozen=True)
class TaskCurves:
  """Loss and scores of each task on rows that it is not trained on.

  Attributes:
    name: of this evaluation, in metrics.
    data: what is trained on: which tasks.
    targets: the held-out rows, by task name.
    max_rows: rows scored of a task, from its first; None for all.
    rows_per_task: of each task in a batch.
    metrics: names in `text_metrics.METRICS`, of greedily decoded answers.
  """

  name: str
  data: TasksSideBySide
  targets: TaskSet
  max_rows: checks.Count | None = 100
  rows_per_task: checks.Count = 8
  metrics: text_metrics.Metrics = ("equal",)

  def __post_init__(self):
    checks.fields(self)

  @property
  def task_sets(self) -> list[TaskSet]:
    return [self.data.tasks, self.targets]

  def prepare(self, trainer: Trainer) -> "Curves":
    return Curves(self, trainer)


class Curves:
  """A `TaskCurves` with its data opened and its programs compiled."""

  def __init__(self, curves: TaskCurves, trainer: Trainer):
    self._curves = curves
    self._lengths = Lengths.from_features(curves.data.feature_lengths)
    trained = curves.data.chosen()
    found = {task.name: task for task in curves.targets.open()}
    lacking = [task.name for task in trained if task.name not in found]
    if lacking:
      raise ValueError(
        f"{curves.name!r}: {curves.targets.mixture_or_task}, split "
        f"{curves.targets.split!r}, lacks task {lacking[0]!r} (and "
        f"{len(lacking) - 1} more)"
      )
    self._tasks = [found[task.name] for task in trained]
    pairs.check_pairs(self._tasks)
    self._rows = [
      _held_out(curves.name, task, own, curves.max_rows)
      for task, own in zip(trained, self._tasks, strict=True)
    ]
    check_tasks(self._tasks, trainer.problem)
    self._config = trainer.problem.backbone
    own = trained[0].vocabulary
    self._answerers = answering.Answerers(
      trainer.problem,
      trainer.layout,
      decoding.Greedy,
      None if own is None else own.size,
    )

  def run(self, state: TrainState) -> dict[str, float]:
    """Means over tasks as "name/metric", then each as "name/metric/task"."""
    sums = {task.name: metrics.Window() for task in self._tasks}
    size, most = self._curves.rows_per_task, max(map(len, self._rows))
    for first in range(0, most, size):
      # The last batch has fewer rows, of few numbers, for few programs.
      own = min(size, power_of_two(most - first))
      try:
        self._add(state, first, own, sums)
      except OutOfMemory as error:
        raise error.advised(self._advice(error.fitting())) from error
    means = {name: own.means() for name, own in sums.items()}
    start, values = self._curves.name, {}
    for metric in (LOSS, *self._curves.metrics):
      own = [mean[metric] for mean in means.values()]
      values[f"{start}/{metric}"] = float(np.mean(own))
    for metric in (LOSS, *self._curves.metrics):
      for name, mean in means.items():
        values[f"{start}/{metric}/{name}"] = mean[metric]
    return values

  def _advice(self, found: Fitting | None) -> str:
    rows = 1 if found is None or found.rows is None else found.rows
    return f"set TaskCurves.rows_per_task={max(1, rows // len(self._tasks))}"

  def _add(
    self,
    state: TrainState,
    first: int,
    size: int,
    sums: Mapping[str, metrics.Window],
  ) -> None:
    """Scores the next `size` rows of every task, the last one repeated."""
    chosen = [(rows[first:] + rows[-1:] * size)[:size] for rows in self._rows]
    readers = self._curves.data.instruction_readers
    whole: Batch = assemble(
      [
        pairs.read(task, rows, self._lengths, readers)
        for task, rows in zip(self._tasks, chosen, strict=True)
      ],
      self._lengths,
      self._config.pad_id,
    )
    own = self._answerers.of(columns.RIGHT, state.params, state.frozen)
    setting = own.setting(whole.encoder_input_tokens, own.write(None))
    tokens = own.decode(setting, self._lengths.targets)
    likelihoods = own.log_likelihood(setting, whole.decoder_target_tokens)
    num_targets = whole.decoder_loss_weights.sum(axis=1)
    for i, task in enumerate(self._tasks):
      for j, row in enumerate(self._rows[i][first : first + size]):
        at = i * size + j
        ids = decoding.written(self._config, tokens[at])
        answer = texts.decode(task.vocabulary, ids)
        right = texts.references(task, row)
        found = {
          name: (text_metrics.METRICS[name](answer, right), 1)
          for name in self._curves.metrics
        }
        loss = (-likelihoods[at], num_targets[at])
        sums[task.name].add({LOSS: loss, **found})


@dataclasses.dataclass(frozen=True)
class Curve:
  """A metric of one task against training."""

  steps: list[int]
  values: list[float]


def read(
  run: str | pathlib.Path, name: str, metric: str = LOSS
) -> dict[str, Curve]:
  """A run's curves of a metric by task, as evaluation `name` wrote them."""
  prefix = f"{name}/{metric}/"
  curves: dict[str, Curve] = {}
  for line in metrics.read(pathlib.Path(run) / metrics.METRICS):
    for key, value in line.items():
      if key.startswith(prefix):
        curve = curves.setdefault(key.removeprefix(prefix), Curve([], []))
        curve.steps.append(line["step"])
        curve.values.append(value)
  return curves


def _held_out(name: str, trained: Task, own: Task, most: int | None):
  """The first rows to score that are not trained on: by text, as in episodes."""
  is_trained = np.isin(own.rows.hashes, trained.rows.hashes)
  rows = np.flatnonzero(~is_trained)[:most].tolist()
  if not rows:
    raise ValueError(
      f"{name!r}, task {own.name!r}: every input of split {own.split!r} is in "
      f"split {trained.split!r} too, which is trained on"
    )
  if is_trained.any():
    _log.warning(
      "%s, task %s: %d of %d rows are trained on, and not scored",
      name,
      own.name,
      is_trained.sum(),
      len(own.rows),
    )
  return rows
