"""The rules that declarations are made of; each is equal to itself alone."""

import abc
import dataclasses
import struct
from collections.abc import Collection, Mapping, Sequence
from typing import Any

INT32 = 2**31 - 1
_LEAST_NORMAL = 2.0**-126  # what is nearer to 0, devices take for 0


class Rule(abc.ABC):
  """What a value may be."""

  @property
  @abc.abstractmethod
  def words(self) -> str:
    """What a value must be, to stand after "must be"."""

  @abc.abstractmethod
  def allows(self, value: Any) -> bool: ...

  def fault(self, name: str, value: Any) -> str | None:
    """What is wrong with a value, as a sentence; None if nothing is."""
    if self.allows(value):
      return None
    return f"{name} must be {self.words}, got {value!r}"

  def check(self, name: str, value: Any) -> None:
    """Refuses what the rule does not allow.

    Raises:
      ValueError: with the name, the rule, and what came.
    """
    fault = self.fault(name, value)
    if fault is not None:
      raise ValueError(fault)

  def parse(self, text: str) -> Any:
    """What a text of the command line means, allowed or not."""
    return text


@dataclasses.dataclass(frozen=True, eq=False)
class Whole(Rule):
  """A whole number; up to what an int32 holds, unless it says otherwise."""

  least: int
  most: int = INT32

  @property
  def words(self) -> str:
    return f"a whole number from {self.least} to {_shown(self.most)}"

  def allows(self, value: Any) -> bool:
    return type(value) is int and self.least <= value <= self.most

  def parse(self, text: str) -> Any:
    try:
      return int(text)
    except ValueError:
      return text


@dataclasses.dataclass(frozen=True, eq=False)
class Number(Rule):
  """A finite number, whole or not, that is within its ends in float32 too.

  `least` and `most` are allowed themselves, `above` and `below` are not.
  """

  least: float | None = None
  most: float | None = None
  above: float | None = None
  below: float | None = None
  or_zero: bool = False  # is allowed besides

  @property
  def words(self) -> str:
    ends = []
    if self.least is not None:
      ends.append(f"from {self.least:,g}")
    if self.above is not None:
      ends.append(f"above {self.above:,g}")
    if self.most is not None:
      ends.append(f"to {self.most:,g}" if ends else f"up to {self.most:,g}")
    if self.below is not None:
      ends.append(f"below {self.below:,g}")
    if len(ends) > 1 and not ends[1].startswith("to"):
      ends.insert(1, "and")
    start = "0, or a finite number" if self.or_zero else "a finite number"
    return " ".join([start, *ends])

  def allows(self, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
      return False
    if self.or_zero and value == 0:
      return True
    held = as_float32(value)
    return (
      held is not None
      and (self.least is None or value >= self.least)
      and (self.most is None or value <= self.most)
      and (self.above is None or min(value, held) > self.above)
      and (self.below is None or max(value, held) < self.below)
    )

  def fault(self, name: str, value: Any) -> str | None:
    fault = super().fault(name, value)
    if fault is not None and isinstance(value, int | float):
      held = as_float32(value)
      if held is None and value - value == 0:
        return f"{fault}, which float32 does not hold"
      if held in (0, 1) and value != held:
        return f"{fault}, which is {held:g} in float32"
    return fault

  def parse(self, text: str) -> Any:
    try:
      return float(text)
    except ValueError:
      return text


@dataclasses.dataclass(frozen=True, eq=False)
class OneOf(Rule):
  """A word of a closed set."""

  known: Collection[str]

  @property
  def words(self) -> str:
    if len(self.known) == 1:
      return repr(*self.known)
    return f"one of {', '.join(self.known)}"

  def allows(self, value: Any) -> bool:
    return isinstance(value, str) and value in self.known


@dataclasses.dataclass(frozen=True, eq=False)
class Some(Rule):
  """A list of words of a closed set."""

  known: Collection[str]
  least: int = 0
  most: int | None = None

  @property
  def words(self) -> str:
    listed = ", ".join(self.known)
    if self.most is not None:
      return f"a list of {self.least} to {self.most} of {listed}"
    if self.least:
      return f"a list of one or more of {listed}"
    return f"a list of some of {listed}, or of none"

  def allows(self, value: Any) -> bool:
    return (
      is_list(value)
      and all(isinstance(own, str) and own in self.known for own in value)
      and self.least <= len(value)
      and (self.most is None or len(value) <= self.most)
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Span(Rule):
  """Two whole numbers, the lower one first."""

  least: int
  most: int = INT32

  @property
  def words(self) -> str:
    return (
      f"LOW,HIGH with LOW <= HIGH, each {Whole(self.least, self.most).words}"
    )

  def allows(self, value: Any) -> bool:
    each = Whole(self.least, self.most)
    return (
      is_list(value)
      and len(value) == 2
      and all(map(each.allows, value))
      and value[0] <= value[1]
    )

  def parse(self, text: str) -> Any:
    """Of "1,16", or of "4", which is 4 and 4."""
    ends = [Whole(self.least).parse(end) for end in text.split(",")]
    return (ends[0], ends[-1]) if len(ends) < 3 else tuple(ends)


@dataclasses.dataclass(frozen=True, eq=False)
class Entries(Rule):
  """A mapping from names of a closed set to what one rule allows."""

  known: Collection[str]
  each: Rule
  needed: Collection[str] = ()

  @property
  def words(self) -> str:
    return f"a mapping of {', '.join(self.known)}, each to {self.each.words}"

  def allows(self, value: Any) -> bool:
    return self.fault("", value) is None

  def fault(self, name: str, value: Any) -> str | None:
    if not isinstance(value, Mapping):
      return f"{name} must be {self.words}, got {value!r}"
    for own in value:
      if own not in self.known:
        return f"{name} has {own!r}; it may have {', '.join(self.known)}"
    for own in self.needed:
      if own not in value:
        return f"{name} lacks {own!r}: {dict(value)}"
    found = [self.each.fault(f"{name}[{own!r}]", value[own]) for own in value]
    return next(filter(None, found), None)

  def parse(self, text: str) -> Any:
    """Of "NAME=VALUE,NAME=VALUE"."""
    parts = [item.partition("=") for item in text.split(",")]
    return {name: self.each.parse(value) for name, _, value in parts}


def is_list(value: Any) -> bool:
  """Whether it is a sequence, and no text."""
  return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def as_float32(value: float) -> float | None:
  """What devices take a number for; None for what is none, or too large."""
  try:
    (held,) = struct.unpack("f", struct.pack("f", value))
  except OverflowError:
    return None
  if held - held != 0:  # infinite, or not a number
    return None
  return 0.0 if abs(held) < _LEAST_NORMAL else held


def _shown(number: int) -> str:
  """Of a power of two less one, the power."""
  if number > 1 << 24 and number & (number + 1) == 0:
    return f"2**{number.bit_length()} - 1"
  if number > 1 << 32 and number & (number - 1) == 0:
    return f"2**{number.bit_length() - 1}"
  return f"{number:,}"
