"""Text-to-text rows by index, without demonstrations."""

import zlib
from collections.abc import Sequence

import numpy as np

from hyperjax.batch import Context, Lengths, pad, trim
from hyperjax.data import episodes, order
from hyperjax.data.episodes import INPUTS, TARGETS
from hyperjax.data.store import Task


class Pairs:
  """Rows of some tasks, each by its rate; an epoch meets every row once."""

  def __init__(self, tasks: Sequence[Task], lengths: Lengths, seed: int = 0):
    self.lengths = lengths
    self.num_skipped = 0
    self.tasks, self._seed = list(tasks), seed
    check_pairs(self.tasks)
    self._order = order.TaskOrder([task.rate for task in self.tasks], seed)

  def __getitem__(self, index: int) -> Context:
    task, row = self.row(index)
    return read(task, [row], self.lengths)

  def row(self, index: int) -> tuple[Task, int]:
    """The task of a pair, and which of its rows the pair is."""
    which, count = self._order[index]
    task = self.tasks[which]
    epoch, position = divmod(count, len(task.rows))
    row = order.permuted_one(
      position, len(task.rows), self._seed, 8, which, epoch
    )
    return task, row


class SideBySide:
  """The rows of some tasks in turn: context i is of task i % C, with G rows.

  An epoch of a task meets every row once. What a task's contexts hold depends on
  its name and its rows alone, not on the tasks beside it.

  Args:
    tasks: C of them.
    lengths: that inputs and targets are cut to.
    rows_per_task: G.
    max_rows: how many rows of each task are used, drawn by the seed; None for
      all.
    num_demonstrations: of these, how many a hypermodel is shown at most.
    seed: of the draw and the order.
  """

  def __init__(
    self,
    tasks: Sequence[Task],
    lengths: Lengths,
    rows_per_task: int,
    max_rows: int | None = None,
    num_demonstrations: int = 16,
    seed: int = 0,
  ):
    self.tasks, self.lengths = list(tasks), lengths
    self.num_skipped = 0
    self._num_demonstrations = num_demonstrations
    self._rows_per_task, self._seed = rows_per_task, seed
    check_pairs(self.tasks)
    self._own = []  # the rows used of each task
    for task in self.tasks:
      count = min(len(task.rows), max_rows or len(task.rows))
      key = (seed, 12, zlib.crc32(task.name.encode()))
      self._own.append(order.permuted(np.arange(count), len(task.rows), *key))

  def __getitem__(self, index: int) -> Context:
    task, rows = self.rows(index)
    return read(task, rows, self.lengths)

  def rows(self, index: int) -> tuple[Task, list[int]]:
    """The task of a context, and which of its rows it holds."""
    group, which = divmod(index, len(self.tasks))
    task, own = self.tasks[which], self._own[which]
    rows = []
    for count in range(self._rows_per_task):
      epoch, position = divmod(group * self._rows_per_task + count, len(own))
      key = (self._seed, 13, zlib.crc32(task.name.encode()), epoch)
      rows.append(int(own[order.permuted_one(position, len(own), *key)]))
    return task, rows

  def demonstrations(self) -> np.ndarray:
    """What a hypermodel writes each task's adapter from, int32 [C, S].

    Of the first `num_demonstrations` rows used those that fit together.

    Raises:
      ValueError: of a task none fits.
    """
    room, most, joined = (
      self.lengths.demonstrations,
      self._num_demonstrations,
      [],
    )
    for task, own in zip(self.tasks, self._own, strict=True):
      sizes = episodes.joined_lengths(task)
      kept, _ = episodes.keep_fitting(own[:most].tolist(), sizes, room)
      if not len(kept):
        raise ValueError(
          f"task {task.name!r}: none of {min(most, len(own))} demonstrations "
          f"fits in {room} tokens (TASK_FEATURE_LENGTHS['demonstrations'])"
        )
      joined.append(episodes.join(task, kept))
    return pad(joined, room)


def read(task: Task, rows: Sequence[int], lengths: Lengths) -> Context:
  """Rows of a task, cut to `lengths`."""

  def cut(feature: str, length: int) -> list[np.ndarray]:
    return [trim(task.rows.row(i, feature), length, task.eos_id) for i in rows]

  return Context(
    inputs=cut(INPUTS, lengths.inputs), targets=cut(TARGETS, lengths.targets)
  )


def check_pairs(tasks: Sequence[Task]) -> None:
  """Refuses tasks without rows, or whose rows are no pairs."""
  for task in tasks:
    if not {INPUTS, TARGETS} <= set(task.rows.features):
      raise ValueError(
        f"task {task.name!r} has the features {task.rows.features}: rows of "
        f"{INPUTS!r} and {TARGETS!r} are needed"
      )
    if not len(task.rows):
      raise ValueError(f"task {task.name!r}, split {task.split!r}, is empty")
