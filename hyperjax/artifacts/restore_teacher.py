"""A teacher with weights of its own: TEACHER_CHECKPOINT."""

from typing import Any

from hyperjax import paths
from hyperjax.artifacts import restore
from hyperjax.artifacts.run_record import BackboneRef
from hyperjax.interop import formats, weights
from hyperjax.models import problems, teaching
from hyperjax.models.t5_layers import T5Config
from hyperjax.trainer import Trainer

_SETTING = "TEACHER_CHECKPOINT"


def begun(
  path: str | None, frozen: Any, trainer: Trainer
) -> tuple[Any, BackboneRef | None]:
  """Frozen weights with those of the T5 at `path`, and which that is.

  Raises:
    ValueError: a teacher has no T5, or a T5 is given that no teacher is; or there
      is none, or one of other sizes.
  """
  config = _config(trainer.problem)
  if path is None and config is None:
    return frozen, None
  if path is None or config is None:
    raise _unfit(path)
  source, step = _opened(path)
  loaded = weights.load(source, config)
  named = BackboneRef(loaded.identity, source.path, step)
  return frozen | {teaching.TEACHER: loaded.params}, named


def _opened(path: str) -> tuple[weights.T5Source, int | None]:
  """The T5, and the step of the run that trained it."""
  if formats.is_foreign(path):
    return formats.open_source(path), None
  folder = restore.existing(path, _SETTING)
  run = restore.recorded(folder)
  step = run[0] if run is not None and run[1].problem.trains_t5 else None
  return restore.open_t5(folder), step


def continued(
  named: BackboneRef | None, frozen: Any, trainer: Trainer, path: str | None
) -> Any:
  """Frozen weights with those of the teacher that a run began with.

  Args:
    named: that teacher.
    frozen: the other weights.
    trainer: of the run.
    path: where the teacher lies now; None: where it lay.

  Raises:
    ValueError: it began with none, or that one is not there any more, or another
      is; or a T5 is given that no teacher is.
  """
  config = _config(trainer.problem)
  if config is None:
    if path is not None:
      raise _unfit(path)
    return frozen
  if named is None:
    raise ValueError(
      "Teacher.t5 is given, but this run began without a teacher of its own: begin "
      "another run with it (INITIAL_CHECKPOINT_PATH)"
    )
  moved = path
  if path is not None and not formats.is_foreign(path):
    moved = str(paths.at(path).absolute())
  if moved == named.source:
    moved = None  # of a run that has gone on since, the step that it was of
  params = restore.named_backbone(named, config, moved, "teacher", _SETTING)
  return frozen | {teaching.TEACHER: params}


def _unfit(path: str | None) -> ValueError:
  return ValueError(
    f"{_SETTING} is {path}; a teacher with weights of its own (Teacher.t5, "
    "stages/teacher_run.gin) needs a T5, any other must have None"
  )


def _config(problem: problems.Problem) -> T5Config | None:
  if isinstance(problem, problems.HyperTuning) and problem.teacher is not None:
    return problem.teacher.t5
  return None
