"""Random orders by index: nothing is stored, anything can be asked first.

`permuted` is a permutation of any size computed pointwise; `TaskOrder` says
which task episode i belongs to and how many of that task came before. Both are
pure functions of a seed, the same on any number of hosts.
"""

import enum
import functools
from collections.abc import Sequence

import numpy as np

_ROUNDS = 4


class Stream(enum.IntEnum):
  """What is drawn: the second part of a key, after the seed.

  Numbers never change, or the order of all data would. 9 is free.
  """

  BLOCKS_OF_TASKS = 0
  RATES = 1
  DEMONSTRATIONS = 2
  TARGETS = 3
  WINDOWS_AGAIN = 4  # where one fell in too short a document
  WINDOWS = 5
  WINDOW_SHIFTS = 6
  PREFIX_LENGTHS = 7
  PAIRS = 8
  OTHER_TASKS = 10  # whose demonstrations an evaluation lends
  EVALUATED_DEMONSTRATIONS = 11
  ROWS_SIDE_BY_SIDE = 12  # that are used at all
  EPOCHS_SIDE_BY_SIDE = 13
  RELABELLED = 14  # which episodes are, and how
  EVALUATED_LABELS = 15


def generator(*key: int) -> np.random.Generator:
  """A random generator that depends on `key` alone."""
  return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def permuted(positions: np.ndarray, size: int, *key: int) -> np.ndarray:
  """Where a random permutation of range(size) sends `positions`, int64.

  A Feistel network over the least even number of bits that holds `size`;
  values out of range are sent on until they fall in range (cycle walking;
  Black and Rogaway, 2002), four steps at most on average.
  """
  half, round_keys = _network(size, key)
  mask = np.uint64((1 << half) - 1)
  shift = np.uint64(half)
  values = np.asarray(positions, np.uint64).copy()
  outside = np.ones(values.shape, bool)
  while outside.any():
    left, right = values[outside] >> shift, values[outside] & mask
    for round_key in round_keys:
      left, right = right, left ^ (_mix(right ^ np.uint64(round_key)) & mask)
    values[outside] = (left << shift) | right
    outside = values >= np.uint64(size)
  return values.astype(np.int64)


def permuted_one(position: int, size: int, *key: int) -> int:
  """`permuted` of a single position, many times faster."""
  half, round_keys = _network(size, key)
  mask, value = (1 << half) - 1, position
  while True:
    left, right = value >> half, value & mask
    for round_key in round_keys:
      left, right = right, left ^ (_mix_one(right ^ round_key) & mask)
    value = (left << half) | right
    if value < size:
      return value


@functools.lru_cache(maxsize=4096)
def _network(size: int, key: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
  """Bits of half a value, and the key of each round."""
  half = max(1, (int(size - 1).bit_length() + 1) // 2)
  state = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
  return half, tuple(int(x) for x in state)


_MIX_1, _MIX_2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_WORD = (1 << 64) - 1


def _mix(x: np.ndarray) -> np.ndarray:
  """A 64-bit finaliser (splitmix64's); wraps around on purpose."""
  x = (x ^ (x >> np.uint64(30))) * np.uint64(_MIX_1)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(_MIX_2)
  return x ^ (x >> np.uint64(31))


def _mix_one(x: int) -> int:
  x = ((x ^ (x >> 30)) * _MIX_1) & _WORD
  x = ((x ^ (x >> 27)) * _MIX_2) & _WORD
  return x ^ (x >> 31)


class TaskOrder:
  """Which task each episode is of, in proportion to rates.

  Episodes come in blocks. A block takes evenly spaced points of the cumulated
  rates, shifted by a step that no block repeats, and shuffles them: any run of
  blocks holds each task as often as its rate says, to within one a block.
  """

  block_size = 1 << 14

  def __init__(self, rates: Sequence[float], seed: int):
    weights = np.asarray(rates, np.float64)
    if not len(weights) or not (weights > 0).all():
      raise ValueError(f"rates must be positive, got {list(rates)}")
    self._seed = seed
    bounds = np.cumsum(weights) / weights.sum()
    bounds[-1] = 1.0
    self._bounds = np.concatenate([[0.0], bounds])
    self._block = functools.lru_cache(maxsize=4)(self._make_block)

  def __getitem__(self, index: int) -> tuple[int, int]:
    """`(task, count)`: episode `index` is the `count`-th (from 0) of `task`."""
    block, position = divmod(index, self.block_size)
    tasks, counts = self._block(block)
    return int(tasks[position]), int(counts[position])

  def _make_block(self, block: int) -> tuple[np.ndarray, np.ndarray]:
    in_block = self._counts(block, block + 1)
    tasks = np.repeat(np.arange(len(in_block)), in_block)
    tasks = generator(self._seed, Stream.BLOCKS_OF_TASKS, block).permutation(
      tasks
    )
    # The rank of each entry among those of its task, in this order.
    by_task = np.argsort(tasks, kind="stable")
    starts = np.cumsum(in_block) - in_block
    ranks = np.empty_like(by_task)
    ranks[by_task] = np.arange(len(tasks)) - np.repeat(starts, in_block)
    return tasks, ranks + self._before(block)[tasks]

  def _before(self, block: int) -> np.ndarray:
    """Episodes of each task in all earlier blocks, [tasks]."""
    total = np.zeros(len(self._bounds) - 1, np.int64)
    for first in range(0, block, 1024):
      total += self._counts(first, min(block, first + 1024))
    return total

  def _counts(self, first: int, last: int) -> np.ndarray:
    """Episodes of each task in blocks from `first` to before `last`, [tasks]."""
    golden = (np.sqrt(5.0) - 1) / 2
    start = generator(self._seed, Stream.RATES).random()
    shifts = (start + np.arange(first, last) * golden) % 1.0
    # Of each block, the first of its points in each task's share.
    points = np.ceil(self._bounds * self.block_size - shifts[:, None])
    points[:, 0], points[:, -1] = 0, self.block_size
    return np.diff(points, axis=1).sum(axis=0).astype(np.int64)
