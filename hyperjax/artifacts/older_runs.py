"""Records of runs that were written before `run.json`.

Their checkpoints have an `origin`, a JSON object that says what was trained, for
which T5, and how text is read. What else is known is in config.gin: where a run
was, what it began with, and on what it was trained.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from hyperjax.artifacts import typed_json
from hyperjax.artifacts.run_record import (
  BackboneRef,
  DataRecord,
  InitialValues,
  Merged,
  ProblemRecord,
  Reads,
  RunRecord,
  TaskShare,
  Training,
)
from hyperjax.artifacts.typed_json import Tagged
from hyperjax.data import files, json_text

CHECKPOINTS = "checkpoints"
_CONFIG, _FACTS = "config.gin", "facts/metadata"  # the latter as orbax names it


def read(folder: pathlib.Path, step: int | None = None) -> RunRecord | None:
  """The record of a run; None where a folder is none.

  Raises:
    ValueError: a checkpoint says something else than such runs' do.
  """
  path = _facts(folder, step)
  if path is None:
    return None
  origin = files.read_json(path).get("origin")
  if origin is None:
    return None
  return converted(origin, _macros(folder / _CONFIG), str(path))


def sources(folder: pathlib.Path) -> list[pathlib.Path]:
  """The files that `read` reads."""
  found = [folder / _CONFIG, _facts(folder, None)]
  return [path for path in found if path is not None and path.is_file()]


def converted(
  origin: Mapping[str, Any], macros: Mapping[str, str], where: str
) -> RunRecord:
  """The record that an origin and the macros of a config.gin amount to.

  Raises:
    ValueError: the origin lacks something.
  """
  data = _object(origin, "data", where)
  values, reads = origin.get("initial_values"), origin.get("reads")
  return RunRecord(
    problem=_problem(origin, where),
    backbone=_backbone(origin.get("backbone"), where),
    reads=None
    if reads is None
    else _reads(_object(origin, "reads", where), where),
    training=_training(macros),
    initial_checkpoint=_text(macros, "INITIAL_CHECKPOINT_PATH"),
    initial_values=values
    and typed_json.read(InitialValues, values, where, "initial_values"),
    merged=_merged(data, where),
    folder=_text(macros, "MODEL_DIR"),
    data=_data(data, macros, where),
  )


def _problem(origin: Mapping[str, Any], where: str) -> ProblemRecord:
  fields = _object(origin, "configuration", where)
  if "backbone" in fields:
    fields["backbone"] = Tagged("T5Config", _tuples(fields, "backbone", where))
  if "hypermodel" in fields:
    own = _object(fields, "hypermodel", where)
    own["t5"] = Tagged("T5Config", _tuples(own, "t5", where))
    fields["hypermodel"] = Tagged("HyperT5Config", own)
  if "adapters" in fields:
    kind = files.text_field(origin, "adapters", where)
    fields["adapters"] = Tagged(kind, _tuples(fields, "adapters", where))
  return ProblemRecord(files.text_field(origin, "problem", where), fields)


def _object(value: Any, name: str, where: str) -> dict[str, Any]:
  """A field that must be an object, to be changed."""
  found = files.field(value, name, where)
  if not isinstance(found, Mapping):
    raise ValueError(
      f"{where}: {name!r} must be a JSON object, got {json_text.shown(found)}"
    )
  return dict(found)


def _tuples(value: Any, name: str, where: str) -> dict[str, Any]:
  return {
    field: tuple(own) if isinstance(own, list) else own
    for field, own in _object(value, name, where).items()
  }


def _backbone(found: Any, where: str) -> BackboneRef | None:
  if not found:
    return None
  return typed_json.read(BackboneRef, found, where, "backbone")


def _reads(found: Mapping[str, Any], where: str) -> Reads:
  own = {
    "tokenizer": found.get("vocabulary"),
    **{name: x for name, x in found.items() if name != "vocabulary"},
  }
  return typed_json.read(Reads, own, where, "reads")


def _data(
  found: Mapping[str, Any], macros: Mapping[str, str], where: str
) -> DataRecord | None:
  if "RANDOM_SEED" not in found:
    return None
  names = found.get("tasks")
  if names is not None:
    names = files.text_list(found, "tasks", f"{where}: data")
  bound = re.fullmatch(r"@(?:\w+[./])*(\w+)\(\)", macros.get("DATA", ""))
  return DataRecord(
    seed=files.whole_field(found, "RANDOM_SEED", where),
    rows_per_context=files.whole_field(found, "rows_per_context", where),
    kind=bound[1] if bound else None,
    mixture=_text(macros, "MIXTURE_OR_TASK_NAME"),
    is_side_by_side=names is not None,
    tasks=None if names is None else tuple(TaskShare(name) for name in names),
  )


def _merged(found: Mapping[str, Any], where: str) -> Merged | None:
  if "merged" not in found:
    return None
  return typed_json.read(Merged, found["merged"], where, "data.merged")


def _training(macros: Mapping[str, str]) -> Training | None:
  numbers = [macros.get(name, "") for name in ("TRAIN_STEPS", "BATCH_SIZE")]
  if not all(number.isdecimal() for number in numbers):
    return None
  return Training(int(numbers[0]), int(numbers[1]))


def _facts(folder: pathlib.Path, step: int | None) -> pathlib.Path | None:
  """What a whole checkpoint says of itself, by default the last: JSON."""
  found = {
    int(path.parents[1].name): path
    for path in (folder / CHECKPOINTS).glob(f"*/{_FACTS}")
    if path.parents[1].name.isdecimal()
  }
  if step is not None:
    return found.get(step)
  return found[max(found)] if found else None


def _macros(path: pathlib.Path) -> dict[str, str]:
  """NAME = value of a config.gin, as text."""
  if not path.is_file():
    return {}
  # gin puts a long value on a line of its own.
  text = re.sub(r" \\\n +", " ", "\n".join(files.read_lines(path)))
  return dict(re.findall(r"^([A-Z_0-9]+) = (.+)$", text, re.MULTILINE))


def _text(macros: Mapping[str, str], name: str) -> str | None:
  """A macro that is bound to a text."""
  found = re.fullmatch(r"(['\"])(.*)\1", macros.get(name, ""))
  return found[2] if found else None
