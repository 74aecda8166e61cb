"""A task's instruction (its Definition): who reads it, and in how much room.

The hypermodel reads it before the demonstrations, closed by an end of sequence;
the backbone before the input, as one text with it. It never takes more than half
of a row that it shares, so that demonstrations and inputs keep theirs: what is
longer loses its end, and is counted.
"""

import logging
from collections.abc import Sequence
from typing import Annotated

import numpy as np

from hyperjax import checks
from hyperjax.batch import Lengths
from hyperjax.data.store.store import Task

HYPERMODEL, BACKBONE = "hypermodel", "backbone"
READERS = (HYPERMODEL, BACKBONE)
Readers = Annotated[Sequence[str], checks.Some(READERS)]

_log = logging.getLogger(__name__)
_NOTHING = np.zeros(0, np.int32)


def check_tasks(
  tasks: Sequence[Task], readers: Sequence[str], low: int, lengths: Lengths
) -> None:
  """Says how many tasks have no instruction, or a longer one than has room.

  Args:
    tasks: whose instructions are read.
    readers: of them.
    low: the fewest demonstrations beside one.
    lengths: of what the models read.

  Raises:
    ValueError: none has one, or one has none where nothing else is read.
  """
  if not readers:
    return
  without = [task.name for task in tasks if task.instruction is None]
  if without and (len(without) == len(tasks) or low < 1):
    raise ValueError(
      f"task {without[0]!r} (and {len(without) - 1} more of {len(tasks)}) has "
      "no instruction, which instruction_readers = "
      f"{list(readers)} asks for: its seqio source says none"
    )
  if without:
    _log.warning(
      "%d of %d tasks have no instruction: %s ...",
      len(without),
      len(tasks),
      ", ".join(without[:5]),
    )
  most = _most(lengths)
  long = [
    task.name
    for task in tasks
    if task.instruction is not None and len(task.instruction) + 1 > most
  ]
  if HYPERMODEL in readers and long:
    _log.warning(
      "the instructions of %d of %d tasks are cut to %d tokens by "
      "TASK_FEATURE_LENGTHS['demonstrations']: %s ...",
      len(long),
      len(tasks),
      most,
      ", ".join(long[:5]),
    )


def for_hypermodel(
  task: Task, readers: Sequence[str], lengths: Lengths
) -> np.ndarray:
  """What the hypermodel reads before demonstrations; empty if nothing."""
  if HYPERMODEL not in readers or task.instruction is None:
    return _NOTHING
  return np.append(task.instruction[: max(_most(lengths) - 1, 0)], task.end_id)


def _most(lengths: Lengths) -> int:
  """Ids that an instruction may take: half of a row, or one of its own."""
  if lengths.are_separate:
    return lengths.demonstrations
  return lengths.demonstrations // 2


def for_backbone(
  task: Task, inputs: np.ndarray, readers: Sequence[str], room: int
) -> np.ndarray:
  """An input as the backbone reads it, not yet trimmed to `room`."""
  before = _before_inputs(task, readers, room)
  return np.concatenate([before, inputs]) if len(before) else inputs


def num_before_inputs(task: Task, readers: Sequence[str], room: int) -> int:
  """Ids that the backbone reads before each input of a task."""
  return len(_before_inputs(task, readers, room))


def _before_inputs(task: Task, readers: Sequence[str], room: int) -> np.ndarray:
  if BACKBONE not in readers or task.instruction is None:
    return _NOTHING
  return task.instruction[: room // 2]
