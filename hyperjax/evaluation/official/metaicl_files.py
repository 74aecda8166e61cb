"""MetaICL's files: predictions of its test.py, its lines, its settings."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax.data import files
from hyperjax.scores import official_report

_TASK_TYPES = ("classification", "multi-choice", "free-form")


# test.py's names; without demonstrations they say neither k nor seed.
_NAME = re.compile(
  r"(?P<task>.+)-(?P<split>test|dev)-(?P<method>direct|channel)"
  r"(-k=(?P<k>\d+))?(-s=(?P<seed>\d+))?"
  r"(-no-newlines)?(-randomEnglish)?(-calibrated)?\.txt"
)


_FIRST_SEED = "100"  # the test set is the same for every seed


_NO_SEED = "-"


Truth = str | Sequence[str]


@dataclasses.dataclass
class Run:
  """Predictions of one task with the demonstrations of one seed."""

  where: str  # its first prediction
  task_type: str
  predictions: list[str] = dataclasses.field(default_factory=list)
  truths: list[Truth] = dataclasses.field(default_factory=list)
  num_strange: int = 0  # predictions that are none of their options
  num_blank: int = 0  # truths without any text


def setting_tasks(
  folder: pathlib.Path | None, setting: str | None
) -> tuple[list[str] | None, list[str]]:
  """Target tasks of a setting, and those of unseen domains."""
  if setting is None:
    return None, []
  if folder is None:
    raise ValueError("--setting needs --data_dir, the folder of config/")
  path = folder / "config" / f"{setting}.json"
  if not files.is_file(path):
    names = sorted(file.stem for file in path.parent.glob("*_to_*.json"))
    raise ValueError(
      f"--setting: there is no file {path}, only {', '.join(names) or 'none'}"
    )
  content = {"unseen_domain_test": []} | files.read_json(path)
  names = files.text_list(content, "test", str(path), at_least=1)
  unseen = files.text_list(content, "unseen_domain_test", str(path))
  if not set(unseen) <= set(names):
    raise ValueError(
      f"{path}: 'test' must name the tasks of 'unseen_domain_test' too"
    )
  for listed in (names, unseen):
    if len(set(listed)) < len(listed):
      raise ValueError(f"{path} names a task twice: {', '.join(listed)}")
  return names, unseen


def _task_type(task: str, folder: pathlib.Path | None, where: str) -> str:
  if folder is None:
    raise ValueError(
      f"{where}: --data_dir must name the folder of MetaICL's data/ and config/, "
      f"which says how task {task!r} is scored"
    )
  path = folder / "config" / "tasks" / f"{task}.json"
  if not files.is_file(path):
    raise ValueError(f"{where}: unknown task {task!r}: there is no file {path}")
  return _checked_type(
    files.field(files.read_json(path), "task_type", str(path)), str(path)
  )


def _checked_type(value: Any, where: str) -> str:
  if value not in _TASK_TYPES:
    raise ValueError(
      f"{where}: 'task_type' must be one of {', '.join(_TASK_TYPES)}, "
      f"got {value!r}"
    )
  return value


def read_text(
  path: pathlib.Path,
  folder: pathlib.Path | None,
  runs: dict[tuple[str, str], Run],
) -> None:
  """A file of test.py's: its name says task and seed, lines are predictions."""
  parts = _NAME.fullmatch(path.name)
  if parts is None:
    raise ValueError(
      f"{path}: the name must be as MetaICL's test.py writes it: "
      "TASK-test-direct-k=16-s=100.txt"
    )
  task, seed = parts["task"], parts["seed"]
  run = Run(str(path), _task_type(task, folder, str(path)))
  assert folder is not None  # _task_type refuses
  key = (task, seed or _NO_SEED)
  if key in runs:
    raise ValueError(
      f"{path}: task {task!r} with seed {key[1]} is given twice, first in "
      f"{runs[key].where}: give the files of one method"
    )
  name = f"{task}_{parts['k'] or 16}_{seed or _FIRST_SEED}_{parts['split']}"
  gold = folder / "data" / task / f"{name}.jsonl"
  if not files.is_file(gold):
    raise ValueError(
      f"{path}: there is no file {gold}, the task's right answers"
    )
  if not path.stat().st_size:
    raise ValueError(f"{path} is empty")
  predictions = files.read_lines(path)
  lines = list(official_report.rows(gold))
  if len(predictions) != len(lines):
    raise ValueError(
      f"{path} has {official_report.counted(len(predictions), 'prediction')}, but "
      f"{gold} has {official_report.counted(len(lines), 'line')}"
    )
  for text, (where, row) in zip(predictions, lines, strict=True):
    if files.text_field(row, "task", where) != task:
      raise ValueError(f"{where}: 'task' must be {task!r}, got {row['task']!r}")
    options = files.text_list(row, "options", where)
    if len(options) < 2 and (options or run.task_type != "free-form"):
      raise ValueError(f"{where} has fewer than two options: {options}")
    _add(run, text, row, where)
  runs[key] = run


def read_json_lines(
  path: pathlib.Path,
  folder: pathlib.Path | None,
  runs: dict[tuple[str, str], Run],
) -> None:
  """MetaICL's own lines, each with a `prediction` and perhaps a `seed`."""
  own: dict[tuple[str, str], Run] = {}
  for where, row in official_report.rows(path):
    key = (files.text_field(row, "task", where), _seed(row, where))
    if key in runs:
      raise ValueError(
        f"{where}: task {key[0]!r} with seed {key[1]} is given twice, first in "
        f"{runs[key].where}"
      )
    task_type = row.get("task_type")
    if task_type is not None:
      task_type = _checked_type(task_type, where)
    if key not in own:
      own[key] = Run(where, task_type or _task_type(key[0], folder, where))
    if task_type not in (None, own[key].task_type):
      raise ValueError(
        f"{where}: 'task_type' is {task_type!r}, in {own[key].where} it is "
        f"{own[key].task_type!r}"
      )
    _add(own[key], files.text_field(row, "prediction", where), row, where)
  if folder is not None:
    for (task, seed), run in own.items():
      _check_number(folder, task, seed, run)
  runs.update(own)


def _check_number(folder: pathlib.Path, task: str, seed: str, run: Run) -> None:
  """Refuses more or fewer predictions than the test lines that are there."""
  seed = _FIRST_SEED if seed == _NO_SEED else seed
  gold = folder / "data" / task / f"{task}_16_{seed}_test.jsonl"
  if not files.is_file(gold):
    return
  number = sum(1 for _ in official_report.rows(gold))
  if number != len(run.predictions):
    raise ValueError(
      f"{run.where}: task {task!r} with seed {seed} has "
      f"{official_report.counted(len(run.predictions), 'prediction')}, but {gold} has "
      f"{official_report.counted(number, 'line')}"
    )


def _seed(row: Mapping[str, Any], where: str) -> str:
  seed = row.get("seed", _NO_SEED)
  if isinstance(seed, bool) or not isinstance(seed, (int, str)):
    raise ValueError(f"{where}: 'seed' must be a number, got {seed!r}")
  return str(seed)


def _add(run: Run, prediction: str, row: Mapping[str, Any], where: str) -> None:
  """One prediction with its truth, which is one of the options if it has any."""
  truth = _truth(run.task_type, row, where)
  options = row.get("options")
  options = [] if options is None else files.text_list(row, "options", where)
  known = {option.strip() for option in options}
  right = [truth] if isinstance(truth, str) else truth
  if known and not any(text.strip() in known for text in right):
    raise ValueError(
      f"{where} has an output that is not among the options: output "
      f"{row['output']!r}, options {options}"
    )
  run.num_strange += bool(known) and prediction.strip() not in known
  run.num_blank += not any(text.strip() for text in right)
  run.predictions.append(prediction)
  run.truths.append(truth)


def _truth(task_type: str, row: Mapping[str, Any], where: str) -> Truth:
  """The output. A list, which no classification task has, is of alternatives;
  of alternatives joined by tabs the first is taken, as in preprocessing.
  """
  truth = files.field(row, "output", where)
  if isinstance(truth, list) and task_type != "classification":
    return files.text_list(row, "output", where, at_least=1)
  text = files.text_field(row, "output", where)
  return text.split("\t")[0] if task_type == "free-form" else text
