"""P3's held-out tasks as T0's authors score them (Sanh et al., 2022).

The source is t5's metric `rank_classification`, with which
bigscience-workshop/t-zero registers P3's `*_score_eval` tasks: of the choices of
an example the one with the highest log-likelihood is the prediction, the first of
equal ones, and accuracy is over examples by weight. Log-likelihoods are summed
over tokens, as in T0, or divided by the number of target tokens, the metric's
`normalize_by_target_length`. The paper reports the median over the templates of a
data set, and their mean; the figure of all is the mean over data sets.
"""

import collections
import dataclasses
import math
import pathlib
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax.data import files
from hyperjax.scores import official_report, p3_sets

_ANLI_ROUNDS = 3
_MOST_TOKENS = 2**31
_STEP = re.compile(r"-(-?\d+)\.jsonl$")  # as seqio writes it; -1 is unknown


@dataclasses.dataclass(frozen=True)
class Choice:
  """One answer choice of an example with its score."""

  where: str
  is_correct: bool
  score: float  # summed log-likelihood
  weight: float = 1.0
  length: int | None = None  # target tokens, the end included


# Choice number -> choice, of one example; example number -> those, of a task.
Example = Mapping[int, Choice]
Examples = Mapping[int, Example]


def accuracy(examples: Examples, is_normalized: bool = False) -> float:
  """Percent of examples whose best choice is correct, by its weight."""
  right, total = 0.0, 0.0
  for choices in examples.values():
    best = max(sorted(choices), key=lambda i: _score(choices[i], is_normalized))
    right += choices[best].weight * choices[best].is_correct
    total += choices[best].weight
  return 100 * right / total


def _score(choice: Choice, is_normalized: bool) -> float:
  if not is_normalized:
    return choice.score
  assert choice.length is not None  # the caller has looked
  return choice.score / choice.length


def score_tasks(tasks: Mapping[str, Examples]) -> official_report.Report:
  """Figures by template and by data set, and over data sets.

  Raises:
    ValueError: no example of a task has any weight.
  """
  for task, examples in tasks.items():
    if not any(x.weight for row in examples.values() for x in row.values()):
      raise ValueError(f"every weight of task {task!r} is 0")
  has_lengths = all(
    choice.length is not None
    for examples in tasks.values()
    for choices in examples.values()
    for choice in choices.values()
  )
  kinds = {"": False, "_normalized": True} if has_lengths else {"": False}
  templates, sets = {}, collections.defaultdict(list)
  for task in sorted(tasks):
    figures: dict[str, Any] = {
      f"accuracy{kind}": accuracy(tasks[task], is_normalized)
      for kind, is_normalized in kinds.items()
    }
    templates[task] = {**figures, "examples": len(tasks[task])}
    sets[p3_sets.data_set(task) or task].append(figures)
  by_set = {name: _of_data_set(own, kinds) for name, own in sets.items()}
  counting = [row for name, row in by_set.items() if name in p3_sets.HELD_OUT]
  counting = counting or list(by_set.values())
  overall: dict[str, Any] = {
    name: statistics.fmean(row[name] for row in counting)
    for name in counting[0]
    if name != "templates"
  }
  overall |= _anli_as_one(by_set, counting)
  overall["data sets"] = len(counting)
  groups = {"data sets": by_set, "templates": templates}
  return official_report.Report(
    "p3", overall, groups, _notes(tasks, by_set, kinds)
  )


def _anli_as_one(
  by_set: Mapping[str, Mapping[str, Any]], counting: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
  """ANLI's mean over its rounds, and the mean with it as one data set.

  So do the tables of HyperTuning and of those that compare with it.
  """
  rounds = [by_set[name] for name in by_set if name.startswith("anli_r")]
  if len(rounds) != _ANLI_ROUNDS:
    return {}
  anli = statistics.fmean(row["mean"] for row in rounds)
  others = [row["mean"] for row in counting if row not in rounds]
  return {"anli": anli, "mean_anli_as_one": statistics.fmean([anli, *others])}


def _of_data_set(
  templates: Sequence[Mapping[str, float]], kinds: Mapping[str, bool]
) -> dict[str, Any]:
  figures: dict[str, Any] = {}
  for kind in kinds:
    values = [row[f"accuracy{kind}"] for row in templates]
    figures[f"mean{kind}"] = statistics.fmean(values)
    figures[f"median{kind}"] = statistics.median(values)
  return {**figures, "templates": len(templates)}


def _notes(
  tasks: Mapping[str, Examples],
  by_set: Mapping[str, Mapping[str, Any]],
  kinds: Mapping[str, bool],
) -> list[str]:
  notes = []
  few = [
    f"{name} ({row['templates']} of {p3_sets.HELD_OUT[name]})"
    for name, row in by_set.items()
    if row["templates"] < (p3_sets.HELD_OUT.get(name) or 0)
  ]
  if few:
    notes.append(f"data sets with fewer templates than P3: {', '.join(few)}")
  others = [name for name in by_set if name not in p3_sets.HELD_OUT]
  if others and len(others) < len(by_set):
    notes.append(f"not in T0's evaluation, so not in all: {', '.join(others)}")
  if len(kinds) == 1:
    notes.append("nothing normalized by length: lines without 'length'")
  num_wrong = sum(
    not any(choice.is_correct for choice in choices.values())
    for examples in tasks.values()
    for choices in examples.values()
  )
  if num_wrong:
    notes.append(
      f"no choice is correct, so wrong: {official_report.counted(num_wrong, 'example')}"
    )
  return notes


def score_files(
  paths: Sequence[pathlib.Path], folder: pathlib.Path | None = None
) -> official_report.Report:
  """Figures of files of scores.

  Args:
    paths: of JSON lines as seqio's JSONLogger writes them (TASK-STEP.jsonl with
      `input`, `target` and `score`), or with `idx`, `is_correct`, `score` and
      perhaps `task`, `weight` and `length`; or folders of them.
    folder: of P3's `data/`, whose counts the numbers of lines must equal.

  Raises:
    ValueError: a file is broken, a choice is missing or stands twice, or a task
      is unknown.
  """
  tasks: dict[str, dict[int, dict[int, Choice]]] = {}
  steps: dict[str, pathlib.Path] = {}
  for path in official_report.prediction_files(paths, (".jsonl",)):
    for where, row in official_report.rows(path):
      task = _task(row, path, where)
      if steps.setdefault(task, path) != path:
        raise ValueError(
          f"{where}: task {task!r} is given twice, first in {steps[task]}: give "
          "the files of one step"
        )
      choice = _choice(row, where)
      example, number = _idx(row, where)
      choices = tasks.setdefault(task, {}).setdefault(example, {})
      if number in choices:
        raise ValueError(
          f"{where}: idx [{example}, {number}] of task {task!r} stands twice, "
          f"first in {choices[number].where}"
        )
      choices[number] = choice
  for task, examples in tasks.items():
    _check_complete(task, examples, steps[task])
    if folder is not None:
      _check_number(task, examples, steps[task], folder)
  return score_tasks(tasks)


def _task(row: Mapping[str, Any], path: pathlib.Path, where: str) -> str:
  name = _STEP.sub(".jsonl", path.name).removesuffix(".jsonl")
  if "task" in row:
    name = files.text_field(row, "task", where)
  if p3_sets.data_set(name) is None:
    raise ValueError(
      f"{where}: unknown task {name!r}: a name is of a template of "
      f"{', '.join(p3_sets.HELD_OUT)}; 'task' says it where the file's name does not"
    )
  return name


def _idx(row: Mapping[str, Any], where: str) -> tuple[int, int]:
  idx = files.field(_features(row), "idx", where)
  if (
    not isinstance(idx, list)
    or len(idx) != 2
    or any(type(number) is not int or number < 0 for number in idx)
  ):
    raise ValueError(
      f"{where}: 'idx' must be the numbers of an example and a choice, got "
      f"{idx!r}"
    )
  return idx[0], idx[1]


def _choice(row: Mapping[str, Any], where: str) -> Choice:
  features = _features(row)
  is_correct = files.field(features, "is_correct", where)
  if is_correct not in (True, False):
    raise ValueError(
      f"{where}: 'is_correct' must be true or false, got {is_correct!r}"
    )
  score = _number(files.field(row, "score", where), "score", where)
  if score == math.inf:
    raise ValueError(f"{where}: 'score' must be a log-likelihood, got {score}")
  weight = _number(features.get("weight", 1.0), "weight", where)
  if weight < 0 or math.isinf(weight):
    raise ValueError(f"{where}: 'weight' must be 0 or more, got {weight}")
  return Choice(where, bool(is_correct), score, weight, _length(row, where))


def _features(row: Mapping[str, Any]) -> Mapping[str, Any]:
  """Where a line has what was scored: seqio puts it under `input`."""
  return row["input"] if isinstance(row.get("input"), dict) else row


def _length(row: Mapping[str, Any], where: str) -> int | None:
  """Target tokens: as said, by t5's postprocessor too, or the tokens' number."""
  features, target = _features(row), row.get("target")
  length = features.get("length")
  if length is None and isinstance(target, list) and len(target) >= 4:
    length = target[3]
  if length is None and isinstance(features.get("targets"), list):
    length = len(features["targets"])
  if length is None or (type(length) is int and 0 < length < _MOST_TOKENS):
    return length
  raise ValueError(
    f"{where}: 'length' must be 1 or more tokens, got {length!r}"
  )


def _number(value: Any, name: str, where: str) -> float:
  try:
    number = math.nan if isinstance(value, (bool, str)) else float(value)
  except (TypeError, OverflowError):
    number = math.nan
  if math.isnan(number):
    raise ValueError(f"{where}: {name!r} must be a number, got {value!r:.40}")
  return number


def _check_complete(task: str, examples: Examples, path: pathlib.Path) -> None:
  """Refuses gaps: examples and their choices are numbered from 0."""
  for example in range(max(examples) + 1):
    if example not in examples:
      raise ValueError(
        f"{path}: task {task!r} has no score of example {example}, though of "
        f"{max(examples)}"
      )
    choices = examples[example]
    for number in range(max(choices) + 1):
      if number not in choices:
        raise ValueError(
          f"{path}: example {example} of task {task!r} has no score of choice "
          f"{number}, though of {max(choices)}"
        )
    if len({choice.weight for choice in choices.values()}) > 1:
      raise ValueError(
        f"{choices[0].where}: the choices of example {example} differ in 'weight'"
      )


def _check_number(
  task: str, examples: Examples, path: pathlib.Path, folder: pathlib.Path
) -> None:
  """Refuses more or fewer lines than the subset has."""
  subset = task.removesuffix(p3_sets.ENDING) + p3_sets.ENDING
  stats = folder / "data" / subset / "stats.validation.json"
  if not files.is_file(stats):
    raise ValueError(f"{path}: unknown task {task!r}: there is no file {stats}")
  wanted = files.field(files.read_json(stats), "examples", str(stats))
  if type(wanted) is not int:
    raise ValueError(f"{stats}: 'examples' must be a count, got {wanted!r}")
  number = sum(map(len, examples.values()))
  if number != wanted:
    raise ValueError(
      f"{path}: task {task!r} has {official_report.counted(number, 'line')}, but {stats} "
      f"says {wanted}"
    )
