"""Intervals against cases that can be worked out by hand."""

import itertools
import math

import numpy as np
import pytest

from hyperjax.scores import intervals


def _percentiles(means):
  """Of means that are equally likely, all of them given."""
  return np.percentile(means, [2.5, 97.5], method="inverted_cdf")


def test_two_tasks_one_right_and_one_wrong():
  """Resamples are 0, 1/2 and 1 with 1/4, 1/2 and 1/4: the interval is all."""
  found = intervals.bootstrap({"a": [0.0], "b": [1.0]})
  assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)
  assert (found.tasks, found.draws) == (2, 1)


def test_ten_tasks_follow_the_binomial():
  """Five of ten are right: P(at most 1) = 1.07%, P(at most 2) = 5.47%.

  So 2.5% lies at two of ten, and by symmetry 97.5% at eight.
  """
  at_most = [
    sum(math.comb(10, k) for k in range(n + 1)) / 2**10 for n in range(3)
  ]
  assert at_most[1] < 0.025 < at_most[2]
  scores = {str(i): [float(i < 5)] for i in range(10)}
  found = intervals.bootstrap(scores)
  assert (found.mean, found.low, found.high) == (0.5, 0.2, 0.8)


def test_targets_of_one_task_follow_the_binomial_too():
  """Five of ten are right, as above; with all alike there is nothing to draw."""
  found = intervals.of_targets([1.0, 0.0] * 5)
  assert (found.mean, found.low, found.high) == (0.5, 0.2, 0.8)
  assert (found.tasks, found.draws) == (1, 1)
  found = intervals.of_targets([0.25] * 3)
  assert (found.mean, found.low, found.high) == (0.25, 0.25, 0.25)
  with pytest.raises(ValueError, match="score of every target, got none"):
    intervals.of_targets([])


def test_one_task_is_resampled_over_its_draws():
  """All 27 resamples of three draws, enumerated."""
  draws = [0.0, 0.3, 0.9]
  means = [np.mean(some) for some in itertools.product(draws, repeat=3)]
  found = intervals.bootstrap({"a": draws})
  np.testing.assert_allclose([found.low, found.high], _percentiles(means))
  assert found.mean == pytest.approx(0.4) and found.draws == 3


def test_tasks_and_draws_are_both_resampled():
  """Two tasks of two draws: all 2^2 choices of tasks times 2^2 x 2^2 of draws."""
  scores = {"a": [0.0, 0.2], "b": [0.6, 1.0]}
  means = [
    np.mean([np.mean(first), np.mean(second)])
    for tasks in itertools.product(scores.values(), repeat=2)
    for first in itertools.product(tasks[0], repeat=2)
    for second in itertools.product(tasks[1], repeat=2)
  ]
  found = intervals.bootstrap(scores)
  np.testing.assert_allclose([found.low, found.high], _percentiles(means))
  assert found.mean == pytest.approx(0.45)


def test_tasks_may_have_unequal_numbers_of_draws():
  """Each task counts once, whatever the number of its draws."""
  found = intervals.bootstrap({"a": [0.0], "b": [1.0, 1.0, 1.0]})
  assert (found.mean, found.low, found.high) == (0.5, 0.0, 1.0)
  same = intervals.bootstrap({"a": [0.7], "b": [0.7, 0.7, 0.7]})
  np.testing.assert_allclose([same.mean, same.low, same.high], 0.7)


def test_the_same_seed_gives_the_same_interval():
  scores = {str(i): [i / 7, (i % 3) / 7] for i in range(7)}
  assert intervals.bootstrap(scores) == intervals.bootstrap(scores)


@pytest.mark.parametrize("scores", [{}, {"a": [1.0], "b": []}])
def test_a_task_without_scores_is_refused(scores):
  with pytest.raises(ValueError, match="an interval needs a score"):
    intervals.bootstrap(scores)


def test_a_median_and_its_interval_are_values_that_were_there():
  """Nine of ten are 10: few resamples have six 90s, which makes 90 the median."""
  values = [10.0] * 9 + [90.0]
  assert intervals.of_median(values) == (10, 10, 10)
  # Half do not exceed 10; of resamples of two a quarter are 90 twice.
  assert intervals.of_median([10.0, 90.0]) == (10, 10, 90)
  with pytest.raises(ValueError, match="got none"):
    intervals.of_median([])


def test_an_interval_is_that_of_ten_thousand_resamples():
  """By the documented draws: tasks of a resample, then its draws."""
  values = np.arange(7.0) ** 2
  drawn = np.random.default_rng(3).integers(7, size=(10_000, 7))
  low, high = np.percentile(values[drawn].mean(1), [2.5, 97.5])
  found = intervals.bootstrap({str(x): [x] for x in values}, seed=3)
  assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


@pytest.mark.parametrize("at_once", [1, 700, 1_000_000])
def test_numbers_held_together_do_not_change_an_interval(monkeypatch, at_once):
  scores = {str(i): [float(i), i / 2] for i in range(5)}
  values = [float(i) for i in range(9)]
  wanted = intervals.bootstrap({"a": values}), intervals.of_median(values)
  draws = intervals.bootstrap(scores)
  sizes = []
  resampled = intervals._resampled

  def watched(table, counts, size, generator):
    sizes.append(size * table.size)
    return resampled(table, counts, size, generator)

  monkeypatch.setattr(intervals, "_AT_ONCE", at_once)
  monkeypatch.setattr(intervals, "_resampled", watched)
  found = intervals.bootstrap(scores)
  assert found.mean == draws.mean
  np.testing.assert_allclose(
    [found.low, found.high], [draws.low, draws.high], atol=0.3
  )
  assert max(sizes) <= max(at_once, 10) and sum(sizes) == 10_000 * 10
  assert intervals.of_median(values)[0] == wanted[1][0]
