"""Checks of values that come from outside: name, rule, and what came."""

from typing import Any


def whole(name: str, value: Any, least: int) -> None:
  """Refuses what is no whole number from `least` on."""
  if type(value) is not int or value < least:
    raise ValueError(
      f"{name} must be a whole number from {least}, got {value!r}"
    )
