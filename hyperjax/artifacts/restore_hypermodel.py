"""A hypermodel that begins as another T5 than its backbone: HYPERMODEL_CHECKPOINT."""

import dataclasses

from hyperjax.artifacts import beginning, restore
from hyperjax.artifacts.run_record import BackboneRef
from hyperjax.interop import formats, weights
from hyperjax.models import problems
from hyperjax.trainer import Trainer

_SETTING = "HYPERMODEL_CHECKPOINT"


def of_another(
  path: str, given: restore.Initial, trainer: Trainer
) -> tuple[restore.Initial, BackboneRef]:
  """Given weights, but for a hypermodel that begins as the T5 at `path`.

  And which T5 that is.

  Raises:
    ValueError: no hypermodel begins here, or none of its own weights; no T5 is
      there, or one of other sizes.
  """
  problem = trainer.problem
  if not isinstance(problem, problems.HyperTuning):
    raise ValueError(
      f"{_SETTING} is {path}; a run without a hypermodel must have None"
    )
  if problem.hypermodel.reads_backbone:
    raise ValueError(
      f"{_SETTING} is {path}; a hypermodel whose HyperT5Config.body is "
      f"{problem.hypermodel.body!r} computes with the backbone's weights: it must "
      "be None"
    )
  if given.record is not None and given.record.problem.writes_adapters:
    raise ValueError(
      f"{_SETTING} is {path}; INITIAL_CHECKPOINT_PATH is a hypermodel's run, as "
      "which this one begins: it must be None"
    )
  source = _opened(path)
  loaded = weights.load(source, problem.hypermodel.t5)
  wanted = trainer.abstract.params["hypermodel"]
  own = beginning.copied(problem.hypermodel, loaded.params, wanted)
  params = given.params | {"hypermodel": own}
  named = BackboneRef(loaded.identity, source.path)
  return dataclasses.replace(given, params=params), named


def _opened(path: str) -> weights.T5Source:
  if formats.is_foreign(path):
    return formats.open_source(path)
  return restore.open_t5(restore.existing(path, _SETTING))
