"""The scores of evaluations of the same targets, and what follows from them."""

import collections
import dataclasses
from collections.abc import Sequence

from hyperjax.evaluation import columns
from hyperjax.report import comparing, findings, plots, words
from hyperjax.report.document import (
  MARKS,
  Cell,
  Finding,
  Gap,
  Number,
  Part,
  Table,
  Text,
)
from hyperjax.report.run_files import Result

# Heads of narrow columns.
_SHORT = {
  columns.RIGHT: "Its own",
  columns.NONE: "No adapter",
  columns.ROTATED: "Outputs rotated",
  columns.CONSTANT: "Mean of all adapters",
  columns.IN_INPUT: "In the T5's input",
  columns.OTHER: "Another task's",
  columns.AGAINST_OTHER: "Another task's, by its answers",
}
MEANING = (
  "Means over tasks. [ ]: 95% interval over tasks and draws of demonstrations"
)
_MOST_IN_FULL = 2  # results of the same targets whose findings are all told


def groups(results: Sequence[Result]) -> list[list[Result]]:
  """Results of the same targets together, in their order."""
  found: dict[str, list[Result]] = {}
  for result in results:
    found.setdefault(result.asked, []).append(result)
  return list(found.values())


def main(group: Sequence[Result]) -> list[Result]:
  """One number of demonstrations for all runs: that which most of them have.

  Of equally frequent ones it is that which more runs have in their own folder of
  evaluations. A run that lacks it is there with its first. Where a run has then
  one result left, it has the run's name alone.
  """
  by_run: dict[str, list[Result]] = {}
  for result in group:
    own = result.run.name if result.run else result.name
    by_run.setdefault(own, []).append(result)
  counts = collections.Counter(
    number
    for own in by_run.values()
    for number in dict.fromkeys(map(shots, own))
  )
  if None in counts:
    return [*group]
  inside = collections.Counter(shots(x) for x in group if x.is_inside)
  most = max(counts, key=lambda x: (counts[x], inside[x]))
  kept = []
  for name, own in by_run.items():
    alike = [x for x in own if shots(x) == most] or own[:1]
    if len(alike) == 1:
      alike = [dataclasses.replace(alike[0], name=name)]
    kept += alike
  return kept


def shots(result: Result) -> int | None:
  """How many demonstrations were drawn; None where that is not recorded."""
  return result.settings.get("num_demonstrations")


def is_large(group: Sequence[Result]) -> bool:
  """Whether it has too many results to tell everything of each at once."""
  return len(group) > _MOST_IN_FULL


def title(group: Sequence[Result]) -> str:
  """The names of a group's evaluations."""
  return ", ".join(dict.fromkeys(result.evaluation for result in group))


def summary(group: Sequence[Result]) -> list[Part]:
  """Every column of every result, what follows, and the picture of both."""
  table = _wide_table if is_large(group) else _long_table
  parts: list[Part] = [table(group)]
  for result in group:
    found = _findings(result, is_named=len(group) > 1)
    parts += found[:1] if is_large(group) else found
    parts += [] if is_large(group) else _few_tasks([result])
  parts += _few_tasks(group) if is_large(group) else []
  parts += [comparing.finding(pair) for pair in comparing.pairs(group)]
  picture = plots.dots if is_large(group) else plots.controls
  parts.append(picture(group, _files(group)))
  return parts


def _shots(group: Sequence[Result]) -> tuple[str, ...]:
  """The head of a column of their numbers, where they differ."""
  numbers = {shots(x) for x in group} - {None}
  return ("Demonstrations",) if len(numbers) > 1 else ()


def _long_table(group: Sequence[Result]) -> Table:
  """A row for each column of each result."""
  more = _shots(group)
  metric = words.main_metric(group[0])
  return Table(
    _table_title(group),
    (
      "Run",
      *more,
      "Answered from",
      words.metric(metric),
      "Own gain over it",
      "Targets",
    ),
    [row for result in group for row in _long_rows(result, metric, bool(more))],
    f"{MEANING}. The gain is that of the answers from the task's own "
    "demonstrations, over the same targets and draws.",
    _files(group),
  )


def _table_title(group: Sequence[Result]) -> str:
  return f"{title(group)}: {words.scored_on(group[0])}"


def _long_rows(
  result: Result, metric: str, has_shots: bool
) -> list[list[Cell]]:
  content = result.content
  rows: list[list[Cell]] = []
  for column in columns.ordered(content["scores"]):
    targets = content["scores"][column]["targets"]
    has_metric = metric in content["scores"][column]
    rows.append(
      [
        *_start(result, has_shots),
        columns.label(column, content.get("conditions")),
        findings.score(content, column, metric) if has_metric else None,
        findings.gain(content, column, metric),
        Number(targets, f"{targets:,}"),
      ]
    )
  return rows


def _start(result: Result, has_shots: bool) -> list[Cell]:
  own: list[Cell] = [result.name]
  if has_shots:
    number = shots(result)
    own.append(None if number is None else Number(number, str(number)))
  return own


def _wide_table(group: Sequence[Result]) -> Table:
  """A row for each result, a column for each control."""
  more = _shots(group)
  metric = words.main_metric(group[0])
  shown = columns.ordered({x for own in group for x in own.content["scores"]})
  rows: list[list[Cell]] = [
    [
      *_start(result, bool(more)),
      words.reads(result),
      *(_score(result, column, metric) for column in shown),
    ]
    for result in group
  ]
  return Table(
    _table_title(group),
    (
      "Run",
      *more,
      "Its own answers are from",
      *(_SHORT.get(x, x) for x in shown),
    ),
    rows,
    f"Scores are {words.metric(metric)}, {_asked(group)}. {MEANING}. A dash: "
    "that control cannot differ, or was not asked for. What its own answers gain "
    "over each is in the details.",
    _files(group),
  )


def _score(result: Result, column: str, metric: str) -> Cell:
  if metric not in result.content["scores"].get(column, {}):
    return None
  return findings.score(result.content, column, metric)


def _asked(group: Sequence[Result]) -> str:
  """How many targets, from how many demonstrations, as far as all agree."""
  numbers = {_targets(x) for x in group}
  shown = [words.counted(numbers.pop(), "target")] if len(numbers) == 1 else []
  told = {words.demonstrations(x) for x in group} - {words.UNKNOWN}
  return " from ".join(shown + (sorted(told) if len(told) == 1 else []))


def _targets(result: Result) -> int:
  scores = result.content["scores"]
  return scores.get(columns.RIGHT, next(iter(scores.values())))["targets"]


def gains(group: Sequence[Result]) -> list[Part]:
  """What each result's own answers gain over each control."""
  if not is_large(group):
    return []
  metric = words.main_metric(group[0])
  shown = columns.ordered(
    {x for own in group for x in own.content.get("gains", {})}
  )
  if not shown:
    return []
  rows: list[list[Cell]] = [
    [result.name, *(findings.gain(result.content, x, metric) for x in shown)]
    for result in group
  ]
  return [
    Table(
      "What its own answers gain over each control",
      ("Run", *(_SHORT.get(x, x) for x in shown)),
      rows,
      "Differences of means over the same targets and draws. [ ]: 95% interval.",
      _files(group),
    )
  ]


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
  if not is_large(group):
    return []
  rows: list[list[Cell]] = [
    [result.name, claim(one), one.evidence]
    for result in group
    for one in findings.of_result(result)
  ]
  return [
    Table(
      "What follows, control by control",
      ("Run", "Claim", "Because"),
      rows,
      f"{MEANING}.",
      _files(group),
      is_folded=True,
    )
  ]


def claim(one: Finding) -> str:
  return f"{MARKS[one.holds]} {one.claim}"


def _few_tasks(group: Sequence[Result]) -> list[Part]:
  numbers = {
    x.name: x.content.get("num_tasks", len(x.content["tasks"])) for x in group
  }
  few = [name for name, number in numbers.items() if number < 10]
  if not few:
    return []
  fewest = min(numbers.values())
  return [
    Text(
      f"{', '.join(few)} {'has' if len(few) == 1 else 'have'} "
      f"{words.counted(fewest, 'task')}: intervals over so few are rough, and "
      "too narrow rather than too wide."
    )
  ]


def _files(group: Sequence[Result]) -> list[str]:
  return [result.path for result in group]
