"""What a run's checkpoints say of what it trains: their origin, a JSON object.

It gives the arrays their meaning, and the run's folder is used by it alone: later
stages, evaluation, `adapt` and `predict` need no gin files.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from hyperjax import trees
from hyperjax.artifacts import config_json
from hyperjax.data import feed, instructions, pairs
from hyperjax.models import problems

# Of what these problems train the T5 is all there is.
RUNS_OF_A_T5 = ("LanguageModel", "FullFineTuning")
# What may change from one part of a run to the next, or from stage to stage:
# how arrays are computed and stored, and what only training knows.
_FREE = (
  "dtype",
  "param_dtype",
  "remat",
  "scan_unroll",
  "dropout_rate",
  "z_loss",
  "label_smoothing",
  "key_stddev",
  "value_stddev",
)


def describe(
  problem: Any,
  backbone: Mapping[str, Any],
  data: Mapping[str, Any],
  values: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """What a run writes into its checkpoints about what it trains.

  Args:
    problem: that.
    backbone: source, identity and step of the T5 that was given, or {}.
    data: what gives a position in the data its meaning.
    values: where adapters that are trained themselves come from; None if drawn.
  """
  found = {
    "problem": type(problem).__name__,
    "configuration": config_json.describe(problem),
    # The configuration alone does not say which kind of adapters it is of.
    "adapters": type(getattr(problem, "adapters", None)).__name__,
    "backbone": dict(backbone),
    "data": dict(data),
  }
  if isinstance(problem, problems.AdapterFineTuning):
    drawn = {"random_seed": data.get("RANDOM_SEED")}
    found["initial_values"] = values or drawn
  return found


def reads(source: feed.Source) -> dict[str, Any]:
  """What text must become for a model trained on `source`; kept in its origin.

  Its tokenizer, None where its tasks have none or several; how many tokens of
  each feature it was given at most; which models read a task's instruction.
  Of tasks side by side also the ids of those that the T5 reads: an adapter of one
  of them means nothing without.
  """
  found = {
    json.dumps(task.vocabulary.description): task.vocabulary
    for task in source.tasks
    if task.vocabulary is not None
  }
  own = list(found.values())
  readers = list(
    getattr(getattr(source, "few_shot", source), "instruction_readers", ())
  )
  content = {
    "vocabulary": own[0].description if len(own) == 1 else None,
    "lengths": dataclasses.asdict(source.lengths),
    "instruction_readers": readers,
  }
  if isinstance(source, pairs.SideBySide) and instructions.BACKBONE in readers:
    content["instructions"] = {
      task.name: task.instruction.tolist()
      for task in source.tasks
      if task.instruction is not None
    }
  return content


def check_same(
  facts: Mapping[str, Any],
  problem: Any,
  where: str,
  data: Mapping[str, Any] | None = None,
) -> None:
  """Refuses a checkpoint whose arrays would fit but mean something else.

  Raises:
    ValueError: settings differ; all are listed.
  """
  before = {"problem": facts["problem"], **_flat(facts["configuration"])}
  now = {
    "problem": type(problem).__name__,
    **_flat(config_json.describe(problem)),
  }
  if data is not None:
    before |= _flat(facts["data"])
    now |= _flat(data)
  wrong = [
    f"{name} was {before.get(name)!r}, is now {now.get(name)!r}"
    for name in sorted(before.keys() | now.keys())
    if before.get(name) != now.get(name)
    and name.rpartition(".")[2] not in _FREE
  ]
  if wrong:
    raise ValueError(
      f"{where} was made with other settings:{trees.listing(wrong)}"
    )


def _flat(described: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  flat = {}
  for name, value in described.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f"{prefix}{name}.")
    else:
      flat[prefix + name] = value
  return flat


def trains_t5(facts: Mapping[str, Any]) -> bool:
  """Whether the T5 that answers is among what a run trains, by its origin."""
  is_joint = facts["configuration"].get("train_backbone", False)
  return facts["problem"] in RUNS_OF_A_T5 or is_joint
