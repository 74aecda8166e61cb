"""What adapters that are trained themselves begin with.

INITIAL_CHECKPOINT_PATH may name, besides what `restore` says,

- a T5, or a run that trained one: it is the backbone, adapters begin at random;
- a run that trained a shared adapter, or an adapter folder: each task begins
  with its own copy;
- a run that trained a hypermodel: it writes each task's from examples of it. If
  it was trained jointly with its T5, that T5, as trained, is the backbone.

A run's record says which of these it was: its `initial_values`.
"""

import dataclasses
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from hyperjax import adapters, optimizers, sharding, trees
from hyperjax.artifacts import (
  adapter_folder,
  config_json,
  restore,
  restore_assigned,
  resuming,
)
from hyperjax.artifacts.assignment import AssignmentMap
from hyperjax.artifacts.run_record import (
  BackboneRef,
  FolderRef,
  InitialValues,
  RunRecord,
  RunStep,
)
from hyperjax.interop import formats, weights
from hyperjax.memory.program import Program
from hyperjax.models import problems
from hyperjax.trainer import Trainer

# Of each task, [C, S]: what a hypermodel is shown. Read only where one writes.
Demonstrations = Callable[[int], np.ndarray]  # filled up with this id


def load(
  path: str | None,
  trainer: Trainer,
  backbone: str | None = None,
  setting: str = "INITIAL_CHECKPOINT_PATH",
  demonstrations: Demonstrations | None = None,
  assignment: AssignmentMap | None = None,
) -> restore.Initial:
  """The weights that `path` gives any problem, `AdapterFineTuning` among them.

  With `assignment` they are a run's, under other names: `restore_assigned`.

  Raises:
    ValueError: as for `restore.load`.
  """
  if assignment is not None and path is not None:
    return restore_assigned.load(path, trainer, backbone, assignment, setting)
  has_own = isinstance(trainer.problem, problems.AdapterFineTuning)
  if not has_own or path is None or formats.is_foreign(path):
    return restore.load(path, trainer, backbone, setting)
  folder = restore.existing(path, setting)
  if (folder / adapter_folder.INFO).is_file():
    return _from_folder(folder, trainer, backbone)
  run = restore.recorded(folder)
  if run is not None and run[1].problem.trains_adapters:
    return _from_shared(folder, *run, trainer, backbone)
  if run is not None and run[1].problem.writes_adapters:
    return _written(folder, *run, trainer, backbone, demonstrations)
  return restore.load(path, trainer, backbone, setting)


def _from_shared(
  folder: pathlib.Path,
  step: int,
  record: RunRecord,
  trainer: Trainer,
  backbone: str | None,
) -> restore.Initial:
  """The adapter that a run has trained, for each task its own copy."""
  problem: Any = trainer.problem
  several = record.problem.num_tasks
  if several > 1:
    raise ValueError(
      f"{folder} holds the adapters of {several} tasks; `hyperjax adapter save "
      f"{folder} --task NAME --out FOLDER` makes one of them a beginning"
    )
  alone = dataclasses.replace(problem, num_tasks=1)
  resuming.check_problem(record.problem, alone, str(folder))
  single = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (x.shape[0], 1, *x.shape[2:]), x.dtype, sharding=trainer.layout.replicated
    ),
    trainer.abstract.params,
  )
  params = _copied(restore.restored(folder, step, single), problem.num_tasks)
  frozen = restore.frozen_of(folder, record.backbone, trainer, backbone)
  named = restore.named_now(record.backbone, backbone)
  values = InitialValues(shared_adapter=RunStep(str(folder), step))
  return restore.Initial(params, frozen, named, step, record, values)


def _from_folder(
  folder: pathlib.Path, trainer: Trainer, backbone: str | None
) -> restore.Initial:
  """The adapter of an adapter folder, for each task its own copy."""
  problem: Any = trainer.problem
  adapter = adapter_folder.read(folder)
  info = adapter.info
  own = dataclasses.replace(problem, backbone=info.config, adapters=info.spec)
  resuming.check_problem(config_json.problem_record(own), problem, str(folder))
  params = {"adapters": adapters.as_params(adapter.arrays)}
  return restore.Initial(
    _copied(params, problem.num_tasks),
    restore.frozen_of(folder, info.backbone, trainer, backbone),
    restore.named_now(info.backbone, backbone),
    values=InitialValues(
      adapter=FolderRef(str(folder), adapter.identity, dict(info.origin))
    ),
  )


def _written(
  folder: pathlib.Path,
  step: int,
  record: RunRecord,
  trainer: Trainer,
  backbone: str | None,
  demonstrations: Demonstrations | None,
) -> restore.Initial:
  """What the hypermodel of a run writes from each task's demonstrations."""
  if demonstrations is None:
    raise ValueError(
      f"{folder} is a run of a hypermodel, which writes an adapter from the "
      "demonstrations of one task: data of tasks side by side has them; for "
      "other data give an adapter folder"
    )
  problem: Any = trainer.problem
  saved = config_json.problem(record.problem, str(folder))
  assert isinstance(saved, problems.HyperTuning)  # it writes adapters
  writer = dataclasses.replace(
    saved, backbone=problem.backbone, adapters=problem.adapters
  )
  resuming.check_problem(record.problem, writer, str(folder))
  frozen, named = _answering(folder, step, record, trainer, backbone)
  still = optimizers.AdamW(optimizers.Constant(0.0))
  shapes = Trainer(writer, still, trainer.layout).abstract.params
  only = {"hypermodel": shapes["hypermodel"]}
  params = restore.restored(folder, step, only, is_part=True)
  if writer.hypermodel.reads_backbone:
    frozen = trees.place_params(frozen, trainer.abstract.frozen)
    params = writer.read_by_write(params, frozen)
  shown = demonstrations(problem.backbone.pad_id)
  spec, read = writer.adapters, math.prod(shown.shape[1:])
  if not spec.has_room(read):
    raise ValueError(
      f"TASK_FEATURE_LENGTHS has {read} tokens of demonstrations; {folder} writes a "
      f"{spec.label}: {spec.most_read} at most"
    )
  written = _written_by(writer, params, shown, trainer.layout)
  return restore.Initial(
    {"adapters": adapters.as_params(written)},
    frozen,
    named,
    step,
    record,
    InitialValues(hypermodel=RunStep(str(folder), step)),
  )


def _answering(
  folder: pathlib.Path,
  step: int,
  record: RunRecord,
  trainer: Trainer,
  backbone: str | None,
) -> tuple[Any, BackboneRef | None]:
  """The T5 that a hypermodel's run writes for, as frozen weights, and its name."""
  if not record.problem.trains_t5:
    frozen = restore.frozen_of(folder, record.backbone, trainer, backbone)
    return frozen, restore.named_now(record.backbone, backbone)
  if backbone:
    raise ValueError(
      f"BACKBONE_PATH is {backbone}: the T5 of {folder} was trained with its "
      "hypermodel, and is in that run"
    )
  source = restore.open_t5(folder, step)
  loaded = weights.load(source, trainer.problem.backbone)
  named = BackboneRef(loaded.identity, str(folder), step)
  return {"backbone": loaded.params}, named


def _written_by(
  writer: problems.HyperTuning,
  params: Any,
  shown_CS: np.ndarray,
  layout: sharding.Layout,
) -> Any:
  """Adapters of all contexts, on the host."""
  write = Program(
    writer.write, "writing adapters", out_shardings=layout.replicated
  )
  parts = []
  # As few at a time as the mesh allows: what a task gets does not depend on
  # those beside it, and a large hypermodel fits.
  size = layout.data_parallel
  with layout.activate():
    for first in range(0, len(shown_CS), size):
      some = layout.place(shown_CS[first : first + size])
      parts.append(jax.device_get(write(params, some)))
  return jax.tree.map(lambda *x: np.concatenate(x, axis=1), *parts)


def _copied(params: Any, num_tasks: int) -> Any:
  """An adapter of one context [L, 1, ...] for each task, on the host."""

  def copy(leaf: Any) -> np.ndarray:
    leaf = np.asarray(leaf)
    return np.broadcast_to(leaf, (leaf.shape[0], num_tasks, *leaf.shape[2:]))

  return jax.tree.map(copy, params)
