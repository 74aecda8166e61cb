"""Rows of a task as the backbone meets them: their ids, or how many these are."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperjax.batch import Lengths, trim
from hyperjax.data import instructions
from hyperjax.data.joining import INPUTS, TARGETS
from hyperjax.data.store.store import Task


def read_rows(
  task: Task,
  rows: Sequence[int] | np.ndarray,
  lengths: Lengths,
  readers: Sequence[str],
) -> dict[str, Any]:
  """Inputs and targets of rows as the backbone meets them: lists of ids."""

  def read(feature: str, row: int) -> np.ndarray:
    ids, length = task.rows.row(row, feature), getattr(lengths, feature)
    if feature == INPUTS:
      ids = instructions.for_backbone(task, ids, readers, length)
    return trim(ids, length, task.eos_id)

  return {name: [read(name, row) for row in rows] for name in (INPUTS, TARGETS)}


def longest_rows(
  task: Task,
  rows: Sequence[int] | np.ndarray,
  lengths: Lengths,
  readers: Sequence[str],
) -> tuple[int, int]:
  """Ids of the longest input and target that `read_rows` gives."""
  inputs, targets = (
    max(task.rows.length(int(row), name) for row in rows)
    for name in (INPUTS, TARGETS)
  )
  inputs += instructions.num_before_inputs(task, readers, lengths.inputs)
  return min(inputs, lengths.inputs), min(targets, lengths.targets)
