"""Learning curves of tasks that are trained side by side, each by itself.

At every evaluation each task's held-out rows are scored under its own adapter:
the mean loss of a target token, and how many decoded answers are right. A line
of `metrics.jsonl` has both for each task and their means over tasks.
"""

import dataclasses
import logging
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from hyperjax import batch, checks, metrics
from hyperjax.adapters import Adapters, Spec
from hyperjax.batch import Context, Lengths
from hyperjax.data import pairs
from hyperjax.data.sources import TaskSet, TasksSideBySide, check_tasks
from hyperjax.data.store.store import Task
from hyperjax.evaluation import advice, answering, batching, texts
from hyperjax.evaluation.batching import Together
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
    rows_per_task: of each task that are taken at a time, in as many batches as
      `tokens_per_batch` asks for.
    tokens_per_batch: of rows that are answered together on each device, as of
      `FewShotEvaluation`.
    least_length: inputs are padded to the least of this, twice this, four times and
      so on that holds them.
    metrics: names in `text_metrics.METRICS`, of greedily decoded answers.
  """

  name: str
  data: TasksSideBySide
  targets: TaskSet
  max_rows: checks.Count | None = 100
  rows_per_task: checks.Count = 8
  tokens_per_batch: checks.Count = 16384
  least_length: checks.Length = 32
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
    spec: Spec | None = getattr(trainer.problem, "adapters", None)
    self._budget = batching.Budget(
      curves.tokens_per_batch, trainer.layout.data_parallel
    ).under(spec)
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
    own = self._answerers.of(columns.RIGHT, state.params, state.frozen)
    # A batch takes the adapters of the tasks that it has rows of.
    own = dataclasses.replace(own, has_own_adapters=True)
    written = own.write(None)
    size, most = self._curves.rows_per_task, max(map(len, self._rows))
    for first in range(0, most, size):
      self._add(own, written, slice(first, first + size), sums)
    means = {name: own.means() for name, own in sums.items()}
    start, values = self._curves.name, {}
    for metric in (LOSS, *self._curves.metrics):
      own = [mean[metric] for mean in means.values()]
      values[f"{start}/{metric}"] = float(np.mean(own))
    for metric in (LOSS, *self._curves.metrics):
      for name, mean in means.items():
        values[f"{start}/{metric}/{name}"] = mean[metric]
    return values

  def _add(
    self,
    own: answering.Answering,
    written: Adapters,
    some: slice,
    sums: Mapping[str, metrics.Window],
  ) -> None:
    """Scores some rows of every task."""
    readers = self._curves.data.instruction_readers
    chosen = [rows[some] for rows in self._rows]
    read = [
      pairs.read(task, rows, self._lengths, readers) if rows else None
      for task, rows in zip(self._tasks, chosen, strict=True)
    ]
    waiting = [
      batching.Row(i, j, self._shape(inputs))
      for i, context in enumerate(read)
      if context is not None
      for j, inputs in enumerate(context.inputs)
    ]
    for together in batching.together(waiting, self._budget):
      with advice.of_rows(self._budget, together.shape, False):
        tokens, losses = self._ask(own, written, read, together)
      for place in together.places:
        row = together.rows[place]
        task = self._tasks[row.context]
        ids = decoding.written(self._config, tokens[place])
        answer = texts.decode(task.vocabulary, ids)
        right = texts.references(task, chosen[row.context][row.number])
        found = {
          name: (text_metrics.METRICS[name](answer, right), 1)
          for name in self._curves.metrics
        }
        sums[task.name].add({LOSS: losses[place], **found})

  def _shape(self, inputs: np.ndarray) -> batching.Shape:
    length = batching.padded(
      len(inputs), self._curves.least_length, self._lengths.inputs
    )
    return batching.Shape(1, self._lengths.targets, length)

  def _ask(
    self,
    own: answering.Answering,
    written: Adapters,
    read: Sequence[Context | None],
    together: Together,
  ) -> tuple[np.ndarray, list[tuple[float, int]]]:
    """What rows are answered, and the loss and the tokens of their targets."""
    shape, pad_id = together.shape, self._config.pad_id
    inputs, targets = [], []
    for row in together.rows:
      context = read[row.context]
      assert context is not None  # it has this row
      inputs.append(context.inputs[row.number])
      targets.append(context.targets[row.number])
    setting = own.setting(
      batch.pad(inputs, shape.input_length, pad_id),
      written,
      np.asarray(together.contexts, np.int32),
    )
    tokens = own.decode(setting, shape.output_length)
    likelihoods = own.log_likelihood(
      setting, batch.pad(targets, shape.output_length, pad_id)
    )
    counts = [int(np.sum(ids != pad_id)) for ids in targets]
    return tokens, list(zip((-likelihoods).tolist(), counts, strict=True))


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
