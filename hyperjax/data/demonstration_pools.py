"""Where an episode's demonstrations come from: the rows of a task that have room."""

import logging
from collections.abc import Sequence

import numpy as np

from hyperjax.data import joining
from hyperjax.data.joining import INPUTS, TARGETS
from hyperjax.data.store import row_arrays
from hyperjax.data.store.store import Task

_log = logging.getLogger(__name__)


class Pool:
  """The rows of a task that have room as a demonstration; indexed by rank."""

  def __init__(self, task: Task, room: joining.Room):
    self.task, self.room = task, room
    self.sizes = joining.joined_lengths(task)
    fits = self.sizes <= self.room.num_ids
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

  @property
  def num_fitting(self) -> int:
    """How many have room together, if they are as long as they are on average."""
    room = self.room
    if room.num_separate is not None:
      return max(1, room.num_separate)
    fits = self.sizes <= room.num_ids
    total = int(self.sizes.sum(where=fits, dtype=np.int64))
    return max(1, room.num_ids * len(self) // max(1, total))

  def always_gives(self, task: Task, num_targets: int) -> bool:
    """Whether a row is left that differs from any `num_targets` rows of `task`.

    So it is with one more differing row than there are targets.
    """
    hashes = self.task.rows.hashes
    for looked in (min(len(self), 64 * (num_targets + 1)), len(self)):
      if len(np.unique(hashes[self[np.arange(looked)]])) > num_targets:
        return True
    if self.task is task:
      return False
    own = hashes[self[np.arange(len(self))]]
    return not np.isin(own, task.rows.hashes).all()


def check_rows(
  task: Task, pool: Task, num_targets: int, is_shown: bool
) -> None:
  """Refuses a task that has too few rows for an episode.

  Args:
    task: whose rows are targets.
    pool: where its demonstrations come from.
    num_targets: of an episode.
    is_shown: whether it has demonstrations.

  Raises:
    ValueError: as it says.
  """
  for feature in (INPUTS, TARGETS):
    if feature not in task.rows.features:
      raise ValueError(
        f"task {task.name!r} has no feature {feature!r}: only text-to-text "
        f"tasks make episodes, its features are {task.rows.features}"
      )
  if len(task.rows) < num_targets or not len(pool.rows):
    raise ValueError(
      f"task {task.name!r} has {len(task.rows)} rows in split {task.split!r} "
      f"and {len(pool.rows)} in split {pool.split!r}; an episode needs "
      f"{num_targets} targets and a demonstration"
    )
  if pool is not task or not is_shown:
    return
  needed = num_targets + 1
  if len(task.rows) < needed:
    raise ValueError(
      f"task {task.name!r}, split {task.split!r}, has {len(task.rows)} rows; "
      f"an episode needs {needed}: {num_targets} targets and a "
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


def able(
  tasks: Sequence[Task], pools: Sequence[Pool], num_targets: int, room: int
) -> list[int]:
  """Tasks whose every episode finds a demonstration; the others are named.

  Raises:
    ValueError: there is none.
  """
  needed = num_targets + 1
  kept, left_out = [], []
  for i, (task, pool) in enumerate(zip(tasks, pools, strict=True)):
    is_able = pool.always_gives(task, num_targets)
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
