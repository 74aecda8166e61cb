"""Adapters trained further, task by task, by what they begin with."""

import functools
import itertools
import math
from collections.abc import Iterable, Sequence

from hyperjax import metrics
from hyperjax.report import beginnings, document, plots, steps, words
from hyperjax.report.beginnings import LOSS, Group, Trained
from hyperjax.report.document import (
  Cell,
  Gap,
  Number,
  Part,
  Section,
  Table,
  Text,
)
from hyperjax.report.steps import Curve, Curves, Level
from hyperjax.scores import intervals


def section(found: Sequence[Group]) -> Section:
  """What runs that train an adapter for each task came to."""
  parts: list[Part] = []
  if len(found) > 1:
    titles = "; ".join(own.title for own in found)
    parts.append(
      Text(
        f"Not in one comparison: {titles}. Steps are compared only between runs "
        "of the same tasks that train the same kind of adapter."
      )
    )
  for own in found:
    parts += _parts(own)
  title = "Adapters trained further, by what they begin with"
  return document.section(title, parts)


def _parts(group: Group) -> list[Part]:
  if not group.levels:
    return [Gap(f"{group.title}: no loss is finite.")]
  return [
    _looks(group),
    _lower(group),
    _steps(group),
    _saved(group),
    *_pictures(group),
    *(_by_task(group, own) for own in group.trained),
  ]


def _levels(group: Group) -> list[tuple[str, Level]]:
  return [(f"Steps to loss {level.shown}", level) for level in group.levels]


def _looks(group: Group) -> Table:
  """Loss and scores at the first and the last look."""
  names = [LOSS, *(x for x in group.trained[0].curves if x != LOSS)]
  looks = [
    (f"{words.metric(name)}, {at}", (name, index))
    for name in names
    for at, index in (("first", 0), ("last", -1))
  ]
  rows: list[list[Cell]] = [
    [
      own.run.name,
      own.begins,
      _rate(own),
      _looked(own),
      *(_mean(own, name, at) for _, (name, at) in looks),
    ]
    for own in group.trained
  ]
  return Table(
    f"{group.title}: at the first and the last look",
    ("Run", "Begins with", "Rate", "Looks", *(label for label, _ in looks)),
    rows,
    "Means over tasks, on rows that no adapter is trained on; loss in nats of a "
    "target token. [ ]: 95% interval over tasks. Rate: the highest learning rate. "
    "Looks: at which steps.",
    group.files,
  )


def _rate(own: Trained) -> Cell:
  return own.rate if own.rate is None else Number(own.rate, own.shown_rate)


def _looked(own: Trained) -> str:
  curve = next(iter(own.losses.values()))
  first, last = curve[0][0], curve[-1][0]
  return f"{first:,} to {last:,} by {steps.period(curve):,}"


def _mean(own: Trained, name: str, at: int) -> Cell:
  """Of the first or the last look."""
  curves = own.curves.get(name, {}).values()
  return _interval([curve[at][1] for curve in curves], percent=name != LOSS)


def _interval(by_task: Sequence[float], percent: bool = False) -> Cell:
  """The mean over tasks with its interval; None of no task."""
  if not by_task:
    return None
  if not all(map(math.isfinite, by_task)):
    return "not finite"
  found = intervals.bootstrap({str(i): [x] for i, x in enumerate(by_task)})
  if percent:
    return document.percent(vars(found))
  bounds = f"[{found.low:.4f}, {found.high:.4f}]"
  return Number(found.mean, f"{found.mean:.4f}", bounds)


def _lower(group: Group) -> Table:
  """How much lower the loss of each pair's first is, task by task."""

  def lower(pair: tuple[Trained, Trained], at: int) -> Cell:
    gains = []
    for task, curve in pair[0].losses.items():
      theirs = dict(pair[1].losses.get(task, ()))
      both = [theirs[step] - loss for step, loss in curve if step in theirs]
      gains += [both[at]] if both else []
    return _interval(gains)

  return document.cross(
    f"{group.title}: how much lower the loss is",
    "Runs",
    [
      (f"{pair[0].run.name} than {pair[1].run.name}", pair)
      for pair in beginnings.pairs(group)
    ],
    [("At the first look", 0), ("At the last look", -1)],
    lower,
    "The mean over the tasks that both runs have of the differences task by task, "
    "so that tasks that are hard for all add nothing to its 95% interval. Of the "
    "looks that both had.",
    group.files,
  )


def _steps(group: Group) -> Table:
  """Steps until half of the tasks reach each loss."""
  rows: list[list[Cell]] = []
  for own in group.trained:
    middles = (_middle(own.losses, level) for level in group.levels)
    rows.append([own.run.name, own.begins, *middles])
  rules = "; by ".join(
    f"{' and by '.join(level.rules)}: {level.shown}" for level in group.levels
  )
  return Table(
    f"{group.title}: steps until half of the tasks reach a loss",
    ("Run", "Begins with", *(label for label, _ in _levels(group))),
    rows,
    "[ ]: 95% interval over tasks; after it, how many tasks reach the loss at "
    "all; “over”: not by then. The losses are the same for all of these runs, "
    f"the lowest that are reached by {rules} (rounded up to two digits).",
    group.files,
  )


def _middle(losses: Curves, level: Level) -> Cell:
  found = [steps.reach(curve, level.loss) for curve in losses.values()]
  last = max(curve[-1][0] for curve in losses.values())
  bounds = intervals.of_median([own.steps for own in found])
  middle, low, high = (
    f"{x:,.0f}" if x <= last else f"over {last:,}" for x in bounds
  )
  tasks = f"{sum(own.is_reached for own in found)} of {len(found)}"
  return Number(bounds[0], middle, f"[{low}, {high}], {tasks}")


def _saved(group: Group) -> Table:
  """Every pair at every loss."""
  rows: dict[tuple[str, str], list[Cell]] = {}
  for level in group.levels:
    for own in beginnings.compared(group, level):
      pair, tally = (own.one.run.name, own.other.run.name), own.tally
      begins = f"{own.one.begins}, not {own.other.begins}"
      counts = [f"{tally['fewer']} fewer", f"{tally['equal']} ="]
      counts.append(f"{tally['more']} more")
      if tally["unknown"]:
        counts.append(f"{tally['unknown']} unknown")
      row = rows.setdefault(pair, [begins, " against ".join(pair)])
      row.append(f"{document.MARKS[own.holds]} {own.mean}; {', '.join(counts)}")
  losses = [f"To loss {level.shown}" for level in group.levels]
  return Table(
    f"{group.title}: steps that a beginning saves",
    ("Beginning with", "Runs", *losses),
    [*rows.values()],
    "The mean over the tasks that both runs have; then in how many tasks it "
    "takes fewer, as many (=) or more steps. [ ]: its 95% bootstrap interval "
    "over tasks, which decides: ✓ above 0, ✗ below, ? 0 is in it. A task that "
    "never reaches a loss counts as its run's last step and one period more, "
    "which is the least it can take; where that leaves open which run is first "
    "(unknown), as a difference of 0. As far as both runs go, only steps count "
    "at which both were looked at.",
    group.files,
  )


def _pictures(group: Group) -> list[Part]:
  """The mean loss, and how many tasks have reached the main one."""
  level = steps.main_level(group.levels)
  curves = {
    f"{own.run.name}: {own.begins}": [*own.losses.values()]
    for own in group.trained
  }
  return [
    plots.lines(
      f"{group.title}: mean loss over tasks",
      {name: _over_tasks(own) for name, own in curves.items()},
      "steps",
      "loss of a target token (nats)",
      caption="On rows that no adapter is trained on.",
      files=group.files,
      is_log=True,
    ),
    plots.lines(
      f"{group.title}: tasks that have reached loss {level.shown}",
      {name: _share(own, level.loss) for name, own in curves.items()},
      "steps",
      "tasks (%)",
      caption="At this look or before.",
      files=group.files,
      is_percent=True,
    ),
  ]


def _over_tasks(curves: Iterable[Curve]) -> Curve:
  """The mean at every look that all tasks have."""
  looks: dict[float, list[float]] = {}
  for step, loss in itertools.chain(*curves):
    looks.setdefault(step, []).append(loss)
  return [(step, sum(own) / len(own)) for step, own in looks.items()]


def _share(curves: Sequence[Curve], level: float) -> Curve:
  found = [steps.reach(curve, level) for curve in curves]
  first = [own.steps if own.is_reached else math.inf for own in found]
  looks = dict.fromkeys(step for curve in curves for step, _ in curve)
  return [
    (step, 100 * sum(x <= step for x in first) / len(first)) for step in looks
  ]


def _by_task(group: Group, own: Trained) -> Table:
  """First, lowest and last loss of every task, and its steps."""

  def reached(level: Level, curve: Curve) -> Cell:
    found = steps.reach(curve, level.loss)
    return document.whole(found.steps) if found.is_reached else None

  def lowest(curve: Curve) -> tuple[float, float]:
    return min(curve, key=lambda look: look[1])

  return document.cross(
    f"{own.run.name}, {group.title}: every task",
    "Task",
    own.losses.items(),
    [
      ("First loss", lambda curve: _loss(curve[0])),
      ("Lowest loss", lambda curve: _loss(lowest(curve))),
      ("At step", lambda curve: document.whole(lowest(curve)[0])),
      ("Last loss", lambda curve: _loss(curve[-1])),
      *((x, functools.partial(reached, level)) for x, level in _levels(group)),
    ],
    lambda curve, shown: shown(curve),
    "A dash: not reached.",
    own.run.sources(metrics.METRICS),
    is_folded=True,
  )


def _loss(look: tuple[float, float]) -> Number:
  return Number(look[1], f"{look[1]:.4f}")
