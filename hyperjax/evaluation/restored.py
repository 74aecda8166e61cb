"""What an evaluation answers with: what a run trained, as its record says."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from hyperjax import optimizers, sharding, trees
from hyperjax.adapters import Spec
from hyperjax.artifacts import (
  config_json,
  restore,
  restore_adapters,
  resuming,
)
from hyperjax.artifacts.run_record import Reads
from hyperjax.evaluation import few_shot
from hyperjax.models import quantizing
from hyperjax.models.problems import Problem
from hyperjax.trainer import Trainer

_SETTING = "CHECKPOINT_PATH"


@dataclasses.dataclass(frozen=True)
class Restored:
  """What answers, and what it is asked."""

  trainer: Trainer
  params: Any
  frozen: Any
  given: restore.Initial
  evaluations: Sequence[few_shot.FewShotEvaluation]


def load(
  checkpoint: str,
  problem: Problem | None,
  evaluations: Sequence[few_shot.FewShotEvaluation],
  layout: sharding.Layout,
  backbone: str | None = None,
  adapters: Spec | None = None,
  quantization: str | None = None,
) -> Restored:
  """What a run trained, on the mesh.

  Args:
    checkpoint: its folder, or that of a T5.
    problem: what it trained, or what is asked of its T5; None for what its record
      says.
    evaluations: what they leave to the run is filled in.
    layout: of the mesh.
    backbone: where the backbone lies now, if it has moved.
    adapters: of which kind those of the run must be; None: of any.
    quantization: of the T5 that answers; None: as in training.

  Raises:
    ValueError: there is no such run, or it trained something else, or neither its
      record nor what is given says what is needed.
  """
  found = restore.recorded(restore.existing(checkpoint, _SETTING))
  record = None if found is None else found[1]
  reads = record and record.reads
  if problem is None:
    if record is None:
      raise ValueError(
        f"{_SETTING} {checkpoint} is no run, so nothing says what it is: give "
        "Evaluate.problem (PROBLEM), as stages/in_context.gin does"
      )
    problem = config_json.problem(record.problem, checkpoint)
    own = getattr(problem, "adapters", None)
    if adapters is not None and type(own) is not type(adapters):
      raise ValueError(
        f"{_SETTING} {checkpoint} is a run of {own}, ADAPTERS is {adapters}: "
        "leave adapters/*.gin out, the run says which it has"
      )
  elif record is not None:
    if config_json.problem_record(problem).is_like(record.problem):
      resuming.check_problem(record.problem, problem, checkpoint)
    else:
      reads = None  # it is asked otherwise than it was trained
  problem = config_json.answering(problem)
  problem = quantizing.of_backbone(problem, quantization)
  config_json.check_trains(problem)
  # No optimizer state is made: its description only completes the trainer.
  still = optimizers.AdamW(optimizers.Constant(0.0))
  trainer = Trainer(problem, still, layout)
  given = restore_adapters.load(checkpoint, trainer, backbone, _SETTING)
  return Restored(
    trainer,
    trees.place_params(given.params, trainer.abstract.params),
    trees.place_params(given.frozen, trainer.abstract.frozen),
    given,
    [filled(evaluation, reads) for evaluation in evaluations],
  )


def filled(evaluation: Any, reads: Reads | None) -> Any:
  """An evaluation that reads text as a run does, where it does not say how."""
  if isinstance(evaluation, few_shot.FewShotEvaluation):
    return evaluation.filled(reads)
  return evaluation
