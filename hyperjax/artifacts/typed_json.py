"""Frozen dataclasses as JSON values, and back, each value checked by its type."""

import collections.abc
import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from hyperjax.data import json_text

T = TypeVar("T")

_NAMES = {
  str: "text",
  bool: "true or false",
  int: "a whole number",
  float: "a number",
}


_MOST_WHOLE = 1 << 1000  # of a number: a float holds no more than 2**1024


@dataclasses.dataclass(frozen=True)
class Tagged:
  """A dataclass of one of several kinds, as data: its class's name, its fields.

  Dataclasses in its fields are tagged too. `config_json` makes the class.
  """

  kind: str
  fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def dump(value: Any) -> Any:
  """A JSON value of dataclasses, mappings, sequences and plain values.

  Raises:
    TypeError: something else is in it.
  """
  if isinstance(value, Tagged):
    return {"kind": value.kind, **dump(value.fields)}
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    return {
      field.name: dump(getattr(value, field.name))
      for field in dataclasses.fields(value)
    }
  if isinstance(value, Mapping):
    return {str(name): dump(own) for name, own in value.items()}
  if isinstance(value, list | tuple):
    return [dump(own) for own in value]
  if value is None or isinstance(value, str | bool | int | float):
    return value
  raise TypeError(f"{value!r} is no JSON value")


def read(kind: type[T], value: Any, where: str, path: str = "") -> T:
  """What `dump` gave, as the dataclass that it was.

  A field that is not there has its default: a later version may have added it.

  Args:
    kind: the dataclass.
    value: its fields.
    where: they come from, for messages.
    path: of `value` in there.

  Raises:
    ValueError: a field is unknown, or one without a default is missing, or a
      value is not of its type: the message names the place, the field, the rule
      and what came.
  """
  if isinstance(kind, type) and issubclass(kind, Tagged):
    return _tagged(kind, value, where, path)
  if not isinstance(value, Mapping):
    _refuse(where, path, "a JSON object", value)
  known: Any = dataclasses.fields(kind)  # pyright: ignore[reportArgumentType]: a dataclass, as said
  names = [field.name for field in known]
  needed = {
    field.name
    for field in known
    if field.default is dataclasses.MISSING
    and field.default_factory is dataclasses.MISSING
  }
  unknown = sorted(value.keys() - set(names))
  missing = sorted(needed - value.keys())
  if unknown or missing:
    what = (
      f"has an unknown {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
    )
    raise ValueError(
      f"{_at(where, path)} {what}; the fields of {kind.__name__} are "
      f"{', '.join(names)}"
    )
  hints = typing.get_type_hints(kind)
  found = {
    name: _value(hints[name], own, where, f"{path}.{name}" if path else name)
    for name, own in value.items()
  }
  try:
    return kind(**found)
  except (ValueError, TypeError) as error:
    raise ValueError(f"{_at(where, path)}: {error}") from error


def check(hint: Any, value: Any, where: str, path: str) -> None:
  """Refuses a JSON value that is not of the type `hint`.

  Raises:
    ValueError: it is not: the message names the place, the rule and what came.
  """
  _value(hint, value, where, path)


def _value(hint: Any, value: Any, where: str, path: str) -> Any:
  """A value of the type that a field is annotated with."""
  if hint is Any:
    return _plain(value)
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    if value is None and type(None) in inner:
      return None
    # One other type is all that there ever is.
    return _value(inner[0], value, where, path)
  if origin in (collections.abc.Mapping, dict):
    if not isinstance(value, Mapping):
      _refuse(where, path, "a JSON object", value)
    return {
      name: _value(inner[1], own, where, f"{path}.{name}")
      for name, own in value.items()
    }
  if origin in (tuple, list, collections.abc.Sequence):
    if not isinstance(value, list | tuple):
      _refuse(where, path, "a list", value)
    return tuple(
      _value(inner[0], own, where, f"{path}[{i}]")
      for i, own in enumerate(value)
    )
  if hint in _NAMES:
    if hint is float and type(value) is int and abs(value) < _MOST_WHOLE:
      return value
    if type(value) is not hint:
      _refuse(where, path, _NAMES[hint], value)
    return value
  # What is built already, as the parts of what `config_json` builds are.
  if isinstance(value, hint):
    return value
  if not dataclasses.is_dataclass(hint):
    _refuse(where, path, "an object with its kind", value)
  kind: Any = hint
  return read(kind, value, where, path)


def _tagged(kind: Any, value: Any, where: str, path: str) -> Any:
  if not isinstance(value, Mapping):
    _refuse(where, path, "a JSON object", value)
  name = value.get("kind")
  if not isinstance(name, str):
    _refuse(where, f"{path}.kind", "the name of a class", name)
  fields = {x: _plain(own) for x, own in value.items() if x != "kind"}
  return kind(name, fields)


def _plain(value: Any) -> Any:
  """A JSON value with tuples for lists, and `Tagged` where a kind is given."""
  if isinstance(value, Mapping):
    fields = {name: _plain(own) for name, own in value.items()}
    name = fields.get("kind")
    if not isinstance(name, str):
      return fields
    del fields["kind"]
    return Tagged(name, fields)
  if isinstance(value, list):
    return tuple(map(_plain, value))
  return value


def _refuse(where: str, path: str, rule: str, value: Any) -> typing.NoReturn:
  raise ValueError(
    f"{_at(where, path)} must be {rule}, got {json_text.shown(value)}"
  )


def _at(where: str, path: str) -> str:
  return f"{where}: {path}" if path else where
