"""All metrics of an evaluation, official figures, and what others report."""

from collections.abc import Mapping
from typing import Any

from hyperjax.evaluation import columns, expectations
from hyperjax.report import findings, summaries, words
from hyperjax.report.document import Cell, Number, Part, Score, Table
from hyperjax.report.run_files import Result


def tables(result: Result) -> list[Part]:
  """Those of them that a result has."""
  makers = (_other_metrics, _ranked, _official, _expected)
  return [part for make in makers for part in make(result)]


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
      summaries.MEANING,
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
  for figure, given in expectations.of_results(result.content).items():
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
