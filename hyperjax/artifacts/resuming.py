"""A run's settings against those that it was made with: what may change, or not.

What would give arrays another meaning, or a position in the data, is refused;
all else is only said.
"""

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax.artifacts import config_json, typed_json
from hyperjax.artifacts.run_record import ProblemRecord, RunRecord
from hyperjax.models import hypermodel, problems

_ARRAYS = "its arrays would mean something else"
_ORDER = "its contexts would be others, or in another order"
_IDS = "its ids would stand for other text"
_STATE = "the optimizer's state would not fit"
_LABELS = "other labels would have room, so its episodes would be others"

# Which settings may change from one part of a run to the next: the first pattern
# that fits decides. None: the setting may change. From one stage to the next the
# rules of `problem` hold, and nothing else is compared.
_RULES: Sequence[tuple[str, str | None]] = (
  # How arrays are computed and stored.
  ("problem*.dtype", None),
  ("problem*.param_dtype", None),
  ("problem*.remat", None),
  ("problem*.scan_unroll", None),
  ("problem*.attention", None),
  ("problem*.matmul_precision", None),
  ("problem*.quantization", None),
  # What only training knows.
  ("problem*.dropout_rate", None),
  ("problem*.z_loss", None),
  ("problem*.label_smoothing", None),
  ("problem.teacher*", None),
  ("problem.do_no_harm", None),
  ("problem*.key_stddev", None),
  ("problem*.value_stddev", None),
  ("problem.*", _ARRAYS),
  # Contexts are a function of the seed and their number, so it does not matter
  # how many there are in a batch. Rows that are cut elsewhere stay where they are;
  # windows of text would not, but then `data.window` differs.
  ("reads.lengths.inputs", None),
  ("reads.lengths.targets", None),
  ("reads.tokenizer.path", None),
  ("reads.tokenizer*", _IDS),
  ("reads.*", _ORDER),
  ("data*", _ORDER),
  # Of another optimizer. Where a setting changes the state of the same one,
  # restoring it is strict.
  ("training.optimizer.kind", _STATE),
  # Steps, batch size, microbatches, learning rate, mesh, versions, folder.
  ("*", None),
)
# What a run keeps from its beginning.
_KEPT = (
  "backbone",
  "hypermodel_checkpoint",
  "teacher",
  "initial_checkpoint",
  "assignment_map",
  "initial_values",
  "merged",
)
# Of these no more than that another beginning is asked for is told.
_SEEN = ("initial_checkpoint", "assignment_map")
_UNSEEN = tuple(name for name in _KEPT if name not in _SEEN)
# All that an earlier version says for certain, besides what it says of text.
_EARLIER = ("problem.*", "data.seed", "data.rows_per_context")


@dataclasses.dataclass(frozen=True)
class Change:
  """A setting that differs.

  Attributes:
    name: by its path in the record.
    was: its value in the run that there is.
    now: its value in what is asked for.
    has_labels: whether the run replaces labels, which must fit in targets.
  """

  name: str
  was: Any
  now: Any
  has_labels: bool = False

  @property
  def refusal(self) -> str | None:
    """Why it must not; None where it may."""
    if self.has_labels and self.name == "reads.lengths.targets":
      return _LABELS
    return next(
      why for rule, why in _RULES if fnmatch.fnmatchcase(self.name, rule)
    )


def resumed(before: RunRecord, now: RunRecord) -> RunRecord:
  """The record of a run that goes on with other settings."""
  kept = {name: getattr(before, name) for name in _KEPT}
  return dataclasses.replace(now, **kept)


def changes(before: RunRecord, now: RunRecord, where: str) -> list[Change]:
  """What differs from the settings that a run was made with.

  Args:
    before: the record of the run.
    now: of what is asked for.
    where: the run is, for messages.

  Raises:
    ValueError: some of it must not; all of it is listed.
  """
  if before.merged is not None:
    raise ValueError(
      f"{where} is a T5 that `hyperjax export` wrote, in which no training goes "
      "on: begin another run with it (INITIAL_CHECKPOINT_PATH)"
    )
  was, own = (_flat(typed_json.dump(x)) for x in (before, now))
  was, own = _used(was | _problem(before.problem, where)), _used(own)
  names = {
    name
    for name in was.keys() | own.keys()
    if name.partition(".")[0] not in _UNSEEN and was.get(name) != own.get(name)
  }
  if before.is_of_earlier_version:
    rules = [*_EARLIER, *(["data.tasks"] if before.task_names else [])]
    of_text = {x for x in was if x.startswith("reads.")}
    names = {
      x
      for x in names
      if x in of_text or any(fnmatch.fnmatchcase(x, rule) for rule in rules)
    }
    was["data.tasks"] = [{"name": x} for x in before.task_names or ()]
    own["data.tasks"] = [{"name": x} for x in now.task_names or ()]
  has_labels = bool(own.get("data.settings.relabel"))
  found = [
    Change(name, was.get(name), own.get(name), has_labels)
    for name in sorted(names)
    if was.get(name) != own.get(name)
  ]
  _check(found, where)
  return found


def check_problem(
  record: ProblemRecord, problem: problems.Problem, where: str
) -> None:
  """Refuses a run whose arrays would fit a problem but mean something else.

  Raises:
    ValueError: settings differ; all are listed.
  """
  was = _problem(record, where)
  own = _problem(config_json.problem_record(problem), where)
  found = [
    Change(name, was.get(name), own.get(name))
    for name in sorted(was.keys() | own.keys())
    if was.get(name) != own.get(name)
  ]
  _check([change for change in found if change.refusal], where)


def table(found: Sequence[Change]) -> str:
  """A line for each change: its name, what it was and is, why it is refused."""
  rows = [("setting", "was", "is now", "")]
  rows += [
    (
      change.name,
      _shown(change.was, change.now),
      _shown(change.now, change.was),
      change.refusal or "",
    )
    for change in found
  ]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return "\n".join(
    "  "
    + "  ".join(
      cell.ljust(width) for cell, width in zip(row, widths, strict=True)
    ).rstrip()
    for row in rows
  )


def _check(found: Sequence[Change], where: str) -> None:
  if any(change.refusal for change in found):
    raise ValueError(f"{where} was made with other settings:\n{table(found)}")


def _problem(record: ProblemRecord, where: str) -> dict[str, Any]:
  """The settings of a problem, those that an earlier version lacks as defaults."""
  if config_json.knows(record):
    record = config_json.problem_record(
      config_json.problem(record, where, is_trained=True)
    )
  return _used(_flat({"problem": typed_json.dump(record)}))


def _used(flat: Mapping[str, Any]) -> dict[str, Any]:
  """Without settings that nothing uses beside the others."""
  return {name: x for name, x in flat.items() if not _is_unused(name, flat)}


def _is_unused(name: str, flat: Mapping[str, Any]) -> bool:
  group, _, own = name.rpartition(".")
  if group != "problem.hypermodel" or own not in hypermodel.USED_WITH:
    return False
  other, value = hypermodel.USED_WITH[own]
  return flat.get(f"{group}.{other}") != value


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """Values by dotted path; lists are values."""
  flat = {}
  for name, value in content.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f"{prefix}{name}.")
    else:
      flat[prefix + name] = value
  return flat


def _shown(value: Any, other: Any, most: int = 3) -> str:
  """A value; of two lists of objects what is in one alone."""
  if value is None:
    return "-"
  if not (isinstance(value, list) and value and isinstance(value[0], dict)):
    return str(value)
  own = [x for x in value if x not in (other or ())]
  if not own:
    return f"{len(value)} in another order"
  listed = [" ".join(str(x) for x in item.values()) for item in own[:most]]
  more = [f"and {len(own) - most} more"] if len(own) > most else []
  return ", ".join([*listed, *more])
