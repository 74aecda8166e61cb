"""Scores of evaluations of the same targets, side by side and in detail."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hyperjax.evaluation import (
  columns,
  expectations,
  intervals,
  official_p3,
  report,
)
from hyperjax.evaluation.report import Scored
from hyperjax.page import findings, plots, words
from hyperjax.page.document import (
  Cell,
  Gap,
  Number,
  Part,
  Score,
  Section,
  Table,
  Text,
)
from hyperjax.page.sources import Result

_MEANING = (
  "Means over tasks. [ ]: 95% interval over tasks and draws of demonstrations"
)
_TOLERANCE = 1e-9
_MOST_IN_FULL = 2  # results of the same targets, all findings in the summary


def groups(results: Sequence[Result]) -> list[list[Result]]:
  """Results of the same targets together, in their order."""
  found: dict[str, list[Result]] = {}
  for result in results:
    found.setdefault(result.asked, []).append(result)
  return list(found.values())


def title(group: Sequence[Result]) -> str:
  """The names of a group's evaluations."""
  return ", ".join(dict.fromkeys(result.evaluation for result in group))


def summary(group: Sequence[Result]) -> list[Part]:
  """Every column of every result, what follows, and the picture of both."""
  parts: list[Part] = [_summary_table(group)]
  for result in group:
    found = _findings(result, is_named=len(group) > 1)
    parts += found[:1] if len(group) > _MOST_IN_FULL else found
    parts += _few_tasks(result)
  parts += _between(group)
  parts.append(plots.controls(group, _files(group)))
  return parts


def _summary_table(group: Sequence[Result]) -> Table:
  shots = {x.settings.get("num_demonstrations") for x in group} - {None}
  more = ("Demonstrations",) if len(shots) > 1 else ()
  metric = words.main_metric(group[0])
  return Table(
    f"{title(group)}: {words.scored_on(group[0])}",
    (
      "Run",
      *more,
      "Answered from",
      words.metric(metric),
      "Own gain over it",
      "Targets",
    ),
    [
      row
      for result in group
      for row in _summary_rows(result, metric, bool(more))
    ],
    f"{_MEANING}. The gain is that of the answers from the task's own "
    "demonstrations, over the same targets and draws.",
    _files(group),
  )


def _summary_rows(
  result: Result, metric: str, has_shots: bool
) -> list[list[Cell]]:
  content, shots = result.content, result.settings.get("num_demonstrations")
  own: list[Cell] = [result.name]
  if has_shots:
    own.append(None if shots is None else Number(shots, str(shots)))
  rows: list[list[Cell]] = []
  for column in columns.ordered(content["scores"]):
    targets = content["scores"][column]["targets"]
    has_metric = metric in content["scores"][column]
    rows.append(
      [
        *own,
        columns.label(column, content.get("conditions")),
        findings.score(content, column, metric) if has_metric else None,
        findings.gain(content, column, metric),
        Number(targets, f"{targets:,}"),
      ]
    )
  return rows


def _findings(result: Result, is_named: bool) -> list[Part]:
  found = findings.of_result(result)
  if not found:
    return [
      Gap(f"{result.name}: no answers from own demonstrations to compare with.")
    ]
  start = f"{result.name}: " if is_named else ""
  return [dataclasses.replace(one, claim=start + one.claim) for one in found]


def _all_findings(group: Sequence[Result]) -> list[Part]:
  """Every finding, where the summary has room for the first ones only."""
  if len(group) <= _MOST_IN_FULL:
    return []
  rows: list[list[Cell]] = [
    [result.name, one.claim, one.evidence]
    for result in group
    for one in findings.of_result(result)
  ]
  return [
    Table(
      "What follows, control by control",
      ("Run", "Claim", "Because"),
      rows,
      _MEANING,
      _files(group),
      is_folded=True,
    )
  ]


def _few_tasks(result: Result) -> list[Part]:
  number = result.content.get("num_tasks", len(result.content["tasks"]))
  if number >= 10:
    return []
  return [
    Text(
      f"{result.name} has {words.counted(number, 'task')}: intervals over so "
      "few are rough, and too narrow rather than too wide."
    )
  ]


def _between(group: Sequence[Result]) -> list[Part]:
  """The first result against each of the others."""
  scored = [x for x in group if columns.RIGHT in x.content["scores"]]
  return [
    findings.between(scored[0], other)
    for other in scored[1:]
    if other.run is None or other.run is not scored[0].run
  ]


def details(group: Sequence[Result]) -> Section:
  """Other metrics, official figures, categories and tasks."""
  parts: list[Part] = _all_findings(group)
  for result in group:
    parts += _other_metrics(result)
    parts += _ranked(result)
    parts += _official(result)
    parts += _expected(result)
  for name, key in (("category", _category), ("task", _task)):
    parts += _by_group(group, name, key)
  return Section(f"Scores in detail: {title(group)}", parts)


def _other_metrics(result: Result) -> list[Part]:
  content, names = result.content, result.content["metrics"]
  if len(names) < 2:
    return []
  rows: list[list[Cell]] = [
    [
      columns.label(column, content.get("conditions")),
      *(findings.score(content, column, name) for name in names),
    ]
    for column in columns.ordered(content["scores"])
  ]
  return [
    Table(
      f"{result.name}: all metrics",
      ("Answered from", *map(words.metric, names)),
      rows,
      _MEANING,
      [result.path],
    )
  ]


def _ranked(result: Result) -> list[Part]:
  """Accuracy of ranked choices, by either way to score a choice."""
  found: Mapping[str, Any] = result.content.get("rank_accuracy", {})
  if not found:
    return []
  rows: list[list[Cell]] = [
    [
      columns.label(column, result.content.get("conditions")),
      *(Score(100 * found[column][way]) for way in ("by_sum", "per_token")),
    ]
    for column in columns.ordered(found)
  ]
  return [
    Table(
      f"{result.name}: accuracy of ranked choices (%)",
      ("Answered from", "By summed log-likelihood", "By its mean over tokens"),
      rows,
      "Means over answers.",
      [result.path],
    )
  ]


def _official(result: Result) -> list[Part]:
  """The benchmark's own figures, each column beside the others."""
  found: Mapping[str, Any] = result.content.get("official", {})
  if not found:
    return []
  shown = columns.ordered(found)
  labels = [
    columns.label(column, result.content.get("conditions")) for column in shown
  ]
  first = found[shown[0]]
  rows: list[list[Cell]] = [
    [name, *(_figure(found[column]["overall"].get(name)) for column in shown)]
    for name in first["overall"]
  ]
  parts: list[Part] = [
    Table(
      f"{result.name}: official figures of {first['benchmark']}",
      ("Figure", *labels),
      rows,
      "As `hyperjax score` gives them, without intervals; "
      + " ".join(f"Note: {note}." for note in first.get("notes", [])),
      [result.path],
    )
  ]
  for name, group in first.items():
    if isinstance(group, Mapping) and name not in ("overall", "extra"):
      parts += _official_group(result, name, group)
  return parts


def _official_group(
  result: Result, name: str, group: Mapping[str, Any]
) -> list[Part]:
  """Of one group, such as "data sets", the figures of the right answers."""
  rows = [(key, row) for key, row in group.items() if isinstance(row, Mapping)]
  if not rows:
    return []
  figures = list(rows[0][1])
  return [
    Table(
      f"{result.name}: official figures by {name}",
      (name, *figures),
      [[key, *(_figure(row.get(x)) for x in figures)] for key, row in rows],
      "Of the answers from each task's own demonstrations.",
      [result.path],
      is_folded=len(rows) > 12,
    )
  ]


def _figure(value: Any) -> Cell:
  if isinstance(value, int | float) and not isinstance(value, bool):
    text = f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
    return Number(value, text)
  return None if value is None else str(value)


def _expected(result: Result) -> list[Part]:
  """Measured beside what others report."""
  rows: list[list[Cell]] = []
  for figure, given in result.content.get("expected", {}).items():
    found = expectations.measured(result.content, figure)
    difference = None if found is None else found - given["value"]
    rows.append(
      [
        figure,
        None if found is None else Score(found),
        Score(given["value"]),
        None if difference is None else Score(difference, is_gain=True),
        given["certainty"],
        given["source"],
      ]
    )
  if not rows:
    return []
  return [
    Table(
      f"{result.name}: measured against expected",
      ("Figure", "Measured", "Expected", "Difference", "How sure", "Source"),
      rows,
      "Known: the source states the number. Likely: it is remembered or "
      "inferred. A dash: it was not measured.",
      [result.path],
    )
  ]


def _category(result: Result) -> Callable[[Scored], str | None]:
  benchmarks = {
    own.get("benchmark") for own in result.content.get("official", {}).values()
  }
  if "p3" in benchmarks:
    prefix = "p3_"
    return lambda one: official_p3.data_set(
      one.answer.task.removeprefix(prefix)
    )
  return lambda one: one.answer.category


def _task(result: Result) -> Callable[[Scored], str | None]:
  del result
  return lambda one: one.answer.task


def _by_group(
  group: Sequence[Result],
  name: str,
  key_of: Callable[[Result], Callable[[Scored], str | None]],
) -> list[Part]:
  """A table for each result: a row for each group, a column for each control."""
  parts: list[Part] = []
  for result in group:
    if result.answers is None:
      if name == "task":
        parts += [_without_predictions(result), *_tasks_of_results(result)]
      continue
    if wrong := mismatch(result):
      if name == "task":
        parts.append(Gap(wrong))
      continue
    table = _group_table(result, name, key_of(result))
    parts += [] if table is None else [table]
  return parts


def _without_predictions(result: Result) -> Gap:
  return Gap(
    f"{result.name}: no predictions lie beside {result.path}, so there are no "
    "intervals by category and task, and no examples."
  )


def mismatch(result: Result) -> str | None:
  """What is wrong where predictions do not give the results' scores."""
  metric = words.main_metric(result)
  found = report.summarize(result.scored(metric))
  for column, scores in result.content["scores"].items():
    own = found.get(column, {"targets": 0, metric: 0.0})
    if (
      own["targets"] != scores["targets"]
      or abs(own[metric] - scores[metric]) > _TOLERANCE
    ):
      return (
        f"{result.predictions_path} does not give the scores of {result.path}: "
        f"{own[metric]:.4f} over {own['targets']} targets, not "
        f"{scores[metric]:.4f} over {scores['targets']}, under {column!r}. "
        "Nothing is computed of it."
      )
  return None


def _group_table(
  result: Result, name: str, key: Callable[[Scored], str | None]
) -> Table | None:
  metric = words.main_metric(result)
  cells: dict[str, dict[str, list[Scored]]] = {}
  for one in result.scored(metric):
    if (group := key(one)) is not None:
      cells.setdefault(group, {}).setdefault(one.column, []).append(one)
  if not cells:
    return None
  shown = columns.ordered(result.content["scores"])
  labels = [
    columns.label(column, result.content.get("conditions")) for column in shown
  ]
  make = of_task if name == "task" else of_category
  rows: list[list[Cell]] = [
    [
      group,
      *(make(own[x], metric) if x in own else None for x in shown),
    ]
    for group, own in sorted(cells.items())
  ]
  return Table(
    f"{result.name}: {words.metric(metric)} by {name}",
    (name, *labels),
    rows,
    _GROUP_MEANING[name](result),
    result.sources,
    is_folded=len(rows) > 12,
  )


def _task_meaning(result: Result) -> str:
  draws = max(answer.draw for answer in result.answers or []) + 1
  if draws > 1:
    return f"[ ]: 95% interval over the {draws} draws of demonstrations"
  return "[ ]: 95% interval over the task's targets; one draw of demonstrations"


_GROUP_MEANING: dict[str, Callable[[Result], str]] = {
  "category": lambda result: (
    "The mean over a category's tasks. [ ]: 95% interval over its tasks and "
    "draws; a category of one task has that over its draws, or its targets."
  ),
  "task": _task_meaning,
}


def of_category(found: Sequence[Scored], metric: str) -> Score:
  """The mean over tasks, and its interval over tasks and draws."""
  if len({one.answer.task for one in found}) == 1:
    return of_task(found, metric)
  own = report.interval([(one.answer, one.values[metric]) for one in found])
  return Score(100 * own["mean"], 100 * own["low"], 100 * own["high"])


def of_task(found: Sequence[Scored], metric: str) -> Score:
  """A task's mean; its interval is over draws, with one draw over targets."""
  draws: dict[int, list[float]] = {}
  for one in found:
    draws.setdefault(one.answer.draw, []).append(one.values[metric])
  if len(draws) > 1:
    means = [float(np.mean(own)) for own in draws.values()]
    own = intervals.bootstrap({"": means})
  else:
    own = intervals.of_targets(next(iter(draws.values())))
  return Score(100 * own.mean, 100 * own.low, 100 * own.high)


def _tasks_of_results(result: Result) -> list[Part]:
  """By task as the results have it, without intervals."""
  metric = words.main_metric(result)
  shown = columns.ordered(result.content["scores"])
  rows: list[list[Cell]] = []
  for task, own in result.content["tasks"].items():
    scores: list[Cell] = [
      Score(100 * own[x][metric]) if x in own else None for x in shown
    ]
    rows.append([task, *scores])
  labels = [columns.label(x, result.content.get("conditions")) for x in shown]
  return [
    Table(
      f"{result.name}: {words.metric(metric)} by task",
      ("task", *labels),
      rows,
      "Without intervals: there are no predictions to compute them of.",
      [result.path],
      is_folded=len(rows) > 12,
    )
  ]


def _files(group: Sequence[Result]) -> list[str]:
  return [result.path for result in group]
