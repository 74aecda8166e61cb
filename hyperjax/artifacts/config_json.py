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

  A field that is not there has its default: a later version may have added it.

  Args:
    kind: the dataclass.
    fields: its fields.
    where: they come from, for messages.

  Raises:
    ValueError: a field is unknown, or one without a default is missing, or a value is refused.
  """
  if not isinstance(fields, Mapping):
    raise ValueError(f"{where} must be a JSON object, got {fields!r}")
  known: Any = dataclasses.fields(kind)  # pyright: ignore[reportArgumentType]: a dataclass, as said
  names = [field.name for field in known]
  needed = {f.name for f in known if f.default is dataclasses.MISSING}
  unknown = sorted(fields.keys() - set(names))
  missing = sorted(needed - fields.keys())
  if unknown or missing:
    what = (
      f"has an unknown {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
    )
    raise ValueError(
      f"{where} {what}; the fields of {kind.__name__} are {', '.join(names)}"
    )
  values = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in fields.items()
  }
  try:
    return kind(**values)
  except (ValueError, TypeError) as error:
    raise ValueError(f"{where}: {error}") from error
