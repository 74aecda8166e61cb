"""What held-out examples came to, answered in one way."""

import dataclasses
import functools
from typing import Any

import numpy as np

from hyperjax.scores import intervals

DIGITS = 6  # that are kept


@dataclasses.dataclass(frozen=True)
class Column:
  """What the held-out examples came to, answered in one way."""

  answers: tuple[str, ...]
  scores: tuple[float, ...]  # of each by the metric, from 0 to 1
  # Natural logarithms, of each output, summed over its tokens.
  log_likelihoods: tuple[float, ...]

  @functools.cached_property
  def interval(self) -> intervals.Interval:
    """Of the mean score, over examples."""
    return intervals.of_answers(self.scores)

  @property
  def score(self) -> float:
    """The mean over examples."""
    return float(np.mean(self.scores))

  @property
  def log_likelihood(self) -> float:
    """The mean over examples."""
    return float(np.mean(self.log_likelihoods))

  def as_json(self) -> dict[str, Any]:
    """Without the answers."""
    return {
      "score": round(self.score, DIGITS),
      "interval": [
        round(x, DIGITS) for x in (self.interval.low, self.interval.high)
      ],
      "log_likelihood": round(self.log_likelihood, DIGITS),
      "scores": [round(x, DIGITS) for x in self.scores],
      "log_likelihoods": [round(x, DIGITS) for x in self.log_likelihoods],
    }
