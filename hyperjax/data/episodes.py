"""Few-shot episodes by index over stored tokens.

Episode i is a pure function of (seed, i): its task by rate, its targets by that
task's permutation, its demonstrations drawn from the rest. So a position in the
data is one integer, whatever the number of hosts, and any episode can be looked
at without those before it.
"""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from hyperjax.batch import Context, Lengths, trim
from hyperjax.data import order, row_arrays
from hyperjax.data.store import Task

INPUTS, TARGETS = "inputs", "targets"

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class FewShot:
  """What an episode is made of.

  `num_demonstrations` is drawn evenly from `[low, high]` for each episode, so
  that a model trained for many also meets few. `num_targets` rows (G) share
  one context.
  """

  num_demonstrations: Sequence[int] = (1, 16)
  num_targets: int = 1

  def __post_init__(self):
    low, high = self.num_demonstrations
    if not 1 <= low <= high:
      raise ValueError(
        "FewShot.num_demonstrations must be [low, high] with 1 <= low <= "
        f"high, got {list(self.num_demonstrations)}"
      )
    if self.num_targets < 1:
      raise ValueError(
        f"FewShot.num_targets must be at least 1, got {self.num_targets}"
      )


@dataclasses.dataclass(frozen=True)
class Episode:
  """Which rows meet: what an index stands for, before any token is read."""

  task: int
  demonstrations: np.ndarray  # rows, in the order they are joined
  targets: np.ndarray  # rows
  num_dropped: int  # demonstrations drawn that found no room


class Episodes:
  """All episodes of some tasks; index with any whole number from 0.

  Within an epoch of a task no row is a target twice. A demonstration never
  equals a target of its episode, as a row or as text (equal inputs), and is
  never cut: one that finds no room among the others is dropped, one too long
  to fit alone is never drawn. A task that could not give every episode a
  demonstration is left out, and named.

  Raises:
    ValueError: a task has too few rows, or no task has demonstrations that fit.
  """

  def __init__(
    self,
    tasks: Sequence[Task],
    few_shot: FewShot,
    lengths: Lengths,
    seed: int = 0,
  ):
    if not tasks:
      raise ValueError("a mixture without tasks has no episodes")
    if not lengths.demonstrations:
      raise ValueError("TASK_FEATURE_LENGTHS lacks 'demonstrations'")
    self.few_shot, self.lengths, self.seed = few_shot, lengths, seed
    self.num_skipped = 0
    for task in tasks:
      _check_rows(task, few_shot)
    pools = [_Pool(task, lengths.demonstrations) for task in tasks]
    kept = _able(tasks, pools, few_shot, lengths.demonstrations)
    self.tasks = [tasks[i] for i in kept]
    self._pools = [pools[i] for i in kept]
    self._order = order.TaskOrder([task.rate for task in self.tasks], seed)

  def __getitem__(self, index: int) -> Context:
    """The token ids of an episode, demonstrations joined."""
    episode = self.episode(index)
    task = self.tasks[episode.task]
    return Context(
      demonstrations=join(task, episode.demonstrations),
      **self._targets(task, episode.targets),
    )

  def _targets(self, task: Task, rows: np.ndarray) -> dict:
    def read(feature: str, length: int):
      return [
        trim(task.rows.row(i, feature), length, task.eos_id) for i in rows
      ]

    return {
      "inputs": read(INPUTS, self.lengths.inputs),
      "targets": read(TARGETS, self.lengths.targets),
    }

  def episode(self, index: int) -> Episode:
    """The rows of an episode."""
    task, count = self._order[index]
    num_rows = len(self.tasks[task].rows)
    num_targets = self.few_shot.num_targets
    epoch, group = divmod(count, num_rows // num_targets)
    first = group * num_targets
    key = (self.seed, 3, task, epoch)
    targets = np.asarray(
      [
        order.permuted_one(position, num_rows, *key)
        for position in range(first, first + num_targets)
      ]
    )
    demonstrations, dropped = self._draw(task, targets, count)
    return Episode(task, demonstrations, targets, dropped)

  def num_too_long(self, task: int) -> int:
    """How many rows of `self.tasks[task]` no demonstration is drawn from."""
    return self._pools[task].num_too_long

  def _draw(
    self, task: int, targets: np.ndarray, count: int
  ) -> tuple[np.ndarray, int]:
    """Rows other than the targets that fit together, and how many did not."""
    pool, hashes = self._pools[task], self.tasks[task].rows.hashes
    generator = order.generator(self.seed, 2, task, count)
    low, high = self.few_shot.num_demonstrations
    wanted = int(generator.integers(low, high + 1))
    taken: list[int] = []
    target_hashes = set(hashes[targets].tolist())
    # A first look is nearly always long enough.
    for looked in (wanted + 2 * len(targets), len(pool)):
      ranks = generator.choice(len(pool), min(looked, len(pool)), replace=False)
      taken = [
        row
        for row in pool[ranks].tolist()
        if int(hashes[row]) not in target_hashes
      ][:wanted]
      if len(taken) == wanted:
        break
    return keep_fitting(taken, pool.sizes, self.lengths.demonstrations)


class _Pool:
  """The rows of a task that have room as a demonstration; indexed by rank."""

  def __init__(self, task: Task, room: int):
    self.sizes = joined_lengths(task)
    fits = self.sizes <= room
    self.num_too_long = int(len(fits) - fits.sum())
    # Where every row fits, which is usual, rank and row are the same.
    self._rows = None
    if self.num_too_long:
      few = len(fits) <= np.iinfo(np.int32).max
      self._rows = np.flatnonzero(fits).astype(np.int32 if few else np.int64)

  def __len__(self) -> int:
    return len(self.sizes) - self.num_too_long

  def __getitem__(self, ranks: np.ndarray) -> np.ndarray:
    return ranks if self._rows is None else self._rows[ranks]

  def has_distinct(self, hashes: np.ndarray, count: int) -> bool:
    """Whether at least `count` of its rows differ."""
    for looked in (min(len(self), 64 * count), len(self)):
      if len(np.unique(hashes[self[np.arange(looked)]])) >= count:
        return True
    return False


def keep_fitting(
  rows: Sequence[int], sizes: np.ndarray, room: int
) -> tuple[np.ndarray, int]:
  """Those of `rows`, in order, that fit in `room` together; how many do not.

  Half a demonstration teaches a wrong label, so none is cut.
  """
  kept = []
  for row in rows:
    if sizes[row] <= room:
      kept.append(row)
      room -= int(sizes[row])
  return np.asarray(kept, np.int64), len(rows) - len(kept)


def join(task: Task, rows: Sequence[int] | np.ndarray) -> np.ndarray:
  """Demonstrations as the hypermodel reads them: input, end, output, end, ..."""
  parts, end = [], _separator(task)
  for row in rows:
    for feature in (INPUTS, TARGETS):
      ids = task.rows.row(row, feature)
      parts.append(ids)
      if not len(ids) or ids[-1] != end:
        parts.append(np.asarray([end], np.int32))
  return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def split_joined(
  task: Task, rows: Sequence[int] | np.ndarray, ids: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Cuts what `join` made of `rows` into inputs and outputs, ends included.

  By the rows' lengths: an end of sequence may also stand inside a row.
  """
  lengths = []
  for row in rows:
    for feature in (INPUTS, TARGETS):
      own = task.rows.row(row, feature)
      is_closed = len(own) > 0 and own[-1] == _separator(task)
      lengths.append(len(own) + (not is_closed))
  parts = np.split(ids, np.cumsum(lengths, dtype=np.int64))[:-1]
  return list(zip(parts[::2], parts[1::2], strict=True))


def joined_lengths(task: Task) -> np.ndarray:
  """Tokens that each row takes as a demonstration, int32 [rows]."""
  end = _separator(task)
  total = np.empty(len(task.rows), np.int32)
  for first, last in row_arrays.blocks(len(total)):
    inputs, targets = (
      task.rows.closed_lengths(feature, end, first, last)
      for feature in (INPUTS, TARGETS)
    )
    total[first:last] = inputs + targets
  return total


def _separator(task: Task) -> int:
  return 1 if task.eos_id is None else task.eos_id


def _check_rows(task: Task, few_shot: FewShot) -> None:
  for feature in (INPUTS, TARGETS):
    if feature not in task.rows.features:
      raise ValueError(
        f"task {task.name!r} has no feature {feature!r}: only text-to-text "
        f"tasks make episodes, its features are {task.rows.features}"
      )
  needed = few_shot.num_targets + 1
  if len(task.rows) < needed:
    raise ValueError(
      f"task {task.name!r}, split {task.split!r}, has {len(task.rows)} rows; "
      f"an episode needs {needed}: {few_shot.num_targets} targets and a "
      "demonstration"
    )
  hashes, count = task.rows.hashes, len(task.rows)
  if all(
    (hashes[first:last] == hashes[0]).all()
    for first, last in row_arrays.blocks(count)
  ):
    raise ValueError(
      f"task {task.name!r}, split {task.split!r}: all {len(task.rows)} rows "
      "have the same input, so no demonstration differs from a target"
    )


def _able(
  tasks: Sequence[Task],
  pools: Sequence[_Pool],
  few_shot: FewShot,
  room: int,
) -> list[int]:
  """Tasks whose every episode finds a demonstration; the others are named.

  With one more differing row that fits than there are targets, one is left
  whatever the targets are.
  """
  needed = few_shot.num_targets + 1
  kept, left_out = [], []
  for i, (task, pool) in enumerate(zip(tasks, pools, strict=True)):
    is_able = pool.has_distinct(task.rows.hashes, needed)
    (kept if is_able else left_out).append(i)
  if not kept:
    shortest = min(int(pool.sizes.min()) for pool in pools)
    raise ValueError(
      f"TASK_FEATURE_LENGTHS['demonstrations'] is {room}, which leaves no "
      f"room for a single demonstration: {needed} of a task must fit, and the "
      f"shortest of all has {shortest} tokens"
    )
  if left_out:
    _log.warning(
      "%d of %d tasks are left out: fewer than %d different demonstrations "
      "fit in %d tokens (TASK_FEATURE_LENGTHS['demonstrations']): %s",
      len(left_out),
      len(tasks),
      needed,
      room,
      ", ".join(tasks[i].name for i in left_out),
    )
  num_long = sum(pools[i].num_too_long for i in kept)
  if num_long:
    total = sum(len(tasks[i].rows) for i in kept)
    _log.info(
      "%d of %d rows are too long for a demonstration of %d tokens; they are "
      "targets only",
      num_long,
      total,
      room,
    )
  return kept
