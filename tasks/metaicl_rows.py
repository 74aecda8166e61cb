"""Rows of MetaICL's files, as seqio tasks have them (Min et al., 2022)."""

import dataclasses
import logging
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from hyperjax.data import files

_log = logging.getLogger(__name__)

READER = 1  # of the rows below: stored tokens are made again when it changes
TARGET_K = 16
CLASSIFICATION, MULTI_CHOICE, FREE_FORM = TASK_TYPES = (
  "classification",
  "multi-choice",
  "free-form",
)
FIELDS = {
  "inputs": 0,
  "targets": 0,
  "references": 1,
  "choices": 1,
  "task_type": 0,
  "id": 0,
}
_BLANK = "a blank output"
_FEW = "fewer than two options"
_FOREIGN = "an output that is not among the options"


@dataclasses.dataclass(frozen=True)
class Task:
  """What a task's config says, and its files."""

  name: str
  task_type: str
  options: list[str] | None  # of a classification task
  config: pathlib.Path
  paths: Mapping[str, pathlib.Path]  # by split


def made_of(task: Task, split: str) -> Any:
  return {
    "metaicl": READER,
    "file": files.stamp(task.paths[split]),
    "config": files.stamp(task.config),
    "split": split,
  }


def read(task: Task, split: str) -> Iterator[dict[str, Any]]:
  """Rows of a file. Faults of a target's are refused, as MetaICL does.

  In meta-training, lines that teach nothing or something wrong are left out and
  counted. Lines without options are counted and kept: MetaICL writes them
  itself (of UnifiedQA, and where it finds no "(A)"), and learns from them.
  """
  path, num_lines = task.paths[split], 0
  faulty: dict[str, list[int]] = {}
  for number, line in files.read_json_lines(path):
    num_lines += 1
    where = f"{path}, line {number}"
    row = _row(task, line, where) | {"id": f"{path.name}:{number}"}
    fault = _fault(row)
    if fault and split != "train":
      raise ValueError(
        f"{where} has {fault}: output {row['targets']!r}, options "
        f"{row['choices']}"
      )
    if fault:
      faulty.setdefault(fault, []).append(number)
    if not fault or fault == _FEW:
      yield row
  if not num_lines:
    raise ValueError(f"{path} is empty")
  if split.startswith("train_") and num_lines != TARGET_K:
    raise ValueError(
      f"{path} has {num_lines} lines; a target task has exactly {TARGET_K} to "
      "draw from"
    )
  for fault, numbers in faulty.items():
    _log.warning(
      "%s: %d of %d lines have %s and are %s; the first is line %d",
      path,
      len(numbers),
      num_lines,
      fault,
      "kept" if fault == _FEW else "left out",
      numbers[0],
    )


def _row(task: Task, line: Any, where: str) -> dict[str, Any]:
  """A line's texts as they are: " [SEP] " and outer white space too."""
  name = files.text_field(line, "task", where)
  if name != task.name:
    raise ValueError(f"{where}: 'task' must be {task.name!r}, got {name!r}")
  references = _references(task, line, where)
  choices = files.text_list(line, "options", where)
  if task.options is not None and choices and choices != task.options:
    raise ValueError(
      f"{where}: 'options' must be those of {task.config}, {task.options}, "
      f"got {choices}"
    )
  return {
    "inputs": files.text_field(line, "input", where),
    "targets": references[0],
    "references": references,
    "choices": choices,
    "task_type": task.task_type,
  }


def _references(task: Task, line: Any, where: str) -> list[str]:
  """The output. Of a free-form task a list is alternatives, as in scoring;
  and of alternatives joined by tabs the first is taken, as in preprocessing.
  """
  output = files.field(line, "output", where)
  if task.task_type != FREE_FORM:
    return [files.text_field(line, "output", where)]
  if isinstance(output, list) and output:
    return files.text_list(line, "output", where)
  return [files.text_field(line, "output", where).split("\t")[0]]


def _fault(row: Mapping[str, Any]) -> str | None:
  """What makes a row one that cannot be scored."""
  output, choices = row["targets"], row["choices"]
  if not output.strip():
    return _BLANK
  if not choices and row["task_type"] == FREE_FORM:
    return None
  if len(choices) < 2:
    return _FEW
  return None if output in choices else _FOREIGN
