"""Rows of token ids: in arrays, or in the arrays of several parts read as one.

A row has an id array for each feature. Arrays may be memory-mapped and hold
hundreds of millions of rows: what is asked of all rows is answered in blocks.
"""

import bisect
import dataclasses
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from hyperjax.data import json_text

_BLOCK = 1 << 20  # rows looked at together


class Rows(Protocol):
  """The rows of one task and split."""

  @property
  def features(self) -> tuple[str, ...]: ...

  @property
  def tokens(self) -> Any:
    """All ids end to end: of row 0, feature 0; row 0, feature 1; row 1 ..."""
    ...

  @property
  def hashes(self) -> Any:
    """Of each row's first feature: rows with equal ones have equal hashes."""
    ...

  @property
  def records(self) -> Any:
    """JSON of each row's other fields, by index; None where none were kept."""
    ...

  def __len__(self) -> int: ...

  def row(self, index: int, feature: str) -> np.ndarray:
    """Ids of one feature of one row, int32 [length]; from 0, or IndexError."""
    ...

  def length(self, index: int, feature: str) -> int:
    """How many ids `row` would give, of which none is read."""
    ...

  def span(self, position: int) -> tuple[int, int]:
    """Begin and end, in `tokens`, of the ids among which `position` lies."""
    ...

  def lengths(self, feature: str) -> np.ndarray:
    """How many ids each row has of a feature, int64 [rows]."""
    ...

  def closed_lengths(
    self, feature: str, end: int, first: int, last: int
  ) -> np.ndarray:
    """How many it has once it ends in `end`, of rows from first to before last."""
    ...

  def longest(self, feature: str) -> int:
    """The most ids a row has of a feature; 0 without rows."""
    ...

  def record(self, index: int) -> dict[str, Any]:
    """The row's other fields; empty where none were kept."""
    ...


@dataclasses.dataclass(frozen=True)
class Summary:
  """What is known of all rows without a look at them, by feature."""

  longest: Mapping[str, int] = dataclasses.field(default_factory=dict)
  # The id in which every row ends, where that is one and none is empty.
  last_id: Mapping[str, int | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ArrayRows:
  """Rows in arrays that may be memory-mapped."""

  features: tuple[str, ...]
  tokens: np.ndarray  # [all ids]
  offsets: np.ndarray  # int64 [rows * features + 1]
  hashes: np.ndarray  # uint64 [rows], of the first feature
  records: Any = None  # JSON of each row, by index
  summary: Summary = Summary()
  where: str = "rows in memory"  # for messages

  def __len__(self) -> int:
    return len(self.hashes)

  def row(self, index: int, feature: str) -> np.ndarray:
    start, end = self._bounds(index, feature)
    return np.asarray(self.tokens[start:end], np.int32)

  def length(self, index: int, feature: str) -> int:
    start, end = self._bounds(index, feature)
    return int(end - start)

  def _bounds(self, index: int, feature: str) -> tuple[Any, Any]:
    # Offsets would take -1 for some other row.
    if not 0 <= index < len(self):
      raise _out_of_range(index, len(self))
    i = index * len(self.features) + self.features.index(feature)
    start, end = self.offsets[i], self.offsets[i + 1]
    if not 0 <= start <= end <= len(self.tokens):
      raise self._damaged(index)
    return start, end

  def span(self, position: int) -> tuple[int, int]:
    i = int(np.searchsorted(self.offsets, position, side="right")) - 1
    i = min(max(i, 0), len(self.offsets) - 2)
    start, end = (int(x) for x in self.offsets[i : i + 2])
    if not 0 <= start <= position < end <= len(self.tokens):
      raise self._damaged(i // len(self.features))
    return start, end

  def lengths(self, feature: str) -> np.ndarray:
    return self._lengths(feature, 0, len(self))

  def closed_lengths(
    self, feature: str, end: int, first: int, last: int
  ) -> np.ndarray:
    lengths = self._lengths(feature, first, last)
    if self.summary.last_id.get(feature) == end:
      return lengths
    if not len(self.tokens):
      return lengths + 1
    i, step = self.features.index(feature), len(self.features)
    ends = self.offsets[first * step + i + 1 : last * step + 1 : step]
    last_ids = self.tokens[np.maximum(ends - 1, 0)]
    return lengths + ((lengths == 0) | (last_ids != end))

  def longest(self, feature: str) -> int:
    if feature in self.summary.longest:
      return self.summary.longest[feature]
    most = 0
    for first, last in blocks(len(self)):
      most = max(most, int(self._lengths(feature, first, last).max()))
    return most

  def record(self, index: int) -> dict[str, Any]:
    if self.records is None:
      return {}
    where = f"{self.where}: the record of row {index}"
    return json_text.parsed(where, self.records[index])

  def _lengths(self, feature: str, first: int, last: int) -> np.ndarray:
    i, step = self.features.index(feature), len(self.features)
    bounds = self.offsets[first * step : last * step + 1]
    falls = np.flatnonzero(bounds[1:] < bounds[:-1])
    if len(falls) or bounds[0] < 0 or bounds[-1] > len(self.tokens):
      raise self._damaged(first + (int(falls[0]) // step if len(falls) else 0))
    return bounds[i + 1 :: step] - bounds[i:-1:step]

  def _damaged(self, row: int) -> ValueError:
    return ValueError(
      f"{self.where}: offsets.bin is damaged: row {row} does not lie within "
      f"the {len(self.tokens)} ids of tokens.bin"
    )


class JoinedRows:
  """The rows of several parts as one sequence; a part is opened when needed.

  Args:
    features: of every part.
    sizes: rows and tokens of each part.
    open_part: the rows of a part, by number; it is asked once for each.
    longest: of all rows, by feature.
    has_records: whether the parts have them.
  """

  def __init__(
    self,
    features: tuple[str, ...],
    sizes: Sequence[tuple[int, int]],
    open_part: Callable[[int], ArrayRows],
    longest: Mapping[str, int],
    has_records: bool = False,
  ):
    self.features = features
    self._longest = longest
    self._first_rows = _begins(rows for rows, _ in sizes)
    self._first_tokens = _begins(tokens for _, tokens in sizes)
    self._open = open_part
    self._parts: list[ArrayRows | None] = [None] * len(sizes)

    def chained(begins: Sequence[int], name: str) -> "Chained":
      return Chained(begins, lambda part: getattr(self.part(part), name))

    self.tokens = chained(self._first_tokens, "tokens")
    self.hashes = chained(self._first_rows, "hashes")
    self.records = chained(self._first_rows, "records") if has_records else None

  def part(self, number: int) -> ArrayRows:
    found = self._parts[number]
    if found is None:
      found = self._parts[number] = self._open(number)
    return found

  def __len__(self) -> int:
    return self._first_rows[-1]

  def row(self, index: int, feature: str) -> np.ndarray:
    part, own = _find(self._first_rows, index)
    return self.part(part).row(own, feature)

  def length(self, index: int, feature: str) -> int:
    part, own = _find(self._first_rows, index)
    return self.part(part).length(own, feature)

  def span(self, position: int) -> tuple[int, int]:
    part, own = _find(self._first_tokens, position)
    start, end = self.part(part).span(own)
    first = self._first_tokens[part]
    return first + start, first + end

  def lengths(self, feature: str) -> np.ndarray:
    parts = map(self.part, range(len(self._parts)))
    return np.concatenate([part.lengths(feature) for part in parts])

  def closed_lengths(
    self, feature: str, end: int, first: int, last: int
  ) -> np.ndarray:
    found = [
      self.part(part).closed_lengths(feature, end, start, stop)
      for part, start, stop in _pieces(self._first_rows, first, last)
    ]
    return np.concatenate(found) if found else np.zeros(0, np.int64)

  def longest(self, feature: str) -> int:
    return self._longest[feature]

  def record(self, index: int) -> dict[str, Any]:
    part, own = _find(self._first_rows, index)
    return self.part(part).record(own)


class Chained:
  """One-dimensional arrays read as one: by number, slice or array of numbers."""

  def __init__(self, begins: Sequence[int], part: Callable[[int], Any]):
    self._begins, self._part = begins, part

  def __len__(self) -> int:
    return self._begins[-1]

  def __getitem__(self, index: Any) -> Any:
    if isinstance(index, slice):
      return self._slice(index)
    if isinstance(index, (np.ndarray, list)):
      return self._gather(np.asarray(index))
    index = operator.index(index)
    part, own = _find(self._begins, index + len(self) if index < 0 else index)
    return self._part(part)[own]

  def _slice(self, index: slice) -> np.ndarray:
    start, stop, step = index.indices(len(self))
    if step != 1:
      raise IndexError(f"joined parts are sliced with step 1, got {step}")
    found = [
      self._part(part)[first:last]
      for part, first, last in _pieces(self._begins, start, stop)
    ]
    if len(found) == 1:
      return found[0]
    return np.concatenate(found) if found else self._part(0)[:0]

  def _gather(self, index: np.ndarray) -> np.ndarray:
    index = np.where(index < 0, index + len(self), index)
    outside = (index < 0) | (index >= len(self))
    if outside.any():
      raise _out_of_range(index[outside][0], len(self))
    which = np.searchsorted(self._begins, index, side="right") - 1
    found = np.zeros(index.shape, self._part(0).dtype)
    for part in np.unique(which).tolist():
      own = which == part
      found[own] = self._part(part)[index[own] - self._begins[part]]
    return found


def blocks(count: int) -> Iterator[tuple[int, int]]:
  """First and last (exclusive) of blocks of rows that fit in memory."""
  for first in range(0, count, _BLOCK):
    yield first, min(first + _BLOCK, count)


def _begins(sizes: Iterator[int]) -> list[int]:
  begins = [0]
  for size in sizes:
    begins.append(begins[-1] + size)
  return begins


def _find(begins: Sequence[int], index: int) -> tuple[int, int]:
  """The part that holds `index`, and which of the part's own that is."""
  if not 0 <= index < begins[-1]:
    raise _out_of_range(index, begins[-1])
  part = bisect.bisect_right(begins, index) - 1
  return part, index - begins[part]


def _out_of_range(index: int, count: int) -> IndexError:
  return IndexError(f"index {index} is out of range, there are {count}")


def _pieces(
  begins: Sequence[int], start: int, stop: int
) -> Iterator[tuple[int, int, int]]:
  """Part, first and last (exclusive) of each part's share of a range."""
  if start >= stop:
    return
  part, own = _find(begins, start)
  while start < stop:
    last = min(stop, begins[part + 1]) - begins[part]
    if last > own:
      yield part, own, last
    start, part, own = begins[part] + last, part + 1, 0
