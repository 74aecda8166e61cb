"""Initial weights that an assignment map takes from a run."""

from typing import Any

import jax.numpy as jnp

from hyperjax import checkpoints, trees
from hyperjax.artifacts import assignment, restore
from hyperjax.artifacts.run_record import (
  BackboneRef,
  InitialValues,
  RunRecord,
  RunStep,
)
from hyperjax.interop import weights
from hyperjax.trainer import Trainer


def load(
  path: str,
  trainer: Trainer,
  backbone: str | None,
  rules: assignment.AssignmentMap,
  setting: str = "INITIAL_CHECKPOINT_PATH",
) -> restore.Initial:
  """Parameters of the run at `path`, each under the name that rules give it.

  A frozen T5 is the one that the run trained, or had frozen.

  Args:
    path: of a run folder, of whatever problem.
    trainer: whose parameters.
    backbone: where the T5 of that run lies now, if it has moved.
    rules: see `assignment`.
    setting: which `path` is, for messages.

  Raises:
    ValueError: it is no run; parameters are missing there, or of another shape;
      a rule matches nothing.
  """
  folder = restore.existing(path, setting)
  run = restore.recorded(folder)
  if run is None:
    raise ValueError(
      f"Train.assignment_map takes parameters from a run folder; {path} is none"
    )
  step, record = run
  wanted = trees.flatten(trainer.abstract.params)
  sources = {
    target: source
    for target, source in assignment.assigned(rules, wanted).items()
    if source is not None
  }
  saver = checkpoints.Checkpoints(folder / restore.CHECKPOINTS, read_only=True)
  where = f"{folder}, step {step},"
  try:
    _check(sources, wanted, saver.shapes(step), where)
    abstract = {source: wanted[target] for target, source in sources.items()}
    found = saver.restore_some(step, trees.unflatten(abstract))
  finally:
    saver.close()
  checkpoints.check_finite(found, where)
  arrays = trees.flatten(found)
  # Each its own copy: a step gives the buffers of its state away, once each.
  params = {
    target: jnp.array(arrays[source], copy=True)
    for target, source in sources.items()
  }
  frozen, named = _frozen(str(folder), step, record, trainer, backbone)
  values = None
  if record.problem.trains_adapters:
    values = InitialValues(shared_adapter=RunStep(str(folder), step))
  return restore.Initial(
    trees.unflatten(params), frozen, named, step, record, values
  )


def _check(
  sources: dict[str, str],
  wanted: dict[str, Any],
  found: dict[str, tuple[int, ...]],
  where: str,
) -> None:
  wrong = [
    f"missing: {source} (for {target})"
    for target, source in sources.items()
    if source not in found
  ]
  wrong += [
    f"wrong shape: {source} is {found[source]}, {target} is "
    f"{tuple(wanted[target].shape)}"
    for target, source in sources.items()
    if source in found and found[source] != tuple(wanted[target].shape)
  ]
  if wrong:
    raise ValueError(
      f"{where} does not have what Train.assignment_map takes from it:"
      f"{trees.listing(sorted(wrong))}"
    )
  if not sources:
    raise ValueError(
      "Train.assignment_map takes nothing from INITIAL_CHECKPOINT_PATH: every "
      "parameter is None"
    )


def _frozen(
  folder: str,
  step: int,
  record: RunRecord,
  trainer: Trainer,
  backbone: str | None,
) -> tuple[dict[str, Any], BackboneRef | None]:
  """The T5 that is frozen in the new run, if one is, and its name."""
  path = restore.existing(folder, "INITIAL_CHECKPOINT_PATH")
  has_frozen = restore.has_frozen_backbone(trainer)
  if not has_frozen or not record.problem.trains_t5:
    frozen = restore.frozen_of(path, record.backbone, trainer, backbone)
    return frozen, restore.named_now(record.backbone, backbone)
  source = restore.open_t5(path, step)
  loaded = weights.load(source, trainer.problem.backbone)
  return {"backbone": loaded.params}, BackboneRef(loaded.identity, folder, step)
