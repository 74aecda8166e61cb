"""Which beginning makes adapters that are trained further learn sooner.

Runs are compared over the same tasks, and only with runs that train the same kind
of adapter.
"""

import collections
import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

from hyperjax import metrics
from hyperjax.report import steps, words
from hyperjax.report.document import Finding, Score
from hyperjax.report.run_files import CONFIG, Run
from hyperjax.report.steps import Curves, Level
from hyperjax.scores import intervals

LOSS = "loss"
# What is held against what: each beginning against those after it; what is named
# by its folder goes before random values.
_ORDER = {
  "what a hypermodel writes": 0,
  "a shared adapter": 1,
  "an adapter folder": 2,
  "random values": 4,
}
_OTHER = 3


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

  @property
  def shown_rate(self) -> str:
    return words.UNKNOWN if self.rate is None else f"{self.rate:.3g}"


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


def pairs(group: Group) -> list[tuple[Trained, Trained]]:
  """Runs with different beginnings; where some have equal settings, only those."""
  ordered = sorted(group.trained, key=lambda x: _ORDER.get(x.begins, _OTHER))
  found: dict[tuple[str, str], list[tuple[Trained, Trained]]] = {}
  for one, other in itertools.combinations(ordered, 2):
    if one.begins != other.begins:
      found.setdefault((one.begins, other.begins), []).append((one, other))
  alike = [[x for x in own if not _differences(*x)] for own in found.values()]
  chosen = [x or own for x, own in zip(alike, found.values(), strict=True)]
  return [*itertools.chain(*chosen)]


def _differences(one: Trained, other: Trained) -> list[str]:
  """What else they differ in, besides what they begin with."""
  found = []
  if one.rate != other.rate:
    rates = " and ".join(x.shown_rate for x in (one, other))
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


@dataclasses.dataclass(frozen=True)
class Compared:
  """Two runs at one loss: steps that the first saves, over the same tasks."""

  one: Trained
  other: Trained
  saved: Mapping[str, steps.Saved]  # by task
  mean: Score
  tally: Mapping[str, int]  # tasks with fewer, equal, more and unknown steps

  @property
  def holds(self) -> bool | None:
    """By the interval of the mean; None where 0 is in it, or of one task."""
    low, high = self.mean.low, self.mean.high
    assert low is not None and high is not None
    if len(self.saved) == 1 or low <= 0 <= high:
      return None
    return low > 0


def compared(group: Group, level: Level) -> list[Compared]:
  found = []
  for one, other in pairs(group):
    saved = {
      task: steps.saved(curve, other.losses[task], level.loss)
      for task, curve in one.losses.items()
      if task in other.losses
    }
    if saved:
      own = intervals.bootstrap({task: [x.steps] for task, x in saved.items()})
      mean = Score(own.mean, own.low, own.high, is_gain=True)
      tally = collections.Counter(x.kind for x in saved.values())
      found.append(Compared(one, other, saved, mean, tally))
  return found


def findings(group: Group) -> list[Finding]:
  """Which beginning is sooner, at the loss that half of all tasks reach."""
  if not group.levels:
    return []
  level = steps.main_level(group.levels)
  return [_finding(own, level.shown) for own in compared(group, level)]


def _finding(own: Compared, loss: str) -> Finding:
  one, other, tally = own.one.begins, own.other.begins, own.tally
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
    f"tasks; fewer in {tally['fewer']} of "
    f"{words.counted(len(own.saved), 'task')}, as many in {tally['equal']}, "
    f"more in {tally['more']}"
  )
  if tally["unknown"]:
    evidence += f", unknown in {tally['unknown']}"
  if len(own.saved) == 1:
    evidence += "; one task has no interval"
  differences = _differences(own.one, own.other)
  if differences:
    evidence += f". But {' and '.join(differences)}"
  return Finding(claim, f"{evidence}.", own.holds)
