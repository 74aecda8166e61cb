"""The scores of evaluations of the same targets, and what follows from them."""

import dataclasses
from collections.abc import Sequence

from hyperjax.evaluation import columns
from hyperjax.page import findings, plots, words
from hyperjax.page.document import Cell, Gap, Number, Part, Table, Text
from hyperjax.page.sources import Result

MEANING = (
  "Means over tasks. [ ]: 95% interval over tasks and draws of demonstrations"
)
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
    f"{MEANING}. The gain is that of the answers from the task's own "
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
      Gap(f"{result.name}: no controls that its answers could be held against.")
    ]
  start = f"{result.name}: " if is_named else ""
  return [dataclasses.replace(one, claim=start + one.claim) for one in found]


def all_findings(group: Sequence[Result]) -> list[Part]:
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
      MEANING,
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


def _files(group: Sequence[Result]) -> list[str]:
  return [result.path for result in group]
