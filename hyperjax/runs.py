"""What a run is: frozen dataclasses, each with `execute()`."""

import dataclasses
import json
import logging
import math
import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import jax

from hyperjax import (
  checkpoints,
  checks,
  loop,
  metrics,
  optimizers,
  sharding,
  trees,
)
from hyperjax.artifacts import restore, restore_adapters, run_record
from hyperjax.data import feed, files, pairs, sources
from hyperjax.data.sources import Data, TaskSet
from hyperjax.data.vocabulary import keep_copy
from hyperjax.evaluation import answering, cost, few_shot
from hyperjax.evaluation import results as report
from hyperjax.models.problems import Problem
from hyperjax.trainer import Trainer, place_params

_log = logging.getLogger(__name__)

MODEL_INFO = "model-info.txt"


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
    seed: of random weights, dropout and the order of data.
    mesh: how devices are shared out.
    num_microbatches: parts a batch is taken in, to save memory.
    periods: of logging, saving and evaluating.
    evaluations: run at step 0, every `periods.evaluate` steps and at the end.
    max_to_keep: checkpoints kept, the last ones.
  """

  model_dir: str
  problem: Problem
  data: Data
  batch_size: int
  optimizer: optimizers.Optimizer
  steps: int
  initial_checkpoint: str | None
  backbone: str | None = None
  seed: int = 0
  mesh: sharding.MeshSpec = sharding.MeshSpec()
  num_microbatches: int = 1
  periods: loop.Periods = loop.Periods(log=100, save=1000)
  evaluations: Sequence[Evaluation] = ()
  max_to_keep: int | None = 3

  def __post_init__(self):
    files.check_local(self.model_dir, "MODEL_DIR")
    for field in ("batch_size", "steps", "num_microbatches"):
      checks.whole(f"Train.{field}", getattr(self, field), 1)
    checks.whole("Train.seed", self.seed, 0)
    if self.periods.evaluate and not self.evaluations:
      raise ValueError(
        f"Periods.evaluate (EVAL_PERIOD) is {self.periods.evaluate}, but "
        "Train.evaluations is empty: there is nothing to evaluate"
      )
    num_tasks = self.problem.num_tasks
    if num_tasks > 1 and getattr(self.data, "num_tasks", 1) != num_tasks:
      raise ValueError(
        f"AdapterFineTuning.num_tasks is {num_tasks}: Train.data must be "
        f"TasksSideBySide of as many tasks, got {self.data}"
      )

  @property
  def task_sets(self) -> list[TaskSet]:
    """Everything whose tokens this run reads."""
    return [
      *sources.task_sets(self.data),
      *(found for each in self.evaluations for found in each.task_sets),
    ]

  def execute(self, config: str = "") -> None:
    """Trains; `config` is the text of the run's config.gin."""
    folder = pathlib.Path(self.model_dir).expanduser()
    trainer = Trainer(
      self.problem, self.optimizer, self.mesh.build(), self.num_microbatches
    )
    contexts = sources.num_contexts(
      self.batch_size, self.data.rows_per_context, "BATCH_SIZE"
    )
    trainer.check(contexts)
    saver = checkpoints.Checkpoints(
      folder / restore.CHECKPOINTS, self.max_to_keep
    )
    restored = saver.latest()
    if restored is not None and restored >= self.steps:
      _say(f"{folder} is already trained to step {restored}")
      return
    source = self.data.open(self.seed)
    sources.check_tasks(source.tasks, self.problem)
    state, facts = self._state(trainer, saver, restored, source)
    facts.origin["reads"] = run_record.reads(source)
    hooks = [evaluation.prepare(trainer) for evaluation in self.evaluations]
    log: metrics.Log = metrics.NoLog()
    if jax.process_index() == 0:
      _write_folder(folder, config, trainer)
      for task in source.tasks:
        if task.vocabulary is not None:
          keep_copy(task.vocabulary, folder / restore.VOCABULARY)
      log = metrics.RunLog(folder, restored)
    own = trainer.layout.own_contexts(contexts)
    try:
      with feed.Feed(source, contexts, facts.position, own) as batches:
        loop.train(
          trainer,
          state,
          batches,
          num_steps=self.steps,
          periods=self.periods,
          saver=saver,
          log=log,
          origin=facts.origin,
          hooks=hooks,
          pending=facts.pending,
        )
    finally:
      if source.num_skipped:
        _log.warning(
          "%d windows fell in too short a document and were drawn again",
          source.num_skipped,
        )
      log.close()
      saver.close()

  def _state(
    self,
    trainer: Trainer,
    saver: checkpoints.Checkpoints,
    restored: int | None,
    source: feed.Source,
  ) -> tuple[Any, checkpoints.Facts]:
    """The state to go on with, and what its checkpoint says."""
    data: dict[str, Any] = {
      "RANDOM_SEED": self.seed,
      "rows_per_context": self.data.rows_per_context,
    }
    demonstrations = None
    if isinstance(source, pairs.SideBySide):
      demonstrations = source.demonstrations
      data["tasks"] = [task.name for task in source.tasks]
    if restored is None:
      given = restore_adapters.load(
        self.initial_checkpoint,
        trainer,
        self.backbone,
        demonstrations=demonstrations,
      )
      state = trainer.init(self.seed, (given.params, given.frozen))
      facts = checkpoints.Facts(
        position=0,
        pending={},
        origin=run_record.describe(
          self.problem, given.backbone, data, given.values
        ),
        key=[],
      )
      return state, facts
    _say(f"continuing {self.model_dir} from step {restored}")
    facts = saver.facts(restored)
    where = f"{self.model_dir}, step {restored},"
    run_record.check_same(facts.origin, self.problem, where, data)
    frozen = restore.frozen_again(facts.origin, trainer, self.backbone)
    if frozen is None:
      frozen = trainer.init(self.seed).frozen
    else:
      frozen = place_params(frozen, trainer.abstract.frozen)
    return saver.restore(restored, trainer.abstract, frozen), facts


@dataclasses.dataclass(frozen=True)
class Restored:
  """What an evaluation answers with."""

  trainer: Trainer
  params: Any
  frozen: Any
  given: restore.Initial


@dataclasses.dataclass(frozen=True)
class Evaluate:
  """Scores a trained run on tasks, writing predictions and results.

  Attributes:
    checkpoint: a run folder.
    problem: what the run trained.
    evaluations: what is scored.
    output_dir: where results go; by default `inference_eval/` in the run.
    backbone: where the backbone lies now, if it has moved.
    mesh: how devices are shared out.
  """

  checkpoint: str
  problem: Problem
  evaluations: Sequence[few_shot.FewShotEvaluation]
  output_dir: str | None = None
  backbone: str | None = None
  mesh: sharding.MeshSpec = sharding.MeshSpec()

  def __post_init__(self):
    files.check_local(self.checkpoint, "CHECKPOINT_PATH")

  @property
  def task_sets(self) -> list[TaskSet]:
    """Everything whose tokens this run reads."""
    return [found for each in self.evaluations for found in each.task_sets]

  @property
  def folder(self) -> pathlib.Path:
    """Where results go."""
    default = pathlib.Path(self.checkpoint) / "inference_eval"
    return pathlib.Path(self.output_dir or default).expanduser()

  def restored(self) -> Restored:
    """What was trained, on the mesh.

    Raises:
      ValueError: there is no such run, or it trained something else.
    """
    # No optimizer state is made: its description only completes the trainer.
    trainer = Trainer(
      self.problem,
      optimizers.AdamW(optimizers.Constant(0.0)),
      self.mesh.build(),
    )
    given = restore_adapters.load(
      self.checkpoint, trainer, self.backbone, "CHECKPOINT_PATH"
    )
    if given.facts and given.facts["problem"] == type(self.problem).__name__:
      run_record.check_same(given.facts, self.problem, self.checkpoint)
    return Restored(
      trainer,
      place_params(given.params, trainer.abstract.params),
      place_params(given.frozen, trainer.abstract.frozen),
      given,
    )

  def execute(self, config: str = "") -> list[dict[str, Any]]:
    """Evaluates; returns the results, as written."""
    found, folder = self.restored(), self.folder
    trainer = found.trainer
    facts = {
      "checkpoint": self.checkpoint,
      "step": found.given.step,
      "backbone": found.given.backbone,
      "problem": type(self.problem).__name__,
      "conditions": answering.conditions(self.problem),
    }
    results = []
    for evaluation in self.evaluations:
      evaluator = few_shot.Evaluator(
        evaluation, trainer.problem, trainer.layout
      )
      answers = evaluator.run(found.params, found.frozen)
      if jax.process_index() != 0:
        continue
      folder.mkdir(parents=True, exist_ok=True)
      files.replace(folder / "config.gin", config)
      result = report.write(
        folder,
        evaluation.name,
        evaluation.metrics,
        answers,
        evaluator.tasks,
        facts
        | evaluation.describe()
        | cost.describe(trainer, evaluation.feature_lengths),
        evaluation.official if evaluation.figures else None,
      )
      # Apart from the results, which weights, data and seed determine.
      timings = json.dumps(evaluator.stopwatch.content(), indent=1) + "\n"
      files.replace(folder / f"{evaluation.name}-timings.json", timings)
      results.append(result)
      print(report.table(result), flush=True)
    _say(f"predictions and results are in {folder}")
    return results


@dataclasses.dataclass(frozen=True)
class Cache:
  """Stores the tokens of tasks ahead of training."""

  tasks: Sequence[TaskSet]

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


def _say(text: str) -> None:
  if jax.process_index() == 0:
    print(text, flush=True)


def _write_folder(folder: pathlib.Path, config: str, trainer: Trainer) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  if config:
    files.replace(folder / "config.gin", config)
  files.replace(folder / MODEL_INFO, model_info(trainer))


def model_info(trainer: Trainer) -> str:
  """Every parameter: name, shape, logical axes, partition, trained or frozen."""
  lines, totals = [], {}
  state = trainer.abstract
  both = (("trained", state.params), ("frozen", state.frozen))
  for (kind, tree), axes in zip(both, trainer.axes, strict=True):
    names = trees.flatten(axes)
    for path, leaf in trees.flatten(tree).items():
      spec = tuple(leaf.sharding.spec)
      totals[kind] = totals.get(kind, 0) + math.prod(leaf.shape)
      lines.append(
        f"{kind:8} {path}  {leaf.dtype}{list(leaf.shape)}  "
        f"axes {tuple(names[path])}  partition {spec}"
      )
  head = [f"{kind}: {count:,} parameters" for kind, count in totals.items()]
  head.append(f"mesh: {dict(trainer.layout.mesh.shape)}")
  for name in ("params", "frozen", "opt_state"):
    held = sharding.device_bytes(getattr(state, name))
    head.append(f"{name}: {held / 2**20:,.1f} MiB on a device")
  return "\n".join([*head, "", *lines]) + "\n"
