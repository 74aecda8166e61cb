"""Scores against the number of demonstrations."""

import dataclasses
from collections.abc import Sequence

from hyperjax.report import comparing, document, plots, summaries, words
from hyperjax.report.document import Gap, Part, Table
from hyperjax.report.run_files import Result
from hyperjax.scores import columns


def by_demonstrations(group: Sequence[Result]) -> list[Part]:
  """A picture of all runs that were asked with several numbers, and its table."""
  points = _points(group)
  several = {x: own for x, own in points.items() if len(own) > 1}
  if not several:
    return []
  metric, unit = group[0].metric, words.metric(group[0].metric)
  scores = {
    name: {x: one.score(columns.RIGHT, metric) for x, one in own.items()}
    for name, own in several.items()
  }
  files = [x.path for own in several.values() for x in own.values()]
  title = f"{summaries.title(group)}: {unit} against demonstrations"
  caption = "Means over tasks. Whiskers and [ ]: their 95% intervals."
  picture = plots.lines(
    title,
    {name: [*own.items()] for name, own in scores.items()},
    "demonstrations",
    unit,
    caption=caption,
    files=files,
    is_percent=True,
    ticks=sorted({x for own in several.values() for x in own}),
  )
  rows = [
    [name, document.whole(x), found, several[name][x].path]
    for name, own in scores.items()
    for x, found in own.items()
  ]
  table = Table(
    title, ("Run", "Demonstrations", unit, "From"), rows, caption, files
  )
  told = [_most_against_fewest(name, own) for name, own in several.items()]
  alone = [name for name, own in points.items() if len(own) == 1]
  left_out = Gap(
    f"{', '.join(alone)}: asked with one number of demonstrations only, so not "
    "in the picture."
  )
  return [*told, picture, table, *([left_out] if alone else [])]


def _points(group: Sequence[Result]) -> dict[str, dict[int, Result]]:
  """Of each run, the first result with each number of demonstrations."""
  found: dict[str, dict[int, Result]] = {}
  for result in group:
    number = result.num_demonstrations
    if columns.RIGHT in result.scores and number is not None:
      found.setdefault(result.run_name, {}).setdefault(number, result)
  return {name: dict(sorted(own.items())) for name, own in found.items()}


def _most_against_fewest(name: str, own: dict[int, Result]) -> Part:
  """A run's results with most and fewest demonstrations, named by those."""
  most, fewest = (
    dataclasses.replace(
      own[x], name=f"{name} with {words.counted(x, 'demonstration')}"
    )
    for x in (max(own), min(own))
  )
  return comparing.finding(comparing.Pair(most, fewest))
