"""Which checkpoints are kept."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated

from hyperjax import checks

MIN, MAX = "min", "max"
BestIs = Annotated[str, checks.OneOf((MIN, MAX))]


@dataclasses.dataclass(frozen=True)
class Kept:
  """The checkpoints of a run that are kept: any that one of these names.

  Attributes:
    last: how many of the last ones; None for all.
    every: those of each multiple of so many steps.
    best_by: the one with the best value of this metric of an evaluation, as
      metrics.jsonl names it; it is saved whenever a better one is found.
    best_is: whether the best value is the greatest or the least.
  """

  last: checks.Count | None = 3
  every: checks.Count | None = None
  best_by: str | None = None
  best_is: BestIs = MIN

  def __post_init__(self):
    checks.fields(self)

  def steps(
    self, steps: Sequence[int], figures: Mapping[int, float | None]
  ) -> list[int]:
    """Those of `steps`, which are in order, that are kept.

    Args:
      steps: that are there.
      figures: the value of `best_by` at each, where it has one.
    """
    kept = set(steps if self.last is None else steps[-self.last :])
    if self.every is not None:
      kept |= {step for step in steps if step % self.every == 0}
    best = self.best(figures)
    return [step for step in steps if step in kept or step == best]

  def best(self, figures: Mapping[int, float | None]) -> int | None:
    """The step of the best figure, the first of equal ones; None without any."""
    if self.best_by is None:
      return None
    known = {step: x for step, x in sorted(figures.items()) if x is not None}
    if not known:
      return None
    sign = 1 if self.best_is == MIN else -1
    return min(known, key=lambda step: sign * known[step])
