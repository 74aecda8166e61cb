"""Demonstrations as a hypermodel reads them, in the room that it has.

Joined in one row of ids, or each in a row of its own: see `Lengths`.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from hyperjax.batch import Lengths
from hyperjax.data import instructions
from hyperjax.data.store import row_arrays
from hyperjax.data.store.store import Task

INPUTS, TARGETS = "inputs", "targets"


@dataclasses.dataclass(frozen=True)
class Room:
  """What a hypermodel reads of a task: its instruction, then demonstrations.

  They are joined in one row of ids, or each is a row.
  """

  instruction: np.ndarray  # empty where none is read
  num_ids: int  # of demonstrations, all together or each
  num_separate: int | None = None  # rows of demonstrations; None where joined

  @classmethod
  def of(cls, task: Task, readers: Sequence[str], lengths: Lengths) -> "Room":
    """The room that a task's demonstrations have."""
    instruction = instructions.for_hypermodel(task, readers, lengths)
    room, taken = lengths.demonstrations, len(instruction)
    if lengths.are_separate:
      return cls(instruction, room, lengths.num_demonstrations - (taken > 0))
    return cls(instruction, room - taken)

  def keep_fitting(
    self, rows: Sequence[int], sizes: np.ndarray
  ) -> tuple[np.ndarray, int]:
    """Those of `rows`, in order, that fit in it together; how many do not.

    Half a demonstration teaches a wrong label, so none is cut.
    """
    if self.num_separate is None:
      return _keep_joined(rows, sizes, self.num_ids)
    kept = [row for row in rows if sizes[row] <= self.num_ids]
    kept = kept[: self.num_separate]
    return np.asarray(kept, np.int64), len(rows) - len(kept)

  def read_size(self, rows: np.ndarray, sizes: np.ndarray) -> tuple[int, int]:
    """Ids and rows of what `place` gives: of its longest row, where it has rows.

    Args:
      rows: demonstrations that fit.
      sizes: ids of every row as a demonstration.
    """
    own, before = sizes[rows], len(self.instruction)
    if self.num_separate is None:
      return before + int(own.sum()), 0
    return max(before, int(own.max(initial=0))), len(own) + (before > 0)

  def place(
    self,
    task: Task,
    rows: Sequence[int] | np.ndarray,
    outputs: Sequence[int] | np.ndarray | None = None,
  ) -> np.ndarray | list[np.ndarray]:
    """The ids that a hypermodel reads: one row, or one for each demonstration.

    `outputs` are the rows whose outputs are shown, by default each row's own.
    """
    outputs = rows if outputs is None else outputs
    if self.num_separate is None:
      return np.concatenate([self.instruction, join(task, rows, outputs)])
    rows_read = [
      join(task, [row], [output])
      for row, output in zip(rows, outputs, strict=True)
    ]
    if len(self.instruction):
      return [self.instruction, *rows_read]
    return rows_read


def check_separate_rows(
  most: int, readers: Sequence[str], lengths: Lengths
) -> None:
  """Refuses more demonstrations than there are rows to read them in.

  Raises:
    ValueError: as it says.
  """
  needed = most + (instructions.HYPERMODEL in readers)
  if lengths.are_separate and needed > lengths.num_demonstrations:
    raise ValueError(
      "TASK_FEATURE_LENGTHS['num_demonstrations'] is "
      f"{lengths.num_demonstrations} rows; {most} demonstrations"
      f"{' and an instruction' if needed > most else ''} take {needed}"
    )


def join(
  task: Task,
  rows: Sequence[int] | np.ndarray,
  outputs: Sequence[int] | np.ndarray | None = None,
) -> np.ndarray:
  """Demonstrations as the hypermodel reads them: input, end, output, end, ...

  `outputs` are the rows whose outputs stand there, by default each row's own.
  """
  parts, end = [], task.end_id
  for row, output in zip(
    rows, rows if outputs is None else outputs, strict=True
  ):
    for shown, feature in ((row, INPUTS), (output, TARGETS)):
      ids = task.rows.row(shown, feature)
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
      is_closed = len(own) > 0 and own[-1] == task.end_id
      lengths.append(len(own) + (not is_closed))
  parts = np.split(ids, np.cumsum(lengths, dtype=np.int64))[:-1]
  return list(zip(parts[::2], parts[1::2], strict=True))


def joined_lengths(task: Task) -> np.ndarray:
  """Tokens that each row takes as a demonstration, int32 [rows]."""
  end = task.end_id
  total = np.empty(len(task.rows), np.int32)
  for first, last in row_arrays.blocks(len(total)):
    inputs, targets = (
      task.rows.closed_lengths(feature, end, first, last)
      for feature in (INPUTS, TARGETS)
    )
    total[first:last] = inputs + targets
  return total


def _keep_joined(
  rows: Sequence[int], sizes: np.ndarray, room: int
) -> tuple[np.ndarray, int]:
  kept = []
  for row in rows:
    if sizes[row] <= room:
      kept.append(row)
      room -= int(sizes[row])
  return np.asarray(kept, np.int64), len(rows) - len(kept)
