"""Scores in detail: all findings, metrics, official figures, categories, tasks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hyperjax.report import document, findings, summaries, words
from hyperjax.report.document import (
  Cell,
  Gap,
  Number,
  Part,
  Score,
  Section,
  Table,
)
from hyperjax.report.run_files import Result
from hyperjax.scores import columns, expectations, intervals, p3_sets, results
from hyperjax.scores.results import Scored

_TOLERANCE = 1e-9
_MOST_ROWS = 12  # longer tables are folded


def section(group: Sequence[Result]) -> Section:
  parts: list[Part] = []
  if summaries.is_large(group):  # the summary has room for the first ones only
    parts += [_all_findings(group), _gains(group)]
  for result in group:
    if len(result.content["metrics"]) > 1:
      parts.append(_all_metrics(result))
    parts += [_ranked(result), *_official(result), _expected(result)]
  for name in ("category", "task"):
    for result in group:
      parts += _by_group(result, name)
  title = f"Scores in detail: {summaries.title(group)}"
  return document.section(title, parts)


def _all_findings(group: Sequence[Result]) -> Table:
  return Table(
    "What follows, control by control",
    ("Run", "Claim", "Because"),
    [
      [result.name, one.told, one.evidence]
      for result in group
      for one in findings.by_control(result).values()
    ],
    f"{summaries.MEANING}.",
    summaries.paths(group),
    is_folded=True,
  )


def _gains(group: Sequence[Result]) -> Table:
  """What each result's own answers gain over each control."""
  shown = {x for own in group for x in own.content.get("gains", {})}
  return document.cross(
    "What its own answers gain over each control",
    "Run",
    [(result.name, result) for result in group],
    [(summaries.SHORT.get(x, x), x) for x in columns.ordered(shown)],
    lambda result, column: result.gain(column, group[0].metric),
    "Differences of means over the same targets and draws. [ ]: 95% interval.",
    summaries.paths(group),
  )


def _all_metrics(result: Result) -> Table:
  return document.cross(
    f"{result.name}: all metrics",
    "Answered from",
    result.labelled(result.scores),
    [(words.metric(name), name) for name in result.content["metrics"]],
    result.score,
    summaries.MEANING,
    [result.path],
  )


def _ranked(result: Result) -> Table:
  """Accuracy of ranked choices, by either way to score a choice."""
  found = result.content.get("rank_accuracy", {})
  return document.cross(
    f"{result.name}: accuracy of ranked choices (%)",
    "Answered from",
    result.labelled(found),
    [
      ("By summed log-likelihood", "by_sum"),
      ("By its mean over tokens", "per_token"),
    ],
    lambda column, way: Score(100 * found[column][way]),
    "Means over answers.",
    [result.path],
  )


def _official(result: Result) -> list[Part]:
  """The benchmark's own figures, each column beside the others."""
  found = result.content.get("official", {})
  if not found:
    return []
  first = found[columns.ordered(found)[0]]
  parts: list[Part] = [
    document.cross(
      f"{result.name}: official figures of {first['benchmark']}",
      "Figure",
      [(name, name) for name in first["overall"]],
      result.labelled(found),
      lambda name, column: _figure(found[column]["overall"].get(name)),
      "As `hyperjax score` gives them, without intervals; "
      + " ".join(f"Note: {note}." for note in first.get("notes", [])),
      [result.path],
    )
  ]
  for name, group in first.items():
    if isinstance(group, Mapping) and name not in ("overall", "extra"):
      parts.append(_official_group(result, name, group))
  return parts


def _official_group(
  result: Result, name: str, group: Mapping[str, Any]
) -> Table:
  """Of one group, such as "data sets", the figures of the right answers."""
  rows = [(key, row) for key, row in group.items() if isinstance(row, Mapping)]
  return document.cross(
    f"{result.name}: official figures by {name}",
    name,
    rows,
    [(figure, figure) for _, first in rows[:1] for figure in first],
    lambda row, figure: _figure(row.get(figure)),
    "Of the answers from each task's own demonstrations.",
    [result.path],
    is_folded=len(rows) > _MOST_ROWS,
  )


def _figure(value: Any) -> Cell:
  if isinstance(value, int | float) and not isinstance(value, bool):
    text = f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
    return Number(value, text)
  return None if value is None else str(value)


def _expected(result: Result) -> Table:
  """Measured beside what others report."""
  rows: list[list[Cell]] = []
  for figure, given in expectations.of_results(result.content).items():
    found = expectations.measured(result.content, figure)
    expected, source = given["value"], (given["certainty"], given["source"])
    measured, gain = None, None
    if found is not None:
      measured, gain = Score(found), Score(found - expected, is_gain=True)
    rows.append([figure, measured, Score(expected), gain, *source])
  return Table(
    f"{result.name}: measured against expected",
    ("Figure", "Measured", "Expected", "Difference", "How sure", "Source"),
    rows,
    "Known: the source states the number. Likely: it is remembered or "
    "inferred. A dash: it was not measured.",
    [result.path],
  )


def _by_group(result: Result, name: str) -> list[Part]:
  """A row for each category or task, a column for each control."""
  metric = result.metric
  if result.answers is None:
    return _without_predictions(result) if name == "task" else []
  if wrong := mismatch(result):
    return [Gap(wrong)] if name == "task" else []
  key = _category(result) if name == "category" else lambda x: x.answer.task
  cells: dict[str, dict[str, list[Scored]]] = {}
  for one in result.scored(metric):
    if (group := key(one)) is not None:
      cells.setdefault(group, {}).setdefault(one.column, []).append(one)
  meaning = (
    "The mean over a category's tasks. [ ]: 95% interval over its tasks and "
    "draws; a category of one task has that over its draws, or its targets."
  )
  if name == "task":
    draws = max(answer.draw for answer in result.answers) + 1
    meaning = f"[ ]: 95% interval over the {draws} draws of demonstrations"
    if draws == 1:
      meaning = (
        "[ ]: 95% interval over the task's targets; one draw of demonstrations"
      )
  return [
    document.cross(
      f"{result.name}: {words.metric(metric)} by {name}",
      name,
      sorted(cells.items()),
      result.labelled(result.scores),
      lambda own, column: _mean(own[column], metric) if column in own else None,
      meaning,
      result.sources,
      is_folded=len(cells) > _MOST_ROWS,
    )
  ]


def _category(result: Result) -> Callable[[Scored], str | None]:
  official = result.content.get("official", {}).values()
  if "p3" in {own.get("benchmark") for own in official}:
    return lambda one: p3_sets.data_set(one.answer.task.removeprefix("p3_"))
  return lambda one: one.answer.category


def _mean(found: Sequence[Scored], metric: str) -> Score:
  """Over tasks and draws, of one task over draws, of one draw over targets."""
  draws: dict[int, list[float]] = {}
  for one in found:
    draws.setdefault(one.answer.draw, []).append(one.values[metric])
  if len({one.answer.task for one in found}) > 1:
    pairs = [(one.answer, one.values[metric]) for one in found]
    return document.percent(results.interval(pairs))
  if len(draws) > 1:
    means = [float(np.mean(own)) for own in draws.values()]
    return document.percent(vars(intervals.bootstrap({"": means})))
  targets = next(iter(draws.values()))
  return document.percent(vars(intervals.of_targets(targets)))


def mismatch(result: Result) -> str | None:
  """What is wrong where predictions do not give the results' scores."""
  metric = result.metric
  found = results.summarize(result.scored(metric))
  for column, scores in result.scores.items():
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


def _without_predictions(result: Result) -> list[Part]:
  """By task as the results have it."""
  metric = result.metric
  return [
    Gap(
      f"{result.name}: no predictions lie beside {result.path}, so there are no "
      "intervals by category and task, and no examples."
    ),
    document.cross(
      f"{result.name}: {words.metric(metric)} by task",
      "task",
      result.content["tasks"].items(),
      result.labelled(result.scores),
      lambda own, x: Score(100 * own[x][metric]) if x in own else None,
      "Without intervals: there are no predictions to compute them of.",
      [result.path],
      is_folded=len(result.content["tasks"]) > _MOST_ROWS,
    ),
  ]
