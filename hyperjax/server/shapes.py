"""The few shapes of all batches, so that there is a program for each ahead of time."""

from collections.abc import Callable

from hyperjax.batch import Lengths, power_of_two

_LEAST_INPUT = 16  # tokens that an input is padded to at least
_ROWS_GROW = 4  # how much larger each number of rows is than the one before
_WIDEST = 4096  # tokens of examples and an input at most


class Shapes:
  """Numbers of rows for each length.

  Lengths are powers of two up to that of an input, and then powers of four up to
  that of an input with examples before it; of those longer than an input so few rows
  are taken that their tokens are no more.
  """

  def __init__(
    self, lengths: Lengths, most_rows: int, padded: Callable[[int], int]
  ):
    """Chooses them.

    Args:
      lengths: of inputs and demonstrations.
      most_rows: of a batch of inputs.
      padded: the next number of rows that the mesh divides.
    """
    examples = lengths.demonstrations * max(1, lengths.num_demonstrations)
    widest = power_of_two(lengths.inputs + examples)
    widest = min(widest, max(_WIDEST, lengths.inputs))
    short = [_LEAST_INPUT * 2**i for i in range(17)]
    wide = [widest // 4**i for i in range(17)]
    self._rows: dict[int, list[int]] = {}
    for length in [*(n for n in short if n < lengths.inputs), lengths.inputs]:
      self._rows[length] = _sizes(most_rows, padded)
    for length in sorted(n for n in wide if n > lengths.inputs):
      rows = max(1, most_rows * lengths.inputs // length)
      self._rows[length] = _sizes(rows, padded)

  @property
  def all(self) -> list[tuple[int, int]]:
    """Rows and tokens of each."""
    return [(rows, n) for n, every in self._rows.items() for rows in every]

  @property
  def longest(self) -> int:
    """Tokens of a row at most: examples and an input."""
    return max(self._rows)

  def length_of(self, num_tokens: int) -> int:
    """To how many tokens a row of so many is padded."""
    return next(n for n in self._rows if n >= num_tokens)

  def rows_of(self, count: int, length: int) -> int:
    """To how many rows so many of a length are filled up."""
    return next(n for n in self._rows[length] if n >= count)

  def most_rows(self, length: int) -> int:
    """Of a batch; the longer they are, the fewer."""
    return self._rows[length][-1]


def _sizes(most: int, padded: Callable[[int], int]) -> list[int]:
  sizes, size = set(), 1
  while size < most:
    sizes.add(padded(size))
    size *= _ROWS_GROW
  return sorted({*(n for n in sizes if n < padded(most)), padded(most)})
