"""How a run begins, or goes on: its record, and the state to train from."""

import logging

import jax

from hyperjax import checkpoints, trees
from hyperjax.artifacts import (
  recording,
  restore,
  restore_adapters,
  resuming,
  tokenizer_of,
)
from hyperjax.artifacts.assignment import AssignmentMap
from hyperjax.artifacts.run_record import RunRecord
from hyperjax.data import feed, pairs
from hyperjax.train_state import TrainState
from hyperjax.trainer import Trainer

_log = logging.getLogger(__name__)


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
  initial: str | None,
  backbone: str | None,
  assignment: AssignmentMap | None = None,
) -> tuple[RunRecord, TrainState, checkpoints.Facts]:
  """The record of a new run, and the state that it begins with.

  Args:
    trainer: of the run.
    source: its data.
    record: as far as it is known without initial weights.
    seed: of what is drawn.
    initial: see `hyperjax.artifacts.restore`.
    backbone: where a hypermodel's backbone lies now, if it has moved.
    assignment: which parameters come from which of `initial`.
  """
  demonstrations = None
  if isinstance(source, pairs.SideBySide):
    demonstrations = source.demonstrations
  given = restore_adapters.load(
    initial,
    trainer,
    backbone,
    demonstrations=demonstrations,
    assignment=assignment,
  )
  tokenizer_of.check_tasks(
    source.tasks, initial, trainer.problem.backbone.vocab_size
  )
  record = recording.begun(record, given.backbone, given.values)
  state = trainer.init(seed, (given.params, given.frozen))
  return record, state, checkpoints.Facts(0, {}, [])


def continued(
  trainer: Trainer,
  saver: checkpoints.Checkpoints,
  step: int,
  record: RunRecord,
  seed: int,
  backbone: str | None,
) -> tuple[TrainState, checkpoints.Facts]:
  """The state of a checkpoint to go on with, and what the checkpoint says.

  Raises:
    ValueError: the backbone is not to be had, or the checkpoint is of another
      model, damaged, or holds what is not finite.
  """
  say(f"continuing {record.folder} from step {step}")
  frozen = restore.frozen_again(record.backbone, trainer, backbone)
  if frozen is None:
    frozen = trainer.init(seed).frozen
  else:
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
