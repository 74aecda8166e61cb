"""Steps until tasks reach a loss, by hand."""

import math

from hyperjax.report import steps


def _curve(*losses, every=10):
  return [(every * i, loss) for i, loss in enumerate(losses)]


def test_a_loss_is_reached_at_the_first_look_that_is_no_higher():
  curve = _curve(0.9, 0.5, 0.2, 0.4)
  assert steps.reach(curve, 0.5) == steps.Reach(10, True)
  assert steps.reach(curve, 0.3) == steps.Reach(20, True)


def test_a_loss_that_is_never_reached_takes_one_period_more_at_least():
  assert steps.reach(_curve(0.9, 0.5, 0.2), 0.1) == steps.Reach(30, False)
  assert steps.reach([(0, 0.9)], 0.1) == steps.Reach(1, False)


def test_losses_to_ask_about_are_the_lowest_that_tasks_reach():
  """Lowest of a run's three tasks: 0.1, 0.3, 0.5, and 0.2, 0.4, 0.612."""
  one = {"a": _curve(2, 0.1), "b": _curve(2, 0.3, 0.9), "c": _curve(0.5, 2)}
  other = {"a": _curve(2, 0.2), "b": _curve(2, 0.4), "c": _curve(2, 0.612)}
  found = steps.levels([one, other])
  assert [(level.loss, level.rules) for level in found] == [
    (0.62, (steps.EVERY,)),
    (0.4, (steps.HALF,)),
    (0.3, (steps.BEST,)),
  ]
  assert steps.main_level(found).loss == 0.4


def test_equal_losses_are_asked_about_once():
  found = steps.levels([{"a": _curve(2, 0.03)}])
  assert found == [steps.Level(0.03, (steps.EVERY, steps.HALF, steps.BEST))]


def test_a_task_whose_loss_is_not_finite_sets_no_loss():
  found = steps.levels([{"a": _curve(math.inf), "b": _curve(0.5)}])
  assert [level.rules for level in found] == [(steps.HALF, steps.BEST)]


def test_steps_saved_are_the_difference_of_those_needed():
  fast, slow = _curve(0.1, 0.1, 0.1, 0.1), _curve(0.9, 0.5, 0.2, 0.1)
  assert steps.saved(fast, slow, 0.2) == steps.Saved(20, True, False)
  assert steps.saved(slow, fast, 0.2) == steps.Saved(-20, True, False)


def test_steps_saved_over_a_run_that_never_gets_there_are_at_least_that():
  """It could get there at step 30; the other one was there at step 10."""
  fast, never = _curve(0.9, 0.1, 0.1), _curve(0.9, 0.5, 0.5)
  assert steps.saved(fast, never, 0.2) == steps.Saved(20, True, True)
  assert steps.saved(never, fast, 0.2) == steps.Saved(-20, True, True)


def test_nothing_is_known_where_neither_gets_there():
  never = _curve(0.9, 0.5, 0.5)
  assert steps.saved(never, never, 0.2) == steps.Saved(0, False, True)


def test_nothing_is_known_of_a_run_stopped_before_the_other_got_there():
  """Stopped after 10 steps it could have been there at 20; the other was at 30."""
  stopped, slow = _curve(0.9, 0.5), _curve(0.9, 0.5, 0.4, 0.1)
  assert steps.saved(stopped, slow, 0.2) == steps.Saved(0, False, True)
  assert steps.saved(slow, stopped, 0.2) == steps.Saved(0, False, True)


def test_a_run_that_is_looked_at_more_often_is_not_sooner_for_it():
  often = [(0, 0.9), (5, 0.1), (10, 0.1), (20, 0.1), (25, 0.1)]
  seldom = [(0, 0.9), (10, 0.1), (20, 0.1)]
  assert steps.saved(often, seldom, 0.2).steps == 0
