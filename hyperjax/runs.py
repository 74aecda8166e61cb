"""What a run is: frozen dataclasses, each with `execute()`."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from hyperjax import (
  checkpoints,
  checks,
  loop,
  optimizers,
  paths,
  sharding,
  watching,
)
from hyperjax.adapters import Spec
from hyperjax.artifacts import (
  assignment,
  bucketing,
  config_json,
  lease,
  recording,
  restore,
  starting,
  step_file,
  typed_json,
)
from hyperjax.data import feed, sources
from hyperjax.data.buckets import Buckets
from hyperjax.data.sources import Data, TaskSet
from hyperjax.evaluation import answering, few_shot, restored, scoring
from hyperjax.memory import advice
from hyperjax.models import t5_layers
from hyperjax.models.problems import Problem
from hyperjax.scores.columns import RIGHT
from hyperjax.trace import Trace
from hyperjax.trackers import Tracker
from hyperjax.trainer import Trainer


class Evaluation(Protocol):
  """Something measured while training."""

  @property
  def task_sets(self) -> Sequence[TaskSet]: ...

  def prepare(self, trainer: Trainer) -> loop.Hook: ...


@dataclasses.dataclass(frozen=True)
class Train:
  """Trains a problem in a run folder, from its last checkpoint if it has one.

  Attributes:
    model_dir: the run folder.
    problem: what is trained and what is frozen.
    data: what it is trained on.
    batch_size: rows (targets) in a batch, over all devices.
    optimizer: with its schedule.
    steps: updates in all.
    initial_checkpoint: see `hyperjax.artifacts.restore`.
    backbone: where a hypermodel's backbone lies now, if it has moved.
    hypermodel_checkpoint: a T5 that the hypermodel begins as, not the backbone.
    teacher_checkpoint: the T5 of a teacher that has weights of its own.
    seed: of random weights, dropout and the order of data.
    mesh: how devices are shared out.
    num_microbatches: parts a batch is taken in, to save memory; None for as few
      as have at most `tokens_per_microbatch` on each device.
    tokens_per_microbatch: padding counted, demonstrations too: once for each row
      where a T5, or a teacher, reads them before its input.
    buckets: how microbatches of different shapes take a batch, none with more
      tokens than those that it would be divided into; None: all are padded alike.
    periods: of logging, saving and evaluating.
    evaluations: run at step 0, every `periods.evaluate` steps and at the end.
    kept: which checkpoints are.
    on_nan: what a loss or gradient that is not finite does: it stops the run, or
      its batch is left out and counted.
    max_skipped: batches left out in a row before the run stops.
    trackers: services that its numbers are told to as well.
    assignment_map: where parameters come from in `initial_checkpoint`, if not
      from their namesakes: see `hyperjax.artifacts.assignment`.
  """

  model_dir: str
  problem: Problem
  data: Data
  batch_size: checks.Count
  optimizer: optimizers.Optimizer
  steps: checks.Count
  initial_checkpoint: str | None
  backbone: str | None = None
  hypermodel_checkpoint: str | None = None
  teacher_checkpoint: str | None = None
  seed: checks.Seed = 0
  mesh: sharding.MeshSpec = sharding.MeshSpec()
  num_microbatches: checks.Count | None = 1
  tokens_per_microbatch: checks.Count = 16384
  buckets: Buckets | None = None
  periods: loop.Periods = loop.Periods(log=100, save=1000)
  evaluations: Sequence[Evaluation] = ()
  kept: checkpoints.Kept = checkpoints.Kept()
  on_nan: watching.OnNan = watching.STOP
  max_skipped: checks.Count = 10
  trackers: Sequence[Tracker] = ()
  assignment_map: assignment.AssignmentMap | None = None

  def __post_init__(self):
    paths.check(self.model_dir, "MODEL_DIR")
    checks.fields(self)
    self.periods.check(self.steps, self.evaluations)
    if self.kept.best_by is not None and not self.periods.evaluate:
      raise ValueError(
        f"Kept.best_by is {self.kept.best_by!r}, but nothing is evaluated: "
        "Periods.evaluate (EVAL_PERIOD) is None"
      )
    assignment.check(self.assignment_map, self.initial_checkpoint)
    config_json.check_trains(self.problem)
    sources.check_room(self.data, self.problem)
    num_tasks = self.problem.num_tasks
    if num_tasks > 1 and getattr(self.data, "num_tasks", 1) != num_tasks:
      raise ValueError(
        f"AdapterFineTuning.num_tasks is {num_tasks}: Train.data must be "
        f"TasksSideBySide of as many tasks, got {self.data}"
      )
    bucketing.check(self.problem, self.buckets)

  @property
  def task_sets(self) -> list[TaskSet]:
    """Everything whose tokens this run reads."""
    return [
      *sources.task_sets(self.data),
      *(found for each in self.evaluations for found in each.task_sets),
    ]

  @property
  def num_contexts(self) -> int:
    """Of a batch; refused where BATCH_SIZE is no multiple of one's targets."""
    return sources.num_contexts(
      self.batch_size, self.data.rows_per_context, "BATCH_SIZE"
    )

  def microbatches_on(self, layout: sharding.Layout) -> int:
    """How many parts a batch is taken in on a mesh."""
    return self.num_microbatches or sources.num_microbatches(
      self.data,
      self.num_contexts,
      layout.data_parallel,
      self.tokens_per_microbatch,
      self.problem.joins_demonstrations,
    )

  def execute(self, config: str = "") -> None:
    """Trains; `config` is the text of the run's config.gin."""
    layout = self.mesh.build()
    folder = paths.at(self.model_dir)
    made = functools.partial(
      Trainer,
      self.problem,
      self.optimizer,
      layout,
      skips_broken=self.on_nan == watching.SKIP,
    )
    trainer, contexts = made(self.microbatches_on(layout)), self.num_contexts
    trainer.check(contexts, self.data.rows_per_context)
    with lease.held(folder) as fence:
      saver = checkpoints.Checkpoints(
        folder / restore.CHECKPOINTS, self.kept, fence=fence
      )
      try:
        self._execute(folder, config, made, trainer, contexts, saver)
      finally:
        saver.close()

  def _execute(
    self,
    folder: pathlib.Path,
    config: str,
    made: Callable[[int], Trainer],
    trainer: Trainer,
    contexts: int,
    saver: checkpoints.Checkpoints,
  ) -> None:
    """Trains in a folder that is this run's alone, unless it has done so."""
    last = saver.last_whole()
    before = None if last is None else restore.record_at(folder, saver, last)
    record = recording.described(self, trainer.num_microbatches)
    if before is not None and last is not None and last >= self.steps:
      record = recording.unopened(record, self.data, before)
      starting.compared(self.model_dir, last, before, record)
      starting.say(f"{folder} is already trained to step {last}")
      return
    advice.check_state(trainer, sharding.device_bytes(trainer.abstract))
    source = self.data.open(self.seed)
    sources.check_tasks(source.tasks, self.problem)
    parts, record = bucketing.opened(self, source, trainer, record, before)
    if before is None or last is None:
      record, state, facts = starting.begun(
        trainer, source, record, self.seed, starting.weights(self)
      )
    else:
      record = starting.compared(self.model_dir, last, before, record)
      state, facts = starting.continued(
        trainer, saver, last, record, self.seed, starting.weights(self)
      )
    hooks = [
      restored.filled(evaluation, record.reads).prepare(trainer)
      for evaluation in self.evaluations
    ]
    bucketing.check_memory(self, source, parts, trainer, made)
    log = recording.begin_folder(
      self, folder, config, trainer, record, source, last, saver
    )
    own = trainer.layout.own_contexts(contexts)
    pad_id = trainer.problem.backbone.pad_id
    made_ahead = feed.Feed(
      source, contexts, facts.position, own, make=parts, pad_id=pad_id
    )
    with contextlib.closing(log), made_ahead as batches:
      loop.train(
        *(trainer, state, batches),
        num_steps=self.steps,
        periods=self.periods,
        saver=saver,
        log=log,
        hooks=hooks,
        pending=facts.pending,
        watch=watching.Watch(
          *(batches.tasks, self.max_skipped, self.kept.best_by),
          at_step=step_file.noter(),
        ),
        trace=Trace(self.periods.profile, folder),
      )


@dataclasses.dataclass(frozen=True)
class Evaluate:
  """Scores a trained run on tasks, writing predictions and results.

  Attributes:
    checkpoint: a run folder.
    problem: what the run trained; None for what its record says. Of a T5 that was
      trained otherwise it is what is asked of it.
    evaluations: what is scored.
    output_dir: where results go; by default `inference_eval/` in the run.
    backbone: where the backbone lies now, if it has moved.
    mesh: how devices are shared out.
    target_losses: whether the targets' loss under each control is written too.
    adapters: of which kind those of the run must be; None: of any.
    quantization: of the T5 that answers; None: as in training.
  """

  checkpoint: str
  problem: Problem | None
  evaluations: Sequence[few_shot.FewShotEvaluation]
  output_dir: str | None = None
  backbone: str | None = None
  mesh: sharding.MeshSpec = sharding.MeshSpec()
  target_losses: bool = False
  adapters: Spec | None = None
  quantization: t5_layers.Quantization | None = None

  def __post_init__(self):
    paths.check(self.checkpoint, "CHECKPOINT_PATH")
    if self.output_dir is not None:
      paths.check(self.output_dir, "EVAL_OUTPUT_DIR")
    checks.fields(self)
    for evaluation in self.evaluations if self.target_losses else ():
      if RIGHT not in evaluation.controls:
        raise ValueError(
          "Evaluate.target_losses (TARGET_LOSSES) compares each control with "
          f"{RIGHT!r}, which FewShotEvaluation.controls of {evaluation.name!r} "
          f"lacks: {list(evaluation.controls)}"
        )

  @property
  def task_sets(self) -> list[TaskSet]:
    """Everything whose tokens this run reads."""
    return [found for each in self.evaluations for found in each.task_sets]

  @property
  def folder(self) -> pathlib.Path:
    """Where results go."""
    default = paths.at(self.checkpoint) / "inference_eval"
    return paths.at(self.output_dir or default)

  def restored(self) -> restored.Restored:
    """What was trained, on the mesh; refused as `restored.load` says."""
    return restored.load(
      *(self.checkpoint, self.problem, self.evaluations, self.mesh.build()),
      *(self.backbone, self.adapters, self.quantization),
    )

  def execute(self, config: str = "") -> list[dict[str, Any]]:
    """Evaluates; returns the results, as written."""
    found, folder = self.restored(), self.folder
    trainer, backbone = found.trainer, found.given.backbone
    record = config_json.problem_record(trainer.problem)
    facts = {
      "checkpoint": self.checkpoint,
      "step": found.given.step,
      "backbone": {} if backbone is None else typed_json.dump(backbone),
      "problem": record.kind,
      "model": typed_json.dump(record),
      "conditions": answering.conditions(trainer.problem),
    }
    written, done = [], []
    for evaluation in found.evaluations:
      result = scoring.score(
        evaluation, found, folder, facts, done, self.target_losses, config
      )
      if result is not None:
        written.append(result)
    for each in done:  # killed before, none of them would be asked again
      each.remove()
    starting.say(f"predictions and results are in {folder}")
    return written


@dataclasses.dataclass(frozen=True)
class Cache:
  """Stores the tokens of tasks ahead of training."""

  tasks: Sequence[TaskSet]

  def __post_init__(self):
    checks.fields(self)

  @property
  def task_sets(self) -> list[TaskSet]:
    return list(self.tasks)

  def execute(self, config: str = "") -> None:
    del config
    for task_set in self.task_sets:
      opened = task_set.open()
      rows = sum(len(task.rows) for task in opened)
      tokens = sum(len(task.rows.tokens) for task in opened)
      print(
        f"{task_set.mixture_or_task}, {task_set.split}: {len(opened)} tasks, "
        f"{rows:,} rows, {tokens:,} tokens",
        flush=True,
      )
