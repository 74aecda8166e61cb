"""How a run begins, or goes on: its record, and the state to train from."""

import dataclasses
import logging
from typing import Protocol

import jax

from hyperjax import checkpoints, trees
from hyperjax.artifacts import (
  recording,
  restore,
  restore_adapters,
  restore_hypermodel,
  restore_teacher,
  resuming,
  tokenizer_of,
)
from hyperjax.artifacts.assignment import AssignmentMap
from hyperjax.artifacts.run_record import RunRecord
from hyperjax.data import feed, pairs
from hyperjax.train_state import TrainState
from hyperjax.trainer import Trainer

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Weights:
  """Where those of a new run come from.

  Attributes:
    initial: see `hyperjax.artifacts.restore`.
    backbone: where a hypermodel's backbone lies now, if it has moved.
    hypermodel: the T5 that a hypermodel begins as, if that is not its backbone.
    teacher: the T5 that a hypermodel learns from, if that is not its backbone.
    assignment: which parameters come from which of `initial`.
  """

  initial: str | None
  backbone: str | None = None
  hypermodel: str | None = None
  teacher: str | None = None
  assignment: AssignmentMap | None = None


class Run(Protocol):
  """What begins, `runs.Train`."""

  @property
  def initial_checkpoint(self) -> str | None: ...
  @property
  def backbone(self) -> str | None: ...
  @property
  def hypermodel_checkpoint(self) -> str | None: ...
  @property
  def teacher_checkpoint(self) -> str | None: ...
  @property
  def assignment_map(self) -> AssignmentMap | None: ...


def weights(run: Run) -> Weights:
  """Where a run says that its weights come from."""
  return Weights(
    run.initial_checkpoint,
    run.backbone,
    run.hypermodel_checkpoint,
    run.teacher_checkpoint,
    run.assignment_map,
  )


def compared(
  model_dir: str, step: int, before: RunRecord, now: RunRecord
) -> RunRecord:
  """The record of a run as it goes on; what has changed is said, or refused."""
  where = f"{model_dir}, step {step},"
  found = resuming.changes(before, now, where)
  if found:
    say(f"{where} was made with other settings:\n{resuming.table(found)}")
    names = ", ".join(change.name for change in found)
    _log.info("changed since step %d: %s", step, names)
  return resuming.resumed(before, now)


def begun(
  trainer: Trainer,
  source: feed.Source,
  record: RunRecord,
  seed: int,
  given: Weights,
) -> tuple[RunRecord, TrainState, checkpoints.Facts]:
  """The record of a new run, and the state that it begins with.

  Args:
    trainer: of the run.
    source: its data.
    record: as far as it is known without initial weights.
    seed: of what is drawn.
    given: where all else comes from.
  """
  demonstrations = None
  if isinstance(source, pairs.SideBySide):
    demonstrations = source.demonstrations
  own = restore_adapters.load(
    given.initial,
    trainer,
    given.backbone,
    demonstrations=demonstrations,
    assignment=given.assignment,
  )
  named = None
  if given.hypermodel is not None:
    own, named = restore_hypermodel.of_another(given.hypermodel, own, trainer)
  frozen, teacher = restore_teacher.begun(given.teacher, own.frozen, trainer)
  for path in filter(None, (given.initial, given.hypermodel, given.teacher)):
    tokenizer_of.check_tasks(
      source.tasks, path, trainer.problem.backbone.vocab_size
    )
  record = recording.begun(record, own.backbone, own.values)
  record = dataclasses.replace(
    record, hypermodel_checkpoint=named, teacher=teacher
  )
  state = trainer.init(seed, (own.params, frozen))
  return record, state, checkpoints.Facts(0, {}, [])


def continued(
  trainer: Trainer,
  saver: checkpoints.Checkpoints,
  step: int,
  record: RunRecord,
  seed: int,
  given: Weights,
) -> tuple[TrainState, checkpoints.Facts]:
  """The state of a checkpoint to go on with, and what the checkpoint says.

  Args:
    trainer: of the run.
    saver: of its checkpoints.
    step: of the checkpoint.
    record: of the run.
    seed: of what is drawn.
    given: where a backbone and a teacher lie now, if they have moved.

  Raises:
    ValueError: the backbone or the teacher is not to be had, or the checkpoint is of
      another model, damaged, or holds what is not finite.
  """
  say(f"continuing {record.folder} from step {step}")
  frozen = restore.frozen_again(record.backbone, trainer, given.backbone)
  if frozen is None:
    frozen = trainer.init(seed).frozen
  frozen = restore_teacher.continued(
    record.teacher, frozen, trainer, given.teacher
  )
  frozen = trees.place_params(frozen, trainer.abstract.frozen)
  facts = saver.facts(step)
  state = saver.restore(step, trainer.abstract, frozen)
  where = f"the checkpoint of step {step} in {record.folder}"
  checkpoints.check_finite((state.params, state.opt_state), where)
  return state, facts


def say(text: str) -> None:
  """Prints, once for all processes."""
  if jax.process_index() == 0:
    print(text, flush=True)
