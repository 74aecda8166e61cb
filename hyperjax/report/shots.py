"""Scores against the number of demonstrations."""

from collections.abc import Sequence

from hyperjax.evaluation import columns
from hyperjax.report import comparing, findings, plots, summaries, words
from hyperjax.report.document import Cell, Gap, Number, Part, Table
from hyperjax.report.run_files import Result


def by_demonstrations(group: Sequence[Result]) -> list[Part]:
  """A picture of all runs that were asked with several numbers, and its table."""
  points = _points(group)
  several = {x: own for x, own in points.items() if len(own) > 1}
  if not several:
    return []
  metric = words.main_metric(group[0])
  scores = {
    name: {
      x: findings.score(own[x].content, columns.RIGHT, metric) for x in own
    }
    for name, own in several.items()
  }
  files = [x.path for own in several.values() for x in own.values()]
  title = (
    f"{summaries.title(group)}: {words.metric(metric)} against demonstrations"
  )
  caption = "Means over tasks. Whiskers and [ ]: their 95% intervals."
  rows: list[list[Cell]] = [
    [name, Number(x, str(x)), found, several[name][x].path]
    for name, own in scores.items()
    for x, found in own.items()
  ]
  parts: list[Part] = [
    comparing.finding(_most_against_fewest(name, own))
    for name, own in several.items()
  ]
  parts += [
    plots.lines(
      title,
      {
        name: [(x, found.value) for x, found in own.items()]
        for name, own in scores.items()
      },
      "demonstrations",
      words.metric(metric),
      caption=caption,
      files=files,
      bounds={name: [*own.values()] for name, own in scores.items()},
      is_percent=True,
      ticks=sorted({x for own in several.values() for x in own}),
    ),
    Table(
      title,
      ("Run", "Demonstrations", words.metric(metric), "From"),
      rows,
      caption,
      files,
    ),
  ]
  return parts + _left_out(points)


def _points(group: Sequence[Result]) -> dict[str, dict[int, Result]]:
  """Of each run, the first result with each number of demonstrations."""
  found: dict[str, dict[int, Result]] = {}
  for result in group:
    number = summaries.shots(result)
    if columns.RIGHT in result.content["scores"] and number is not None:
      name = result.run.name if result.run else result.name
      found.setdefault(name, {}).setdefault(number, result)
  return {name: dict(sorted(own.items())) for name, own in found.items()}


def _most_against_fewest(name: str, own: dict[int, Result]) -> comparing.Pair:
  """A run's results with most and fewest demonstrations, named by those."""
  fewest, most = min(own), max(own)
  first, second = (
    comparing.renamed(
      own[x], f"{name} with {words.counted(x, 'demonstration')}"
    )
    for x in (most, fewest)
  )
  return comparing.Pair(first, second, "")


def _left_out(points: dict[str, dict[int, Result]]) -> list[Part]:
  alone = [name for name, own in points.items() if len(own) == 1]
  if not alone:
    return []
  return [
    Gap(
      f"{', '.join(alone)}: asked with one number of demonstrations only, so "
      "not in the picture."
    )
  ]
