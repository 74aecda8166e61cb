"""The scores of evaluations of the same targets, and what follows from them."""

import collections
import dataclasses
from collections.abc import Sequence

from hyperjax.evaluation import columns
from hyperjax.report import comparing, document, findings, plots, words
from hyperjax.report.document import Cell, Gap, Part, Plot, Score, Table, Text
from hyperjax.report.run_files import Result

# Heads of narrow columns.
SHORT = {
  columns.RIGHT: "Its own",
  columns.NONE: "No adapter",
  columns.SHUFFLED: "Outputs shuffled",
  columns.CONSTANT: "Mean of all adapters",
  columns.IN_INPUT: "In the T5's input",
  columns.OTHER: "Another task's",
  columns.AGAINST_OTHER: "Another task's, by its answers",
}
MEANING = (
  "Means over tasks. [ ]: 95% interval over tasks and draws of demonstrations"
)
_MOST_IN_FULL = 2  # results of the same targets whose findings are all told
_FEW_TASKS = 10


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
  runs = by_run(group)
  counts = collections.Counter(
    number
    for own in runs.values()
    for number in {x.num_demonstrations: None for x in own}
  )
  if None in counts:
    return [*group]
  inside = collections.Counter(
    x.num_demonstrations for x in group if x.is_inside
  )
  most = max(counts, key=lambda x: (counts[x], inside[x]))
  kept = []
  for name, own in runs.items():
    alike = [x for x in own if x.num_demonstrations == most] or own[:1]
    if len(alike) == 1:
      alike = [dataclasses.replace(alike[0], name=name)]
    kept += alike
  return kept


def by_run(results: Sequence[Result]) -> dict[str, list[Result]]:
  found: dict[str, list[Result]] = {}
  for result in results:
    found.setdefault(result.run_name, []).append(result)
  return found


def is_large(group: Sequence[Result]) -> bool:
  """Whether it has too many results to tell everything of each at once."""
  return len(group) > _MOST_IN_FULL


def title(group: Sequence[Result]) -> str:
  """The names of a group's evaluations."""
  return ", ".join(dict.fromkeys(result.evaluation for result in group))


def paths(group: Sequence[Result]) -> list[str]:
  return [result.path for result in group]


def summary(group: Sequence[Result]) -> list[Part]:
  """Every column of every result, what follows, and the picture of both."""
  large = is_large(group)
  parts: list[Part] = [_wide_table(group) if large else _long_table(group)]
  for result in group:
    found = _findings(result, is_named=len(group) > 1)
    parts += found[:1] if large else [*found, *_few_tasks([result])]
  parts += _few_tasks(group) if large else []
  parts += map(comparing.finding, comparing.pairs(group))
  return [*parts, _picture(group)]


def _long_table(group: Sequence[Result]) -> Table:
  """A row for each column of each result."""
  metric = group[0].metric
  rows = [
    [
      *_start(result, group),
      label,
      result.score(column, metric) if result.has(column, metric) else None,
      result.gain(column, metric),
      document.whole(result.scores[column]["targets"]),
    ]
    for result in group
    for label, column in result.labelled(result.scores)
  ]
  return Table(
    _table_title(group),
    (
      "Run",
      *_shots(group),
      "Answered from",
      words.metric(metric),
      "Own gain over it",
      "Targets",
    ),
    rows,
    f"{MEANING}. The gain is that of the answers from the task's own "
    "demonstrations, over the same targets and draws.",
    paths(group),
  )


def _wide_table(group: Sequence[Result]) -> Table:
  """A row for each result, a column for each control."""
  metric = group[0].metric
  shown = columns.ordered({x for own in group for x in own.scores})
  rows = [
    [
      *_start(result, group),
      result.label(columns.RIGHT),
      *(
        result.score(column, metric) if result.has(column, metric) else None
        for column in shown
      ),
    ]
    for result in group
  ]
  return Table(
    _table_title(group),
    (
      "Run",
      *_shots(group),
      "Its own answers are from",
      *(SHORT.get(x, x) for x in shown),
    ),
    rows,
    f"Scores are {words.metric(metric)}, {_asked(group)}. {MEANING}. A dash: "
    "that control cannot differ, or was not asked for. What its own answers gain "
    "over each is in the details.",
    paths(group),
  )


def _table_title(group: Sequence[Result]) -> str:
  return f"{title(group)}: {words.scored_on(group[0])}"


def _shots(group: Sequence[Result]) -> tuple[str, ...]:
  """The head of a column of their numbers, where they differ."""
  numbers = {x.num_demonstrations for x in group} - {None}
  return ("Demonstrations",) if len(numbers) > 1 else ()


def _start(result: Result, group: Sequence[Result]) -> list[Cell]:
  shots = document.whole(result.num_demonstrations)
  return [result.name, *(shots for _ in _shots(group))]


def _asked(group: Sequence[Result]) -> str:
  """How many targets, from how many demonstrations, as far as all agree."""
  numbers = {_targets(x) for x in group}
  shown = [words.counted(numbers.pop(), "target")] if len(numbers) == 1 else []
  told = {words.demonstrations(x) for x in group} - {words.UNKNOWN}
  return " from ".join(shown + (sorted(told) if len(told) == 1 else []))


def _targets(result: Result) -> int:
  first = next(iter(result.scores.values()))
  return result.scores.get(columns.RIGHT, first)["targets"]


def _findings(result: Result, is_named: bool) -> list[Part]:
  found = findings.by_control(result).values()
  if not found:
    return [
      Gap(f"{result.name}: no controls that its answers could be held against.")
    ]
  start = f"{result.name}: " if is_named else ""
  return [dataclasses.replace(one, claim=start + one.claim) for one in found]


def _few_tasks(group: Sequence[Result]) -> list[Part]:
  numbers = {x.name: x.num_tasks for x in group}
  few = [name for name, number in numbers.items() if number < _FEW_TASKS]
  if not few:
    return []
  return [
    Text(
      f"{', '.join(few)} {'has' if len(few) == 1 else 'have'} "
      f"{words.counted(min(numbers.values()), 'task')}: intervals over so few "
      "are rough, and too narrow rather than too wide."
    )
  ]


def _picture(group: Sequence[Result]) -> Plot:
  """Every column of every result, with their intervals."""
  metric = words.metric(group[0].metric)
  names = _distinct([result.name for result in group])
  found: dict[str, dict[str, Score]] = {}
  labels: dict[str, dict[str, None]] = {}  # baselines have their own
  for name, result in zip(names, group, strict=True):
    for column in result.scores:
      labels.setdefault(column, {})[result.label(column)] = None
      if result.has(column, group[0].metric):
        own = result.score(column, group[0].metric)
        found.setdefault(column, {})[name] = own
  shown = {column: " / ".join(own) for column, own in labels.items()}
  large = is_large(group)
  if large:
    shown = {column: columns.label(column) for column in labels}
    shown[columns.RIGHT] = "its own demonstrations, or what else it is given"
  scores = {shown[x]: found[x] for x in columns.ordered(found)}
  alt = [
    f"{label}: {', '.join(f'{name} {x}' for name, x in own.items())}"
    for label, own in scores.items()
  ]
  marks = names
  if large:
    marks = [*scores]
    scores = {
      name: {x: own[name] for x, own in scores.items() if name in own}
      for name in names
    }
  return Plot(
    f"{metric}{' of every run' * large}, by what answers were given from",
    plots.dots(scores, marks, metric),
    "; ".join(alt),
    "Means over tasks. Whiskers: their 95% intervals.",
    paths(group),
  )


def _distinct(names: Sequence[str]) -> list[str]:
  """The names, numbered where they are equal."""
  found: list[str] = []
  for name in names:
    number = 1
    while (shown := name if number == 1 else f"{name} ({number})") in found:
      number += 1
    found.append(shown)
  return found
