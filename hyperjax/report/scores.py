"""Scores in detail: by category and by task."""

from collections.abc import Callable, Sequence

import numpy as np

from hyperjax.evaluation import columns, intervals, results
from hyperjax.evaluation.official import p3
from hyperjax.evaluation.results import Scored
from hyperjax.report import benchmarks, summaries, words
from hyperjax.report.document import Cell, Gap, Part, Score, Section, Table
from hyperjax.report.run_files import Result

_TOLERANCE = 1e-9


def details(group: Sequence[Result]) -> Section:
  """Other metrics, official figures, categories and tasks."""
  parts: list[Part] = summaries.all_findings(group)
  parts += summaries.gains(group)
  for result in group:
    parts += benchmarks.tables(result)
  for name, key in (("category", _category), ("task", _task)):
    parts += _by_group(group, name, key)
  return Section(f"Scores in detail: {summaries.title(group)}", parts)


def _category(result: Result) -> Callable[[Scored], str | None]:
  benchmarks = {
    own.get("benchmark") for own in result.content.get("official", {}).values()
  }
  if "p3" in benchmarks:
    prefix = "p3_"
    return lambda one: p3.data_set(one.answer.task.removeprefix(prefix))
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
  found = results.summarize(result.scored(metric))
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
  own = results.interval([(one.answer, one.values[metric]) for one in found])
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
