"""MetaICL as its authors score it (Min et al., 2022).

The source is facebookresearch/MetaICL: `MetaICLData.evaluate` for one task and
seed, test.py for the files of predictions, and the README for the figures of a
setting: for each task the mean and the worst over seeds, of macro-F1 where it is
classification and of accuracy elsewhere, then the mean over tasks.

No target of the released settings is free-form: test.py chooses among options, of
which it wants two or more. Such a task in a setting of one's own is scored by the
same `evaluate`, so by accuracy of whole texts, with ROUGE-L beside it.
"""

import dataclasses
import pathlib
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax.data import files
from hyperjax.evaluation import score
from hyperjax.evaluation.official import report

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


def evaluate(
  predictions: Sequence[str], truths: Sequence[Truth], is_classification: bool
) -> float:
  """Macro-F1 over the classes of the truths, or accuracy; from 0 to 1.

  A prediction of a class that no truth has only costs recall. White space
  around texts does not count. A truth of several strings, which only accuracy
  knows, is met by any of them.
  """
  pairs = [
    (prediction.strip(), _stripped(truth))
    for prediction, truth in zip(predictions, truths, strict=True)
  ]
  if not is_classification:
    hits = [
      prediction == truth if isinstance(truth, str) else prediction in truth
      for prediction, truth in pairs
    ]
    return sum(hits) / len(hits)
  classes = list(dict.fromkeys(truth for _, truth in pairs))
  return sum(_f1(pairs, label) for label in classes) / len(classes)


def _f1(pairs: Sequence[tuple[str, Truth]], label: Truth) -> float:
  num_predicted = sum(prediction == label for prediction, _ in pairs)
  num_true = sum(truth == label for _, truth in pairs)
  num_right = sum(prediction == truth == label for prediction, truth in pairs)
  return 2 * num_right / (num_predicted + num_true)


def _stripped(truth: Truth) -> Truth:
  if isinstance(truth, str):
    return truth.strip()
  return tuple(text.strip() for text in truth)


def score_files(
  paths: Sequence[pathlib.Path],
  folder: pathlib.Path | None = None,
  setting: str | None = None,
) -> report.Report:
  """Figures of files of predictions.

  Args:
    paths: of test.py's .txt files, with a prediction on each line, or of JSON
      lines that are MetaICL's own with a `prediction` and a `seed` added; or
      folders of them.
    folder: MetaICL's, of `data/` and `config/`. JSON lines need none where they
      have a `task_type`.
    setting: of `folder`, the one whose target tasks are scored.

  Raises:
    ValueError: a file is broken, a task is unknown or given twice, or has more
      or fewer predictions than test lines.
  """
  runs: dict[tuple[str, str], Run] = {}
  for path in report.prediction_files(paths, (".txt", ".jsonl")):
    if path.suffix == ".txt":
      _read_text(path, folder, runs)
    else:
      _read_json_lines(path, folder, runs)
  return score_runs(runs, *_setting(folder, setting))


def score_runs(
  runs: Mapping[tuple[str, str], Run],
  wanted: Sequence[str] | None = None,
  unseen: Sequence[str] = (),
) -> report.Report:
  """Figures of runs by task and seed.

  Args:
    runs: by (task, seed).
    wanted: tasks that count, all of which must be there; by default all.
    unseen: those whose domain no training task has, which get a mean too.

  Raises:
    ValueError: a task that is wanted has no predictions.
  """
  present = sorted({task for task, _ in runs})
  names = present if wanted is None else list(wanted)
  missing = [name for name in names if name not in present]
  if missing:
    raise ValueError(
      f"no predictions of {len(missing)} of the setting's {len(names)} tasks: "
      f"{', '.join(missing[:5])}"
    )
  notes = []
  if len(names) < len(present):
    others = [name for name in present if name not in names]
    notes.append(
      "left out, since the setting lacks them: "
      f"{report.counted(len(others), 'task')} ({', '.join(others[:5])})"
    )
  tasks, by_seed = {}, {}
  for name in names:
    own = {seed: run for (task, seed), run in runs.items() if task == name}
    tasks[name], by_seed[name] = _of_task(own)
  overall = _mean(tasks)
  groups = {"tasks": tasks}
  free_form = {name: _rouge_l(name, runs) for name in names}
  free_form = {name: row for name, row in free_form.items() if row}
  if free_form:
    groups["free-form"] = free_form
  if unseen:
    domains = {"unseen": _mean({name: tasks[name] for name in unseen})}
    groups = {"domains": domains, **groups}
  notes += _notes({key: run for key, run in runs.items() if key[0] in tasks})
  return report.Report(
    "metaicl", overall, groups, notes, extra={"seeds": by_seed}
  )


def _of_task(
  own: Mapping[str, Run],
) -> tuple[dict[str, Any], dict[str, float]]:
  task_type = next(iter(own.values())).task_type
  is_classification = task_type == "classification"
  values = {
    seed: 100
    * evaluate(own[seed].predictions, own[seed].truths, is_classification)
    for seed in sorted(own, key=lambda seed: (len(seed), seed))
  }
  figures = {
    "metric": "macro-F1" if is_classification else "accuracy",
    "mean": sum(values.values()) / len(values),
    "worst": min(values.values()),
    "seeds": len(values),
    "predictions": sum(len(run.predictions) for run in own.values()),
  }
  return figures, values


def _rouge_l(name: str, runs: Mapping[tuple[str, str], Run]) -> dict[str, Any]:
  """Mean over seeds of a free-form task's ROUGE-L; nothing of another task."""
  values = [
    statistics.fmean(
      score.rouge_l(prediction, [truth] if isinstance(truth, str) else truth)
      for prediction, truth in zip(run.predictions, run.truths, strict=True)
    )
    for (task, _), run in runs.items()
    if task == name and run.task_type == "free-form"
  ]
  return {"rougeL": 100 * statistics.fmean(values)} if values else {}


def _mean(tasks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
  figures: dict[str, Any] = {
    name: sum(row[name] for row in tasks.values()) / len(tasks)
    for name in ("mean", "worst")
  }
  return {**figures, "tasks": len(tasks)}


def _notes(runs: Mapping[tuple[str, str], Run]) -> list[str]:
  notes = []
  seeds = {seed for _, seed in runs}
  short = sorted(
    {task for task, _ in runs}
    - {task for task, _ in runs if all((task, seed) in runs for seed in seeds)}
  )
  if short:
    notes.append(
      f"fewer seeds than the {len(seeds)} of others: "
      f"{report.counted(len(short), 'task')} ({', '.join(short[:5])})"
    )
  strange = [run for run in runs.values() if run.num_strange]
  if strange:
    number = sum(run.num_strange for run in strange)
    notes.append(
      "none of their options, so wrong: "
      f"{report.counted(number, 'prediction')}, such as in {strange[0].where}"
    )
  blank = [run for run in runs.values() if run.num_blank]
  if blank:
    number = sum(run.num_blank for run in blank)
    notes.append(
      "blank right answers, which a blank prediction meets: "
      f"{report.counted(number, 'line')}, such as in {blank[0].where}"
    )
  return notes


def _setting(
  folder: pathlib.Path | None, setting: str | None
) -> tuple[list[str] | None, list[str]]:
  """Target tasks of a setting, and those of unseen domains."""
  if setting is None:
    return None, []
  if folder is None:
    raise ValueError("--setting needs --data_dir, the folder of config/")
  path = folder / "config" / f"{setting}.json"
  if not path.is_file():
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
  if not path.is_file():
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


def _read_text(
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
  if not gold.is_file():
    raise ValueError(
      f"{path}: there is no file {gold}, the task's right answers"
    )
  if not path.stat().st_size:
    raise ValueError(f"{path} is empty")
  predictions = files.read_lines(path)
  lines = list(report.rows(gold))
  if len(predictions) != len(lines):
    raise ValueError(
      f"{path} has {report.counted(len(predictions), 'prediction')}, but "
      f"{gold} has {report.counted(len(lines), 'line')}"
    )
  for text, (where, row) in zip(predictions, lines, strict=True):
    if files.text_field(row, "task", where) != task:
      raise ValueError(f"{where}: 'task' must be {task!r}, got {row['task']!r}")
    options = files.text_list(row, "options", where)
    if len(options) < 2 and (options or run.task_type != "free-form"):
      raise ValueError(f"{where} has fewer than two options: {options}")
    _add(run, text, row, where)
  runs[key] = run


def _read_json_lines(
  path: pathlib.Path,
  folder: pathlib.Path | None,
  runs: dict[tuple[str, str], Run],
) -> None:
  """MetaICL's own lines, each with a `prediction` and perhaps a `seed`."""
  own: dict[tuple[str, str], Run] = {}
  for where, row in report.rows(path):
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
  if not gold.is_file():
    return
  number = sum(1 for _ in report.rows(gold))
  if number != len(run.predictions):
    raise ValueError(
      f"{run.where}: task {task!r} with seed {seed} has "
      f"{report.counted(len(run.predictions), 'prediction')}, but {gold} has "
      f"{report.counted(number, 'line')}"
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
