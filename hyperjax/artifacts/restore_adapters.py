"""What adapters that are trained themselves begin with.

INITIAL_CHECKPOINT_PATH may name, besides what `initial` says,

- a T5, or a run that trained one: it is the backbone, adapters begin at random;
- a run that trained a shared adapter, or an adapter folder: each task begins
  with its own copy;
- a run that trained a hypermodel: it writes each task's from examples of it. If
  it was trained jointly with its T5, that T5, as trained, is the backbone.

A run's checkpoints say which of these it was: `initial_values` of their origin.
"""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from hyperjax import adapters, optimizers, sharding
from hyperjax.artifacts import adapter_folder, config_json, restore, run_record
from hyperjax.interop import formats, weights
from hyperjax.models import problems
from hyperjax.models.hypermodel import HyperT5Config
from hyperjax.models.t5_layers import T5Config
from hyperjax.trainer import Trainer

# Of each task, [C, S]: what a hypermodel is shown. Read only where one writes.
Demonstrations = Callable[[], np.ndarray]


def load(
  path: str | None,
  trainer: Trainer,
  backbone: str | None = None,
  setting: str = "INITIAL_CHECKPOINT_PATH",
  demonstrations: Demonstrations | None = None,
) -> restore.Initial:
  """The weights that `path` gives any problem, `AdapterFineTuning` among them.

  Raises:
    ValueError: as for `initial.load`.
  """
  has_own = isinstance(trainer.problem, problems.AdapterFineTuning)
  is_remote = isinstance(path, str) and formats.is_remote(path)
  if not has_own or path is None or is_remote:
    return restore.load(path, trainer, backbone, setting)
  folder = restore.existing(path, setting)
  if (folder / adapter_folder.INFO).is_file():
    return _from_folder(folder, trainer, backbone)
  run = restore.run_origin(folder)
  if run is not None and run[1]["problem"] == "AdapterFineTuning":
    return _from_shared(folder, *run, trainer, backbone)
  if run is not None and run[1]["problem"] == "HyperTuning":
    return _written(folder, *run, trainer, backbone, demonstrations)
  return restore.load(path, trainer, backbone, setting)


def _from_shared(
  folder: pathlib.Path,
  step: int,
  facts: dict[str, Any],
  trainer: Trainer,
  backbone: str | None,
) -> restore.Initial:
  """The adapter that a run has trained, for each task its own copy."""
  problem: Any = trainer.problem
  several = facts["configuration"]["num_tasks"]
  if several > 1:
    raise ValueError(
      f"{folder} holds the adapters of {several} tasks; `hyperjax adapter save "
      f"{folder} --task NAME --out FOLDER` makes one of them a beginning"
    )
  alone = dataclasses.replace(problem, num_tasks=1)
  run_record.check_same(facts, alone, str(folder))
  single = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (x.shape[0], 1, *x.shape[2:]), x.dtype, sharding=trainer.layout.replicated
    ),
    trainer.abstract.params,
  )
  params = _copied(restore.restored(folder, step, single), problem.num_tasks)
  frozen = restore.frozen_of(folder, facts, trainer, backbone)
  given = restore.of_run(params, frozen, facts, backbone, step)
  values = {"shared_adapter": {"run": str(folder), "step": step}}
  return dataclasses.replace(given, values=values)


def _from_folder(
  folder: pathlib.Path, trainer: Trainer, backbone: str | None
) -> restore.Initial:
  """The adapter of an adapter folder, for each task its own copy."""
  problem: Any = trainer.problem
  adapter = adapter_folder.read(folder)
  facts = {
    "problem": "AdapterFineTuning",
    "configuration": config_json.describe(
      dataclasses.replace(
        problem, backbone=adapter.info.config, adapters=adapter.info.spec
      )
    ),
    "backbone": dict(adapter.info.backbone),
  }
  run_record.check_same(facts, problem, str(folder))
  params = {"adapters": adapters.as_params(adapter.arrays)}
  frozen = restore.frozen_of(folder, facts, trainer, backbone)
  copied = _copied(params, problem.num_tasks)
  given = restore.of_run(copied, frozen, facts, backbone, None)
  values = {
    "adapter": {
      "folder": str(folder),
      "arrays_sha256": adapter.identity,
      "origin": dict(adapter.info.origin),
    }
  }
  return dataclasses.replace(given, values=values)


def _written(
  folder: pathlib.Path,
  step: int,
  facts: dict[str, Any],
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
  saved = facts["configuration"]
  own = config_json.restore(T5Config, saved["hypermodel"]["t5"], str(folder))
  hyper = HyperT5Config(**(saved["hypermodel"] | {"t5": own}))
  is_joint = saved["train_backbone"]
  writer = problems.HyperTuning(
    problem.backbone, hyper, problem.adapters, is_joint
  )
  run_record.check_same(facts, writer, str(folder))
  frozen, named = _answering(folder, step, facts, trainer, backbone)
  still = optimizers.AdamW(optimizers.Constant(0.0))
  shapes = Trainer(writer, still, trainer.layout).abstract.params
  only = {"hypermodel": shapes["hypermodel"]}
  params = restore.restored(folder, step, only, is_part=True)
  written = _written_by(writer, params, demonstrations(), trainer.layout)
  return restore.Initial(
    {"adapters": adapters.as_params(written)},
    frozen,
    named,
    step,
    facts,
    values={"hypermodel": {"run": str(folder), "step": step}},
  )


def _answering(
  folder: pathlib.Path,
  step: int,
  facts: dict[str, Any],
  trainer: Trainer,
  backbone: str | None,
) -> tuple[Any, dict[str, Any]]:
  """The T5 that a hypermodel's run writes for, as frozen weights, and its name."""
  if not run_record.trains_t5(facts):
    frozen = restore.frozen_of(folder, facts, trainer, backbone)
    return frozen, restore.named_now(facts["backbone"], backbone)
  if backbone:
    raise ValueError(
      f"BACKBONE_PATH is {backbone}: the T5 of {folder} was trained with its "
      "hypermodel, and is in that run"
    )
  source = restore.open_t5(folder, step)
  loaded = weights.load(source, trainer.problem.backbone)
  named = {"source": str(folder), "identity": loaded.identity, "step": step}
  return {"backbone": loaded.params}, named


def _written_by(
  writer: problems.HyperTuning,
  params: Any,
  shown_CS: np.ndarray,
  layout: sharding.Layout,
) -> Any:
  """Adapters of all contexts, on the host."""
  write = jax.jit(writer.write, out_shardings=layout.replicated)
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
