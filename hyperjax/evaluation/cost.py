"""What answering with a trained model costs: parameters and arithmetic."""

from collections.abc import Mapping
from typing import Any

from hyperjax import adapters, trees
from hyperjax.batch import Lengths
from hyperjax.models import flops
from hyperjax.trainer import Trainer


def describe(
  trainer: Trainer, feature_lengths: Mapping[str, int]
) -> dict[str, Any]:
  """Parameters, numbers in one task's adapter, matrix-product flops per target.

  Flops are for features of full length, whatever the targets really have.
  """
  problem, abstract = trainer.problem, trainer.abstract
  lengths = Lengths.from_features(feature_lengths)
  sizes = flops.Sizes(
    contexts=1,
    rows=1,
    demonstrations=lengths.demonstrations,
    inputs=lengths.inputs,
    targets=lengths.targets,
    num_separate=lengths.num_demonstrations or 1,
  )
  found: dict[str, Any] = {
    "trained_parameters": trees.count(abstract.params),
    "frozen_parameters": trees.count(abstract.frozen),
    "flops_per_target": flops.per_query(problem, sizes),
  }
  spec: adapters.Spec | None = getattr(problem, "adapters", None)
  if spec is not None:
    found["adapter_parameters"] = trees.count(spec.abstract(problem.backbone))
  return {"cost": found}
