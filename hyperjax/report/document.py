"""What a page says, before it is HTML or Markdown."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Number:
  """A cell that sorts by its value and shows a text."""

  value: float
  text: str


@dataclasses.dataclass(frozen=True)
class Score:
  """A mean with its 95% interval, mostly in percent; a gain shows its sign."""

  value: float
  low: float | None = None
  high: float | None = None
  is_gain: bool = False

  def __str__(self) -> str:
    shown = self._shown(self.value)
    if self.low is None or self.high is None:
      return shown
    return f"{shown} [{self._shown(self.low)}, {self._shown(self.high)}]"

  def _shown(self, value: float) -> str:
    # What rounds to zero has no sign.
    rounded = round(value, 1) + 0.0
    return f"{rounded:+.1f}" if self.is_gain and rounded else f"{rounded:.1f}"


# Whether a claim holds; None where it cannot be told.
MARKS = {True: "✓", False: "✗", None: "?"}


@dataclasses.dataclass(frozen=True)
class Text:
  """A paragraph."""

  text: str


@dataclasses.dataclass(frozen=True)
class Finding:
  """What follows from the numbers: a claim, then what it rests on."""

  claim: str
  evidence: str
  holds: bool | None
  gain: Score | None = None  # over the same targets, where there is one


# A finding in a cell is its mark and its gain.
Cell = str | Number | Score | Finding | None


@dataclasses.dataclass(frozen=True)
class Gap:
  """Something that is not there, and why."""

  text: str


@dataclasses.dataclass(frozen=True)
class Table:
  """Rows under a head; `files` are where its numbers are from."""

  title: str
  head: Sequence[str]
  rows: Sequence[Sequence[Cell]]
  caption: str
  files: Sequence[str]
  is_folded: bool = False  # long ones are opened by the reader


@dataclasses.dataclass(frozen=True)
class Plot:
  """A picture with the text that stands for it."""

  title: str
  svg: str
  alt: str
  caption: str
  files: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Example:
  """One target in full."""

  title: str
  demonstrations: Sequence[tuple[str, str]]
  # Label, text, and whether it is right where that can be said.
  lines: Sequence[tuple[str, str, bool | None]]
  files: Sequence[str]
  is_folded: bool = False


Part = Text | Finding | Gap | Table | Plot | Example


@dataclasses.dataclass(frozen=True)
class Section:
  title: str
  parts: Sequence[Part]


@dataclasses.dataclass(frozen=True)
class Page:
  title: str
  lead: str
  sections: Sequence[Section]
