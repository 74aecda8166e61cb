"""What a page says, before it is HTML or Markdown."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

# Whether a claim holds; None where it cannot be told.
MARKS = {True: "✓", False: "✗", None: "?"}
Row = TypeVar("Row")
Column = TypeVar("Column")


@dataclasses.dataclass(frozen=True)
class Number:
  """A cell that sorts by its value and shows a text, then its interval."""

  value: float
  text: str
  bounds: str = ""


def whole(value: float | None) -> Number | None:
  """Such as 12,345."""
  return None if value is None else Number(value, f"{value:,}")


@dataclasses.dataclass(frozen=True)
class Score:
  """A mean with its 95% interval, mostly in percent; a gain shows its sign."""

  value: float
  low: float | None = None
  high: float | None = None
  is_gain: bool = False

  @property
  def text(self) -> str:
    return self._shown(self.value)

  @property
  def bounds(self) -> str:
    if self.low is None or self.high is None:
      return ""
    return f"[{self._shown(self.low)}, {self._shown(self.high)}]"

  def __str__(self) -> str:
    return f"{self.text} {self.bounds}".rstrip()

  def _shown(self, value: float) -> str:
    # What rounds to zero has no sign.
    rounded = round(value, 1) + 0.0
    return f"{rounded:+.1f}" if self.is_gain and rounded else f"{rounded:.1f}"


def percent(found: Mapping[str, Any], is_gain: bool = False) -> Score:
  """Of an interval's mean, low and high as fractions; the mean alone will do."""
  bounds = {x: 100 * found[x] for x in ("low", "high") if x in found}
  return Score(100 * found["mean"], **bounds, is_gain=is_gain)


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

  @property
  def mark(self) -> str:
    return MARKS[self.holds]

  @property
  def told(self) -> str:
    return f"{self.mark} {self.claim}"


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


def cross(
  title: str,
  corner: str,
  rows: Iterable[tuple[str, Row]],
  columns: Iterable[tuple[str, Column]],
  cell: Callable[[Row, Column], Cell],
  caption: str,
  files: Sequence[str],
  is_folded: bool = False,
) -> Table:
  """A table of `cell(row, column)`; rows and columns come with their labels."""
  columns = [*columns]
  head = (corner, *(name for name, _ in columns))
  cells = [
    [name, *(cell(row, column) for _, column in columns)] for name, row in rows
  ]
  return Table(title, head, cells, caption, files, is_folded)


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


def section(title: str, parts: Iterable[Part]) -> Section:
  """Of what there is to show: no table without rows, or without columns."""
  kept = [
    part
    for part in parts
    if not isinstance(part, Table) or (part.rows and part.head[1:])
  ]
  return Section(title, kept)


@dataclasses.dataclass(frozen=True)
class Page:
  title: str
  lead: str
  sections: Sequence[Section]
