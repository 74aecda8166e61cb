"""Which rows are answered together: of few shapes, bounded by their tokens.

Rows of several contexts are sorted by length, the longest first, and cut into
batches. A batch is made of blocks, each of up to G rows of one context; its shape
is padded to lengths that double, so that few programs are compiled.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hyperjax.adapters import Spec
from hyperjax.batch import power_of_two

_ROWS = 4  # of a block at most: fewer waste less, more need fewer adapters
_BLOCKS = 32  # of a device at most: each has a copy of its context's adapters


class Shape(NamedTuple):
  """What a row is padded to; it sorts by what most programs differ in."""

  outputs: int  # whose likelihoods are asked for; beams where one is decoded
  output_length: int  # tokens of each
  input_length: int  # tokens that the T5's encoder reads

  @property
  def tokens(self) -> int:
    """Of a row, all of its outputs counted."""
    return self.input_length + self.outputs * self.output_length

  def holds(self, other: "Shape") -> bool:
    return all(x >= y for x, y in zip(self, other, strict=True))


class Row(NamedTuple):
  """A row that is to be answered."""

  context: int  # that it is answered under: any number
  number: int  # whatever it means to the caller
  shape: Shape


@dataclasses.dataclass(frozen=True)
class Budget:
  """How many tokens may be answered together.

  Attributes:
    tokens: of rows on each device; one row is always answered.
    devices: into how many parts a batch is split.
    besides: positions that each row attends to besides its own tokens.
  """

  tokens: int
  devices: int
  besides: int = 0

  @property
  def total(self) -> int:
    """Tokens on all devices."""
    return self.tokens * self.devices

  def under(self, spec: Spec | None) -> "Budget":
    """The same for rows under adapters, which may keep what they have read.

    A decoder keeps keys and values of that for each row, as of its own input.
    """
    read = None if spec is None else spec.most_read
    return dataclasses.replace(self, besides=read or 0)

  def of_row(self, shape: Shape) -> int:
    """Tokens that a row counts as."""
    return shape.tokens + self.besides

  def rows(self, shape: Shape) -> int:
    """That a device holds."""
    return max(1, self.tokens // self.of_row(shape))

  def contexts(self, tokens: int, most: int) -> int:
    """How many, each of so many tokens, are read together: what devices divide."""
    held = max(1, self.total // max(1, tokens))
    return max(1, min(most, held) // self.devices) * self.devices


@dataclasses.dataclass(frozen=True)
class Together:
  """C blocks of G rows; row b is of block b // G.

  Attributes:
    shape: that every row is padded to.
    contexts: of each block.
    rows: all C * G; what only fills the batch repeats others.
    places: where each row stands that is no filling.
  """

  shape: Shape
  contexts: list[int]
  rows: list[Row]
  places: list[int]


class _Block(NamedTuple):
  shape: Shape
  rows: list[Row]


def padded(length: int, least: int, most: int) -> int:
  """A length that stands for some: `least` doubled as often as needed.

  `most` at most, which `length` must not exceed.
  """
  doubled = least
  while doubled < length:
    doubled *= 2
  return min(doubled, most)


def most_rows(budget: Budget, shape: Shape, contexts: int) -> int:
  """Of each of some contexts, how many fill a batch of one shape, in whole blocks."""
  held = min(budget.rows(shape), _BLOCKS * _ROWS) * budget.devices
  return -(-held // (contexts * _ROWS)) * _ROWS


def together(
  rows: Sequence[Row], budget: Budget, has_contexts: bool = True
) -> Iterator[Together]:
  """All rows in batches, the longest first.

  Args:
    rows: of any contexts.
    budget: is kept, unless a single row of each device is above it.
    has_contexts: whether rows of different contexts may not share a block.
  """
  if not rows:
    return
  size = _block_rows(rows, budget) if has_contexts else 1
  blocks = _blocks(rows, size)
  first = 0
  while first < len(blocks):
    shape = blocks[first].shape
    most = min(budget.rows(shape), _BLOCKS * _ROWS) // size
    if has_contexts:
      most = min(most, _BLOCKS)
    most = max(1, most) * budget.devices
    last = first + 1
    while (
      last < len(blocks)
      and last - first < most
      and shape.holds(blocks[last].shape)
    ):
      last += 1
    yield _filled(blocks[first:last], shape, size, most, budget.devices)
    first = last


def _block_rows(rows: Sequence[Row], budget: Budget) -> int:
  """A power of two: at least two blocks of the longest rows fit a device."""
  counts: dict[int, int] = {}
  for row in rows:
    counts[row.context] = counts.get(row.context, 0) + 1
  longest = max(rows, key=lambda row: row.shape.tokens).shape
  fitting = 1 << (max(1, budget.rows(longest) // 2).bit_length() - 1)
  return min(_ROWS, fitting, power_of_two(max(counts.values())))


def _blocks(rows: Sequence[Row], size: int) -> list[_Block]:
  """Blocks of up to `size` rows of a context, the longest first."""
  own: dict[int, list[Row]] = {}
  for row in rows:
    # Without shared adapters each row is a block of its own.
    own.setdefault(row.context, []).append(row)
  blocks = []
  for of_context in own.values():
    ordered = sorted(of_context, key=lambda row: row.shape, reverse=True)
    for first in range(0, len(ordered), size):
      some = ordered[first : first + size]
      shape = Shape(
        *(max(x) for x in zip(*(r.shape for r in some), strict=True))
      )
      blocks.append(_Block(shape, some))
  return sorted(blocks, key=lambda block: block.shape, reverse=True)


def _filled(
  blocks: Sequence[_Block], shape: Shape, size: int, most: int, devices: int
) -> Together:
  """A batch of all blocks that fit, or of a power of two on each device."""
  count = most
  if len(blocks) < most:
    of_device = power_of_two(-(-len(blocks) // devices))
    count = min(most, of_device * devices)
  filled = [*blocks, *[blocks[-1]] * (count - len(blocks))]
  rows = [
    row
    for block in filled
    for row in [*block.rows, *block.rows[-1:] * (size - len(block.rows))]
  ]
  places = [
    i * size + j
    for i, block in enumerate(blocks)
    for j in range(len(block.rows))
  ]
  return Together(shape, [x.rows[0].context for x in filled], rows, places)


def groups(
  sizes: Sequence[tuple[int, int]], contexts: int, tokens: int
) -> Iterator[range]:
  """Tasks that are answered together, in their order.

  Args:
    sizes: of each task its contexts, and the tokens of its rows.
    contexts: a group ends before it would have more, unless one task has.
    tokens: a group ends once it has so many.
  """
  first, held, total = 0, 0, 0
  for i, (own, count) in enumerate(sizes):
    if i > first and (held + own > contexts or total >= tokens):
      yield range(first, i)
      first, held, total = i, 0, 0
    held, total = held + own, total + count
  if first < len(sizes):
    yield range(first, len(sizes))
