"""Where initial weights come from: what INITIAL_CHECKPOINT_PATH may name.

- a T5 of another program (`interop.formats`: a Hugging Face folder or a t5x
  checkpoint, the latter also in a bucket), or a run that trained a T5: it is
  the backbone, and the hypermodel's encoder, decoder and embeddings begin as
  its copy wherever shapes agree;
- a run that trained a hypermodel: that hypermodel, and the backbone it was
  trained for, found where that run found it.

Adapters that are trained themselves have more to begin with: `restore_adapters`.
"""

import contextlib
import dataclasses
import logging
import pathlib
from typing import Any

import jax

from hyperjax import checkpoints, paths, trees
from hyperjax.artifacts import beginning, config_json, resuming, run_file
from hyperjax.artifacts.run_record import (
  BackboneRef,
  InitialValues,
  RunRecord,
)
from hyperjax.data import files
from hyperjax.interop import formats, weights
from hyperjax.models import problems, t5_layers
from hyperjax.trainer import Trainer

_log = logging.getLogger(__name__)

CHECKPOINTS = run_file.CHECKPOINTS
_MOVED = "BACKBONE_PATH (or --backbone)"
VOCABULARY = "vocabulary"  # a folder of a run: a copy of its tokenizer


@dataclasses.dataclass(frozen=True)
class Initial:
  """Given parameters, and the record of the run that they are of."""

  params: dict[str, Any]  # partial: the rest is drawn
  frozen: dict[str, Any]  # whole, or empty where the problem freezes nothing
  backbone: BackboneRef | None
  step: int | None = None  # of the run that was loaded
  record: RunRecord | None = None  # of that run
  # Where adapters that are trained themselves come from; None: they are drawn.
  values: InitialValues | None = None


def load(
  path: str | None,
  trainer: Trainer,
  backbone: str | None = None,
  setting: str = "INITIAL_CHECKPOINT_PATH",
) -> Initial:
  """The weights that `path` gives a trainer's problem.

  Args:
    path: see above; None draws everything at random.
    trainer: whose problem and shapes.
    backbone: where the backbone of a hypermodel's run lies now, if it moved.
    setting: which `path` is, for messages.

  Raises:
    ValueError: nothing usable is there, or it is of another model.
  """
  if path is None:
    if has_frozen_backbone(trainer):
      _log.warning("%s is None: the frozen backbone is random", setting)
    return Initial({}, {}, None)
  if formats.is_foreign(path):
    return _from_t5(formats.open_source(path), None, trainer)
  folder = existing(path, setting)
  run = recorded(folder)
  if run is None or run[1].problem.trains_t5_alone:
    return _from_t5(open_t5(folder), run, trainer)
  step, record = run
  takes_hypermodel = isinstance(trainer.problem, problems.HyperTuning)
  if takes_hypermodel and record.problem.writes_adapters:
    return _from_hypermodel(folder, step, record, trainer, backbone)
  wanted = config_json.problem_record(trainer.problem).kind
  raise ValueError(
    f"{folder} is a run of {record.problem.kind}; this one trains a {wanted}, "
    "which takes a T5"
  )


def existing(path: str, setting: str) -> pathlib.Path:
  """The folder at `path`, of this machine or in a bucket.

  Raises:
    ValueError: there is none.
  """
  paths.check(path, setting)
  folder = paths.at(path).absolute()
  if not files.is_folder(folder):
    raise ValueError(f"{setting} {path}: there is no such folder")
  return folder


def _from_t5(
  source: weights.T5Source,
  run: tuple[int, RunRecord] | None,
  trainer: Trainer,
) -> Initial:
  problem, config = trainer.problem, trainer.problem.backbone
  step, record = run or (None, None)
  if isinstance(problem, problems.HyperTuning):
    # The hypermodel begins as a copy: not of weights rounded for the backbone.
    dtype = problem.hypermodel.t5.param_dtype
    config = dataclasses.replace(config, param_dtype=dtype)
  wanted = trainer.abstract.params.get("hypermodel", {})
  loaded = weights.load(source, config, trees.flatten(wanted))
  named = BackboneRef(loaded.identity, source.path, step)
  params, both = {}, {"backbone": loaded.params}
  if isinstance(problem, problems.HyperTuning):
    flat = trees.flatten(loaded.params) | dict(loaded.whole)
    given = trees.unflatten(flat)
    copied = beginning.copied(problem.hypermodel, given, wanted)
    params = {"hypermodel": copied}
  if has_frozen_backbone(trainer):
    return Initial(params, both, named, step, record)
  return Initial(params | both, {}, named, step, record)


def has_frozen_backbone(trainer: Trainer) -> bool:
  """Whether a trainer's T5 is frozen: a teacher may be beside one that is not."""
  return "backbone" in trainer.abstract.frozen


def frozen_again(
  named: BackboneRef | None, trainer: Trainer, backbone: str | None
) -> Any:
  """The frozen weights that a run with the T5 `named` has.

  Raises:
    ValueError: they are not where they were, or have changed since.
  """
  if not has_frozen_backbone(trainer):
    return {}
  if named is None:
    return None  # random ones: drawn again from the seed
  return {"backbone": named_backbone(named, trainer.problem.backbone, backbone)}


def named_backbone(
  named: BackboneRef,
  config: t5_layers.T5Config,
  moved: str | None,
  what: str = "backbone",
  setting: str = _MOVED,
) -> dict[str, Any]:
  """The parameters of the T5 that a record names.

  Args:
    named: which.
    config: what it is loaded as.
    moved: where it lies now, if it has moved.
    what: it is of the run.
    setting: which says where it has moved, for messages.

  Raises:
    ValueError: it is not there, or has changed since.
  """
  source = moved or named.source
  opened = _named_source(named, f"the {what} of this run", moved, setting)
  loaded = weights.load(opened, config)
  if loaded.identity != named.identity:
    raise ValueError(
      f"{source} is not the {what} of this run: its weights hash to "
      f"{loaded.identity[:16]}, the run's to {named.identity[:16]}"
    )
  return loaded.params


def _named_source(
  named: BackboneRef,
  what: str,
  moved: str | None = None,
  setting: str = _MOVED,
) -> weights.T5Source:
  """The T5 that a record names, or the one where it lies now."""
  source = moved or named.source
  if formats.is_foreign(source):
    return formats.open_source(source)
  if files.is_folder(paths.at(source)):
    return open_t5(paths.at(source), None if moved else named.step)
  raise ValueError(
    f"{what} was {source}, which is not there; if it has moved, say where with "
    f"{setting}"
  )


def open_t5(folder: pathlib.Path, step: int | None = None) -> weights.T5Source:
  """The T5 in a folder: another program's, or the one that answers in a run.

  Args:
    folder: of the T5, or of a run that trained it, by itself or jointly with a
      hypermodel, or that kept it frozen.
    step: of a run that trained it; by default its last.

  Raises:
    ValueError: there is none, or that step is no longer kept.
  """
  run = None if formats.formats(folder) else recorded(folder)
  if run is None:
    return formats.open_source(folder)
  last, record = run
  if not record.problem.trains_t5:
    return _named_source(_saved(record, folder), f"the backbone of {folder}")
  config = config_json.problem(record.problem, str(folder)).backbone
  # This process's own: of several, each reads the weights for itself.
  cpu = jax.local_devices(backend="cpu")[0]
  host = jax.sharding.SingleDeviceSharding(cpu)
  abstract = trees.unflatten(
    {
      path: jax.ShapeDtypeStruct(shape, config.param_dtype, sharding=host)
      for path, shape in weights.parameter_shapes(config).items()
    }
  )
  saver = checkpoints.Checkpoints(folder / CHECKPOINTS, read_only=True)
  try:
    wanted = last if step is None else step
    if wanted not in saver.steps():
      raise ValueError(
        f"{folder} keeps the steps {saver.steps()}; step {wanted}, whose T5 is "
        "asked for, is gone"
      )
    params = saver.restore_part(wanted, {"backbone": abstract})
  finally:
    saver.close()
  return weights.from_params(str(folder), config, params["backbone"])


def _from_hypermodel(
  folder: pathlib.Path,
  step: int,
  record: RunRecord,
  trainer: Trainer,
  backbone: str | None,
) -> Initial:
  problem = trainer.problem
  assert isinstance(problem, problems.HyperTuning)
  if not problem.train_backbone or record.problem.trains_jointly:
    resuming.check_problem(record.problem, problem, str(folder))
    params = restored(folder, step, trainer.abstract.params)
    frozen = frozen_of(folder, record.backbone, trainer, backbone)
    named = named_now(record.backbone, backbone)
    return Initial(params, frozen, named, step, record)
  # Joint training begins with the backbone that was frozen so far.
  alone = dataclasses.replace(problem, train_backbone=False)
  resuming.check_problem(record.problem, alone, str(folder))
  only = {"hypermodel": trainer.abstract.params["hypermodel"]}
  params = restored(folder, step, only)
  named = _saved(record, folder)
  found = named_backbone(named, problem.backbone, backbone)
  named = named_now(named, backbone)
  return Initial(params | {"backbone": found}, {}, named, step, record)


def _saved(record: RunRecord, folder: pathlib.Path) -> BackboneRef:
  """The T5 of a run, which must be one that can be had again."""
  if record.backbone is None:
    raise ValueError(f"the backbone of {folder} was random and is not saved")
  return record.backbone


def named_now(
  named: BackboneRef | None, backbone: str | None
) -> BackboneRef | None:
  """A run's T5, where it was or where `backbone` says."""
  if named is None or not backbone:
    return named
  if not formats.is_foreign(backbone):
    backbone = str(paths.at(backbone).absolute())
  return dataclasses.replace(named, source=backbone, step=None)


def restored(
  folder: pathlib.Path, step: int, abstract: Any, is_part: bool = False
) -> Any:
  """The parameters of a run, as `Checkpoints.restore_params`.

  Where they are only a part of what it trained, as `Checkpoints.restore_part`.
  """
  saver = checkpoints.Checkpoints(folder / CHECKPOINTS, read_only=True)
  with contextlib.closing(saver):
    restore = saver.restore_part if is_part else saver.restore_params
    params = restore(step, abstract)
  checkpoints.check_finite(params, f"{folder}, step {step},")
  return params


def frozen_of(
  folder: pathlib.Path,
  named: BackboneRef | None,
  trainer: Trainer,
  backbone: str | None,
) -> Any:
  """`frozen_again` for whoever cannot draw random ones again."""
  frozen = frozen_again(named, trainer, backbone)
  if frozen is None:
    raise ValueError(f"the backbone of {folder} was random and is not saved")
  return frozen


def recorded(
  folder: pathlib.Path, step: int | None = None
) -> tuple[int, RunRecord] | None:
  """A step of a run folder, its last whole one, and its record; None of no run.

  Raises:
    ValueError: `step` is given and not kept, no checkpoint is whole, or the
      record is damaged.
  """
  if not (folder / CHECKPOINTS).is_dir():
    return None
  saver = checkpoints.Checkpoints(folder / CHECKPOINTS, read_only=True)
  try:
    if saver.latest() is None:
      return None
    if step is not None and step not in saver.steps():
      raise ValueError(f"{folder} keeps the steps {saver.steps()}, not {step}")
    step = saver.last_whole() if step is None else step
    return None if step is None else (step, record_at(folder, saver, step))
  finally:
    saver.close()


def record_at(
  folder: pathlib.Path, saver: checkpoints.Checkpoints, step: int
) -> RunRecord:
  """The record of a run that has a checkpoint of `step`.

  Raises:
    ValueError: it has none, or a damaged one, or is another program's.
  """
  record = run_file.read(folder, step)
  if record is None:
    saver.facts(step)  # says so where it is another program's
    raise ValueError(f"{folder} has checkpoints but no {run_file.FILE}")
  return record
