"""How sure a mean over tasks is: bootstrap intervals over tasks and draws."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

_NUM_RESAMPLES = 10_000
_CONFIDENCE = 0.95
_AT_ONCE = 4_000_000  # numbers held together


@dataclasses.dataclass(frozen=True)
class Interval:
  """A mean over tasks, each the mean over its draws, with its 95% interval."""

  mean: float
  low: float
  high: float
  tasks: int
  draws: int  # the most that a task has


def bootstrap(scores: Mapping[str, Sequence[float]], seed: int = 0) -> Interval:
  """The interval of the mean over tasks of the mean over draws.

  Tasks are drawn with replacement, then each one's draws of demonstrations (Efron
  and Tibshirani, 1993, chapter 8): what another sample of tasks and of
  demonstrations would have given. The interval is that between percentiles. With
  one draw for each task it is over tasks alone, with one task over draws alone.

  Args:
    scores: of each task, one number for each draw.
    seed: of the resamples.

  Raises:
    ValueError: there is no task, or one without scores.
  """
  empty = [task for task, values in scores.items() if not len(values)]
  if empty or not scores:
    raise ValueError(
      f"an interval needs a score of every task, got none of {empty or 'any'}"
    )
  counts = np.asarray([len(values) for values in scores.values()])
  table_TD = np.zeros((len(counts), counts.max()))
  for row, values in zip(table_TD, scores.values(), strict=True):
    row[: len(values)] = values
  generator = np.random.default_rng(seed)
  low, high = _ends(
    [
      _resampled(table_TD, counts, size, generator)
      for size in _sizes(table_TD.size)
    ]
  )
  mean = float(np.mean([np.mean(values) for values in scores.values()]))
  return Interval(mean, low, high, len(counts), int(counts.max()))


def of_targets(values: Sequence[float], seed: int = 0) -> Interval:
  """The interval of the mean over the targets of one task and one draw.

  Targets are drawn with replacement. Equal values are drawn together, by their
  number, which takes the time of the distinct ones alone.

  Raises:
    ValueError: there is no target.
  """
  if not len(values):
    raise ValueError("an interval needs a score of every target, got none")
  distinct, counts = np.unique(np.asarray(values, float), return_counts=True)
  found = of_counts(counts, lambda drawn: drawn @ distinct / len(values), seed)
  return dataclasses.replace(found, mean=float(np.mean(values)))


def of_counts(
  counts: Sequence[int] | np.ndarray,
  statistic: Callable[[np.ndarray], np.ndarray],
  seed: int = 0,
) -> Interval:
  """The interval of what depends on how many targets there are of each kind.

  Args:
    counts: of each kind.
    statistic: of counts [X, kinds], the value of each of X samples.
    seed: of the resamples, in which targets are drawn with replacement.
  """
  counts = np.asarray(counts)
  drawn = np.random.default_rng(seed).multinomial(
    counts.sum(), counts / counts.sum(), size=_NUM_RESAMPLES
  )
  low, high = _ends([statistic(drawn)])
  return Interval(float(statistic(counts[None])[0]), low, high, 1, draws=1)


def of_answers(values: Sequence[float], seed: int = 0) -> Interval:
  """As `of_targets`, of scores from 0 to 1 of which there may be few.

  Where all are right, or all wrong, resamples are too, and the interval would have
  no width. Its other end is then the share that comes out so once in twenty times
  (exactly, of independent answers): after 6 of 6 it begins at 0.61.

  Raises:
    ValueError: there is no score.
  """
  found = of_targets(values, seed)
  least = (1 - _CONFIDENCE) ** (1 / len(values))
  if found.low == found.high == 1:
    return dataclasses.replace(found, low=least)
  if found.low == found.high == 0:
    return dataclasses.replace(found, high=1 - least)
  return found


def of_median(
  values: Sequence[float], seed: int = 0
) -> tuple[float, float, float]:
  """The least value that half of them do not exceed, and its 95% interval.

  One of the values, as are the ends: none lies between two of them. The interval
  is over values drawn with replacement, one for each task.

  Raises:
    ValueError: there is no value.
  """
  if not len(values):
    raise ValueError("a median needs a value of every task, got none")
  array = np.asarray(values, float)
  middle = (len(array) - 1) // 2
  generator = np.random.default_rng(seed)
  medians = []
  for size in _sizes(len(array)):
    drawn = array[generator.integers(len(array), size=(size, len(array)))]
    medians.append(np.partition(drawn, middle, axis=1)[:, middle])
  low, high = _ends(medians, method="inverted_cdf")
  return float(np.partition(array, middle)[middle]), low, high


def _sizes(width: int) -> Iterator[int]:
  """Of parts of all resamples, so that none holds too many numbers."""
  most = max(1, _AT_ONCE // width)
  for first in range(0, _NUM_RESAMPLES, most):
    yield min(most, _NUM_RESAMPLES - first)


def _ends(
  parts: Sequence[np.ndarray], method: Any = "linear"
) -> tuple[float, float]:
  edge = 50 * (1 - _CONFIDENCE)
  low, high = np.percentile(
    np.concatenate(parts), [edge, 100 - edge], method=method
  )
  return float(low), float(high)


def _resampled(
  table_TD: np.ndarray,
  counts: np.ndarray,
  size: int,
  generator: np.random.Generator,
) -> np.ndarray:
  """Means of `size` resamples."""
  num_tasks, num_draws = table_TD.shape
  tasks_XT = generator.integers(num_tasks, size=(size, num_tasks))
  if num_draws == 1:
    return table_TD[tasks_XT, 0].mean(1)
  counts_XT = counts[tasks_XT]
  uniform_XTD = generator.random((size, num_tasks, num_draws))
  draws_XTD = (uniform_XTD * counts_XT[..., None]).astype(int)
  values_XTD = table_TD[tasks_XT[..., None], draws_XTD]
  # A task with fewer draws than others is resampled to as many as it has.
  used_XTD = np.arange(num_draws) < counts_XT[..., None]
  return ((values_XTD * used_XTD).sum(2) / counts_XT).mean(1)
