"""Frozen dataclasses as JSON objects, and back: what files say of settings."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def describe(value: Any) -> dict[str, Any]:
  """The fields of a dataclass as JSON values, nested ones too."""
  return json.loads(json.dumps(dataclasses.asdict(value)))


def restore(kind: type[T], fields: Any, where: str) -> T:
  """What `describe` was given, of a dataclass without nested ones.

  Args:
    kind: the dataclass.
    fields: its fields.
    where: they come from, for messages.

  Raises:
    ValueError: fields are missing or unknown, or a value is refused.
  """
  if not isinstance(fields, Mapping):
    raise ValueError(f"{where} must be a JSON object, got {fields!r}")
  known: Any = dataclasses.fields(kind)  # pyright: ignore[reportArgumentType]: a dataclass, as said
  names = {field.name for field in known}
  wrong = sorted(names ^ fields.keys())
  if wrong:
    is_missing = wrong[0] in names
    raise ValueError(
      f"{where} {'lacks' if is_missing else 'has an unknown'} {wrong[0]!r}; "
      f"the fields of {kind.__name__} are {', '.join(sorted(names))}"
    )
  values = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in fields.items()
  }
  try:
    return kind(**values)
  except (ValueError, TypeError) as error:
    raise ValueError(f"{where}: {error}") from error
