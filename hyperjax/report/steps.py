"""How soon tasks that are trained side by side reach a loss."""

import decimal
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Curve = Sequence[tuple[float, float]]  # (step, loss) of every look
Curves = Mapping[str, Curve]  # by task


class Reach(NamedTuple):
  """The first look at which a loss is no higher than the one asked for.

  Where there is none, `steps` is the fewest that it can take: the last look's and
  one period more.
  """

  steps: float
  is_reached: bool


def reach(curve: Curve, level: float) -> Reach:
  for step, loss in curve:
    if loss <= level:
      return Reach(step, True)
  return Reach(curve[-1][0] + period(curve), False)


def period(curve: Curve) -> float:
  """Steps between the last two looks."""
  return curve[-1][0] - curve[-2][0] if len(curve) > 1 else 1


class Level(NamedTuple):
  """A loss to ask about, and by which rules it was chosen."""

  loss: float
  rules: tuple[str, ...]

  @property
  def shown(self) -> str:
    return f"{self.loss:.2g}"


EVERY = "every task of every run"
HALF = "half of the tasks of every run"
BEST = "half of the tasks of at least one run"


def levels(runs: Sequence[Curves]) -> list[Level]:
  """The lowest losses that those above reach, from high to low.

  Each is rounded up to two digits; those that are then equal are one.
  """
  lowest = [
    sorted(min(loss for _, loss in curve) for curve in curves.values())
    for curves in runs
  ]
  # The lowest number that half of a run's do not exceed.
  middles = [own[(len(own) - 1) // 2] for own in lowest]
  last = max(own[-1] for own in lowest)
  found = {EVERY: last, HALF: max(middles), BEST: min(middles)}
  rules: dict[float, list[str]] = {}
  for rule, loss in found.items():
    if math.isfinite(loss):
      rules.setdefault(_rounded_up(loss), []).append(rule)
  return [Level(loss, tuple(own)) for loss, own in rules.items()]


def main_level(found: Sequence[Level]) -> Level:
  """The one that half of the tasks of every run reach, if there is one."""
  return next((x for x in found if HALF in x.rules), found[-1])


def _rounded_up(loss: float) -> float:
  if loss <= 0:
    return loss
  unit = decimal.Decimal(1).scaleb(math.floor(math.log10(loss)) - 1)
  # Of the shortest decimal that reads back as it: 0.03 stays 0.03.
  exact = decimal.Decimal(repr(loss))
  return float(exact.quantize(unit, rounding=decimal.ROUND_CEILING))


class Saved(NamedTuple):
  """How many steps fewer one run takes than another, for one task."""

  steps: float  # negative where it takes more, 0 where that is not known
  is_known: bool
  is_least: bool  # whether it can only be further from 0 than `steps`

  @property
  def kind(self) -> str:
    if not self.is_known:
      return "unknown"
    if not self.steps:
      return "equal"
    return "fewer" if self.steps > 0 else "more"


def saved(first: Curve, second: Curve, level: float) -> Saved:
  """Where one does not reach it, the fewest steps that it can take count.

  That is known to be too few, not which of two is first where neither reaches it,
  or where the one that does not was stopped before the other had got there.
  """
  first, second = _common(first, second), _common(second, first)
  if not first or not second:
    return Saved(0, False, True)
  one, other = reach(first, level), reach(second, level)
  is_known = (one.is_reached or one.steps > other.steps) and (
    other.is_reached or other.steps > one.steps
  )
  if not is_known:
    return Saved(0, False, True)
  is_least = not (one.is_reached and other.is_reached)
  return Saved(other.steps - one.steps, True, is_least)


def _common(own: Curve, other: Curve) -> Curve:
  """A curve's looks at which the other was looked at too, and those after it.

  A run that is looked at more often would else seem to be sooner.
  """
  end = min(own[-1][0], other[-1][0])
  steps = {step for step, _ in other}
  return [look for look in own if look[0] > end or look[0] in steps]
