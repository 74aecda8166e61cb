"""The scores of evaluations of the same targets, and what follows from them."""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

from hyperjax.report import comparing, document, findings, plots, words
from hyperjax.report.document import Cell, Gap, Part, Plot, Score, Table, Text
from hyperjax.report.run_files import Result
from hyperjax.scores import columns

# Heads of narrow columns.
SHORT = {
  columns.RIGHT: "Its own",
  columns.NONE: "No adapter",
  columns.ROTATED: "Outputs rotated",
  columns.CONSTANT: "Mean of all adapters",
  columns.IN_INPUT: "In the T5's input",
  columns.OTHER: "Another task's",
  columns.AGAINST_OTHER: "Another task's, by its answers",
  columns.RELABELLED: "Labels replaced",
  columns.RELABELLED_WRONG: "Labels replaced by wrong ones",
  columns.RELABELLED_CONSTANT: "Labels replaced, mean adapter",
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
  rows = []
  for result in group:
    for label, column in result.labelled(result.scores):
      targets = document.whole(result.scores[column]["targets"])
      scores = result.cell(column, metric), result.gain(column, metric)
      rows.append((result, (label, *scores, targets)))
  return _table(
    group,
    ("Answered from", words.metric(metric), "Own gain over it", "Targets"),
    rows,
    f"{MEANING}. The gain is that of the answers from the task's own "
    "demonstrations, over the same targets and draws.",
  )


def _wide_table(group: Sequence[Result]) -> Table:
  """A row for each result, a column for each control."""
  metric, shown = group[0].metric, _columns(group)
  rows = []
  for result in group:
    scores = (result.cell(column, metric) for column in shown)
    rows.append((result, (result.label(columns.RIGHT), *scores)))
  return _table(
    group,
    ("Its own answers are from", *(SHORT.get(x, x) for x in shown)),
    rows,
    f"Scores are {words.metric(metric)}, {_asked(group)}. {MEANING}. A dash: "
    "that control cannot differ, or was not asked for. What its own answers gain "
    "over each is in the details.",
  )


def _table(
  group: Sequence[Result],
  head: Sequence[str],
  rows: Iterable[tuple[Result, Sequence[Cell]]],
  caption: str,
) -> Table:
  """Each row after its run, and its demonstrations where their number differs."""
  numbers = {x.num_demonstrations for x in group} - {None}
  shots = ["Demonstrations"] if len(numbers) > 1 else []
  cells = [
    [x.name, *(document.whole(x.num_demonstrations) for _ in shots), *own]
    for x, own in rows
  ]
  named = f"{title(group)}: {words.scored_on(group[0])}"
  return Table(named, ("Run", *shots, *head), cells, caption, paths(group))


def _columns(group: Sequence[Result]) -> list[str]:
  return columns.ordered({x for own in group for x in own.scores})


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
  metric, large = group[0].metric, is_large(group)
  names = _distinct([result.name for result in group])
  found: dict[str, dict[str, Score]] = {}
  for column in _columns(group):
    own = found.setdefault(_label(column, group), {})
    for name, result in zip(names, group, strict=True):
      if score := result.cell(column, metric):
        own[name] = score
  alt = [
    f"{label}: {', '.join(f'{name} {x}' for name, x in own.items())}"
    for label, own in found.items()
  ]
  rows, marks = found, names
  if large:
    marks = [*found]
    rows = {
      name: {x: own[name] for x, own in found.items() if name in own}
      for name in names
    }
  return Plot(
    f"{words.metric(metric)}{' of every run' * large}, by what answers were "
    "given from",
    plots.dots(rows, marks, words.metric(metric)),
    "; ".join(alt),
    "Means over tasks. Whiskers: their 95% intervals.",
    paths(group),
  )


def _label(column: str, group: Sequence[Result]) -> str:
  """In words for all of a group: baselines have their own."""
  if not is_large(group):
    own = [x.label(column) for x in group if column in x.scores]
    return " / ".join(dict.fromkeys(own))
  if column == columns.RIGHT:
    return "its own demonstrations, or what else it is given"
  return columns.label(column)


def _distinct(names: Sequence[str]) -> list[str]:
  """The names, numbered where they are equal."""
  found: list[str] = []
  for name in names:
    number = 1
    while (shown := name if number == 1 else f"{name} ({number})") in found:
      number += 1
    found.append(shown)
  return found
