"""Which beginning makes adapters that are trained further learn sooner.

Runs are compared over the same tasks, and only with runs that train the same kind
of adapter.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hyperjax import metrics
from hyperjax.evaluation import intervals
from hyperjax.report import steps, words
from hyperjax.report.document import Finding, Score
from hyperjax.report.run_files import CONFIG, Run
from hyperjax.report.steps import Curves, Level

LOSS = "loss"
# What is held against what: each beginning against those after it.
_ORDER = ("what a hypermodel writes", "a shared adapter", "an adapter folder")
_LAST = "random values"


def task_curves(run: Run) -> Mapping[str, Mapping[str, Curves]]:
  """Of tasks trained side by side: evaluation -> metric -> task -> curve."""
  found: dict[str, dict[str, dict[str, list[tuple[float, float]]]]] = {}
  for line in run.lines:
    for key, value in line.items():
      parts = key.split("/", 2)
      # A control's score has three parts too, and no mean of its own.
      if len(parts) == 3 and (
        parts[1] == LOSS or f"{parts[0]}/{parts[1]}" in line
      ):
        own = found.setdefault(parts[0], {}).setdefault(parts[1], {})
        shown = value if math.isfinite(value) else math.inf
        own.setdefault(parts[2], []).append((line["step"], shown))
  return {x: own for x, own in found.items() if LOSS in own}


@dataclasses.dataclass(frozen=True)
class Trained:
  """A run of adapters that are trained side by side, and one evaluation of it."""

  run: Run
  begins: str
  curves: Mapping[str, Curves]  # by metric

  @property
  def losses(self) -> Curves:
    return self.curves[LOSS]

  @property
  def rate(self) -> float | None:
    """The highest learning rate that it was trained with."""
    key = "learning_rate"
    return max((x[key] for x in self.run.lines if key in x), default=None)


@dataclasses.dataclass(frozen=True)
class Group:
  """Runs whose steps can be compared: same tasks, same kind of adapter."""

  title: str
  trained: Sequence[Trained]
  levels: Sequence[Level]

  @property
  def files(self) -> list[str]:
    runs = [own.run for own in self.trained]
    return [x for run in runs for x in run.sources(metrics.METRICS, CONFIG)]


def groups(runs: Sequence[Run]) -> list[Group]:
  found: dict[str, list[Trained]] = {}
  for run in runs:
    for evaluation, curves in task_curves(run).items():
      adapter = words.adapter(run) or "adapters of unknown kind"
      title = f"{evaluation}, {adapter} on {words.trained_on(run)}"
      own = Trained(run, words.begins_with(run), curves)
      found.setdefault(title, []).append(own)
  return [
    Group(title, own, steps.levels([x.losses for x in own]))
    for title, own in found.items()
  ]


def _rank(own: Trained) -> int:
  if own.begins == _LAST:
    return len(_ORDER) + 1
  return _ORDER.index(own.begins) if own.begins in _ORDER else len(_ORDER)


def _pairs(group: Group) -> list[tuple[Trained, Trained]]:
  """Runs with different beginnings; where some have equal settings, only those."""
  ordered = sorted(group.trained, key=_rank)
  found: dict[tuple[str, str], list[tuple[Trained, Trained]]] = {}
  for one, other in itertools.combinations(ordered, 2):
    if one.begins != other.begins:
      found.setdefault((one.begins, other.begins), []).append((one, other))
  pairs = []
  for own in found.values():
    alike = [pair for pair in own if not _differences(*pair)]
    pairs += alike or own
  return pairs


def _differences(one: Trained, other: Trained) -> list[str]:
  """What else they differ in, besides what they begin with."""
  found = []
  if one.rate != other.rate:
    rates = " and ".join(shown_rate(x) for x in (one, other))
    found.append(f"their learning rates differ ({rates})")
  records = [x.run.record for x in (one, other)]
  for name, values in (
    (
      "batch sizes",
      [x and x.training and x.training.batch_size for x in records],
    ),
    ("seeds", [x and x.data and x.data.seed for x in records]),
  ):
    if None not in values and values[0] != values[1]:
      found.append(f"their {name} differ ({values[0]} and {values[1]})")
  t5s = [x and x.backbone and x.backbone.identity for x in records]
  if None not in t5s and t5s[0] != t5s[1]:
    found.append("their T5s differ")
  return found


def shown_rate(own: Trained) -> str:
  return words.UNKNOWN if own.rate is None else f"{own.rate:.3g}"


class Tally(NamedTuple):
  """In how many tasks one run takes fewer, as many or more steps."""

  fewer: int
  equal: int
  more: int
  unknown: int


@dataclasses.dataclass(frozen=True)
class Compared:
  """Two runs at one loss: steps that the first saves, over the same tasks."""

  one: Trained
  other: Trained
  level: Level
  saved: Mapping[str, steps.Saved]  # by task

  @functools.cached_property
  def interval(self) -> intervals.Interval:
    return intervals.bootstrap(
      {task: [own.steps] for task, own in self.saved.items()}
    )

  @property
  def holds(self) -> bool | None:
    """By the interval of the mean; None where 0 is in it, or of one task."""
    found = self.interval
    if found.tasks == 1 or found.low <= 0 <= found.high:
      return None
    return found.low > 0

  @property
  def mean(self) -> Score:
    found = self.interval
    return Score(found.mean, found.low, found.high, is_gain=True)

  @property
  def tally(self) -> Tally:
    known = [own.steps for own in self.saved.values() if own.is_known]
    return Tally(
      sum(x > 0 for x in known),
      sum(x == 0 for x in known),
      sum(x < 0 for x in known),
      len(self.saved) - len(known),
    )

  @property
  def counts(self) -> str:
    own = self.tally
    shown = (
      f"fewer in {own.fewer} of {words.counted(len(self.saved), 'task')}, "
      f"as many in {own.equal}, more in {own.more}"
    )
    return shown + (f", unknown in {own.unknown}" if own.unknown else "")


def compared(group: Group, level: Level) -> list[Compared]:
  found = []
  for one, other in _pairs(group):
    saved = {
      task: steps.saved(curve, other.losses[task], level.loss)
      for task, curve in one.losses.items()
      if task in other.losses
    }
    if saved:
      found.append(Compared(one, other, level, saved))
  return found


def findings(group: Group) -> list[Finding]:
  """Which beginning is sooner, at the loss that half of all tasks reach."""
  if not group.levels:
    return []
  level = steps.main_level(group.levels)
  return [_finding(own) for own in compared(group, level)]


def _finding(own: Compared) -> Finding:
  one, other, loss = own.one.begins, own.other.begins, own.level.shown
  claim = {
    True: f"Beginning with {one} reaches loss {loss} in fewer steps than {other}",
    False: f"Beginning with {one} takes more steps to loss {loss} than {other}",
    None: f"Nothing shows that beginning with {one} reaches loss {loss} in fewer "
    f"steps than {other}",
  }[own.holds]
  least = any(x.is_least for x in own.saved.values())
  evidence = (
    f"{own.one.run.name} against {own.other.run.name}: steps saved "
    f"{'are at least ' if least else ''}{own.mean} on average over the same "
    f"tasks; {own.counts}"
  )
  if len(own.saved) == 1:
    evidence += "; one task has no interval"
  differences = _differences(own.one, own.other)
  if differences:
    evidence += f". But {' and '.join(differences)}"
  return Finding(claim, f"{evidence}.", own.holds)
