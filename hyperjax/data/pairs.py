"""Text-to-text rows by index, without demonstrations."""

import dataclasses
import zlib
from collections.abc import Sequence

import numpy as np

from hyperjax import checks
from hyperjax.batch import PAD_ID, Context, Lengths, Sizes, pad_demonstrations
from hyperjax.data import instructions, joining, order, reading
from hyperjax.data.joining import INPUTS, TARGETS
from hyperjax.data.order import Stream
from hyperjax.data.store.store import Task


class Pairs:
  """Rows of some tasks, each by its rate; an epoch meets every row once."""

  def __init__(self, tasks: Sequence[Task], lengths: Lengths, seed: int = 0):
    self.lengths = lengths
    self.num_skipped = 0
    self.tasks, self._seed = list(tasks), seed
    check_pairs(self.tasks)
    self._order = order.TaskOrder([task.rate for task in self.tasks], seed)

  def task_of(self, index: int) -> Task:
    """The task of a pair."""
    return self.row(index)[0]

  def __getitem__(self, index: int) -> Context:
    task, row = self.row(index)
    return read(task, [row], self.lengths)

  def sizes(self, index: int) -> Sizes:
    """Tokens of a pair, of which none is read."""
    task, row = self.row(index)
    return Sizes(*reading.longest_rows(task, [row], self.lengths, ()))

  def row(self, index: int) -> tuple[Task, int]:
    """The task of a pair, and which of its rows the pair is."""
    which, count = self._order[index]
    task = self.tasks[which]
    epoch, position = divmod(count, len(task.rows))
    row = order.permuted_one(
      position, len(task.rows), self._seed, Stream.PAIRS, which, epoch
    )
    return task, row


@dataclasses.dataclass(frozen=True)
class PerTask:
  """What is taken of each of some tasks side by side.

  `rows` (G) are in each context, of `max_rows` that are used at all, drawn by
  the seed (None: of all). A hypermodel that writes their adapters is shown at
  most `num_demonstrations` of these. `instruction_readers` are as in episodes.
  """

  rows: checks.Count
  max_rows: checks.Count | None = None
  num_demonstrations: checks.Count = 16
  instruction_readers: instructions.Readers = ()

  def __post_init__(self):
    checks.fields(self)


class SideBySide:
  """The rows of some tasks in turn: context i is of task i % C.

  An epoch of a task meets every row once. What a task's contexts hold depends on
  its name and its rows alone, not on the tasks beside it.
  """

  def __init__(
    self,
    tasks: Sequence[Task],
    lengths: Lengths,
    per_task: PerTask,
    seed: int = 0,
  ):
    self.tasks, self.lengths = list(tasks), lengths
    self.num_skipped = 0
    self._per_task, self._seed = per_task, seed
    check_pairs(self.tasks)
    instructions.check_tasks(tasks, self.instruction_readers, 1, lengths)
    self._own = []  # the rows used of each task
    for task in self.tasks:
      count = min(len(task.rows), per_task.max_rows or len(task.rows))
      key = (seed, Stream.ROWS_SIDE_BY_SIDE, _number(task))
      self._own.append(order.permuted(np.arange(count), len(task.rows), *key))

  @property
  def instruction_readers(self) -> Sequence[str]:
    return self._per_task.instruction_readers

  def __getitem__(self, index: int) -> Context:
    task, rows = self.rows(index)
    return read(task, rows, self.lengths, self.instruction_readers)

  def task_of(self, index: int) -> Task:
    """The task of a context."""
    return self.tasks[index % len(self.tasks)]

  def rows(self, index: int) -> tuple[Task, list[int]]:
    """The task of a context, and which of its rows it holds."""
    group, which = divmod(index, len(self.tasks))
    task, own = self.tasks[which], self._own[which]
    size, rows = self._per_task.rows, []
    for count in range(group * size, (group + 1) * size):
      epoch, position = divmod(count, len(own))
      key = (self._seed, Stream.EPOCHS_SIDE_BY_SIDE, _number(task), epoch)
      rows.append(int(own[order.permuted_one(position, len(own), *key)]))
    return task, rows

  def demonstrations(self, pad_id: int = PAD_ID) -> np.ndarray:
    """What a hypermodel writes each task's adapter from: [C, S] or [C, N, S].

    Of the first rows used those that fit together, after the instruction.

    Raises:
      ValueError: of a task none fits.
    """
    shown, most = [], self._per_task.num_demonstrations
    for task, own in zip(self.tasks, self._own, strict=True):
      room = joining.Room.of(task, self.instruction_readers, self.lengths)
      kept, _ = room.keep_fitting(
        own[:most].tolist(), joining.joined_lengths(task)
      )
      if not len(kept):
        raise ValueError(
          f"task {task.name!r}: none of {min(most, len(own))} demonstrations "
          f"fits in {room.num_ids} tokens "
          "(TASK_FEATURE_LENGTHS['demonstrations'])"
        )
      shown.append(room.place(task, kept))
    return pad_demonstrations(shown, self.lengths, pad_id)


def read(
  task: Task, rows: Sequence[int], lengths: Lengths, readers: Sequence[str] = ()
) -> Context:
  """Rows of a task without demonstrations, cut to `lengths`."""
  return Context(**reading.read_rows(task, rows, lengths, readers))


def _number(task: Task) -> int:
  """Of its name: no matter how many tasks stand beside it."""
  return zlib.crc32(task.name.encode())


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
