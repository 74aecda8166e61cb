"""The classes that files name: settings as data, and made of it again.

This is the one place where the name of a class becomes the class.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from hyperjax import adapters
from hyperjax.artifacts import typed_json
from hyperjax.artifacts.run_record import ProblemRecord
from hyperjax.artifacts.typed_json import Tagged
from hyperjax.models import (
  hypermodel,
  problems,
  quantizing,
  t5_layers,
  teaching,
)

_SPECS = {kind.__name__: kind for kind in adapters.SPECS}
_PROBLEMS = {kind.__name__: kind for kind in problems.PROBLEMS}
_CONFIGS = {
  kind.__name__: kind
  for kind in (
    t5_layers.T5Config,
    hypermodel.HyperT5Config,
    teaching.Teacher,
  )
}


def tagged(value: Any) -> Tagged:
  """A dataclass as data, those in its fields too; of others the class alone."""
  is_known = dataclasses.is_dataclass(value)
  return Tagged(type(value).__name__, _fields(value) if is_known else {})


def problem_record(problem: problems.Problem) -> ProblemRecord:
  """A problem as data."""
  return ProblemRecord(type(problem).__name__, _fields(problem))


def check_trains(problem: problems.Problem) -> None:
  """Refuses to train a T5 in eight bits.

  Raises:
    ValueError: as it says.
  """
  backbone = getattr(problem, "backbone", None)
  # Commands that only show or store data have a problem without a T5.
  if backbone is None or backbone.quantization == quantizing.NONE:
    return
  record = problem_record(problem)
  if record.trains_t5:
    raise ValueError(
      f"T5Config.quantization is {backbone.quantization!r}, but {record.kind} "
      "trains that T5, which takes 'none': BACKBONE_QUANTIZATION is of a frozen "
      "one"
    )


def plain(value: Any) -> Any:
  """A setting as data; what is neither plain nor a dataclass is only named.

  Its name has no address in memory: it would be another in each process.
  """
  if dataclasses.is_dataclass(value):
    return tagged(value)
  if isinstance(value, Mapping):
    return {str(name): plain(own) for name, own in value.items()}
  if isinstance(value, list | tuple):
    return tuple(map(plain, value))
  if value is None or isinstance(value, str | bool | int | float):
    return value
  return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def knows(record: ProblemRecord) -> bool:
  """Whether its class is known; others may be trained too."""
  return record.kind in _PROBLEMS


def problem(
  record: ProblemRecord, where: str, is_trained: bool = False
) -> problems.Problem:
  """The problem that a record is of.

  Without what only training needs and has weights of its own, unless `is_trained`.

  Raises:
    ValueError: there is no such problem, or its fields do not describe one.
  """
  found = _built(record, _PROBLEMS, where, "problem")
  return found if is_trained else answering(found)


def answering(problem: problems.Problem) -> problems.Problem:
  """A problem without what only training needs and has weights of its own."""
  if not isinstance(problem, problems.HyperTuning):
    return problem
  has_own = problem.teacher is not None and problem.teacher.t5 is not None
  return dataclasses.replace(problem, teacher=None) if has_own else problem


def spec(given: Mapping[str, Any], where: str, path: str) -> adapters.Spec:
  """The adapters that a JSON object of kind and fields is of.

  Raises:
    ValueError: there is no such kind, or its fields do not describe one.
  """
  found = typed_json.read(Tagged, given, where, path)
  return _built(found, _SPECS, where, path)


def _fields(value: Any) -> dict[str, Any]:
  return {
    field.name: plain(getattr(value, field.name))
    for field in dataclasses.fields(value)
  }


def _built(
  given: Tagged, kinds: Mapping[str, Any], where: str, path: str
) -> Any:
  if given.kind not in kinds:
    raise ValueError(
      f"{where}: {path}.kind must be one of {', '.join(kinds)}, got "
      f"{given.kind!r}"
    )
  fields = {
    name: _inner(own, where, f"{path}.{name}")
    for name, own in given.fields.items()
  }
  return typed_json.read(kinds[given.kind], fields, where, path)


def _inner(value: Any, where: str, path: str) -> Any:
  """A field, with the dataclasses that it names, or lists, made."""
  if isinstance(value, Tagged):
    return _built(value, _CONFIGS | _SPECS, where, path)
  if isinstance(value, tuple):
    return tuple(
      _inner(own, where, f"{path}[{i}]") for i, own in enumerate(value)
    )
  return value
