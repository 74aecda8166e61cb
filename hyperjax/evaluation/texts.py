"""Rows of tasks as texts: what is read, and what is right."""

import json
from collections.abc import Sequence
from typing import Any

from hyperjax.data import joining
from hyperjax.data.store.store import Task
from hyperjax.data.vocabulary import Vocabulary


def references(task: Task, row: int) -> list[str]:
  """All right answers, the stored target where there is no list of them."""
  listed = task.rows.record(row).get("references")
  if listed is not None:
    return listed  # P3 has examples none of whose choices is right
  return [text(task, row, joining.TARGETS)]


def text(task: Task, row: int, feature: str) -> str:
  """A feature of a row as it was before it was tokenised, if that was kept."""
  kept = task.rows.record(row).get(f"{feature}_pretokenized")
  if kept is not None:
    return kept
  return decode(task.vocabulary, task.rows.row(row, feature))


def decode(vocabulary: Vocabulary | None, ids: Any) -> str:
  """Text of token ids; their numbers where there is no tokenizer."""
  if vocabulary is None:
    return " ".join(map(str, ids))
  return vocabulary.decode(ids)


def vocabulary(where: str, tasks: Sequence[Task]) -> Vocabulary | None:
  """The one vocabulary of all tasks: which ids may be decoded.

  Raises:
    ValueError: they have several; `where` says whose they are.
  """
  own = {
    json.dumps(None if found is None else found.description): found
    for found in (task.vocabulary for task in tasks)
  }
  if len(own) > 1:
    raise ValueError(
      f"{where}: its tasks have different vocabularies: {', '.join(own)}"
    )
  return next(iter(own.values()))


def check_records(where: str, tasks: Sequence[Task]) -> None:
  """Refuses tasks without records: a target may have several references there.

  Raises:
    ValueError: as it says; `where` says whose the tasks are.
  """
  for task in tasks:
    if task.rows.records is None:
      raise ValueError(
        f"{where}, task {task.name!r}: its tokens were stored without records, "
        "which hold all references; set SeqioTasks.keep_records for the targets"
      )
