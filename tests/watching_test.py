"""Broken batches left out, figures by which checkpoints are kept, and the clock."""

import dataclasses
import functools
import logging

import jax
import numpy as np
import pytest

from hyperjax import checkpoints, loop, metrics, optimizers, sharding, watching
from hyperjax.train_state import SKIPPED
from hyperjax.trainer import Trainer
from hyperjax.watching import steps
from tests import loop_test, trainer_update_test
from tests.loop_test import BATCHES


@functools.cache
def _trainer(skips=True, num_microbatches=1):
  return Trainer(
    trainer_update_test.Chain(),
    optimizers.AdamW(optimizers.Constant(0.1)),
    sharding.MeshSpec().build(jax.devices()[:1]),
    num_microbatches,
    skips_broken=skips,
  )


def _broken(batch, value=np.nan):
  """Its last row's loss is no number."""
  weights = batch.decoder_loss_weights.copy()
  weights[-1, 0] = value
  return dataclasses.replace(batch, decoder_loss_weights=weights)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("num_microbatches", [1, 2])
def test_a_broken_batch_changes_the_step_alone(value, num_microbatches):
  trainer = _trainer(num_microbatches=num_microbatches)
  state, _ = trainer.train_step(trainer.init(0), BATCHES[0])
  before = jax.device_get((state.params, state.opt_state))
  state, sums = trainer.train_step(state, _broken(BATCHES[1], value))
  after = jax.device_get((state.params, state.opt_state))
  jax.tree.map(np.testing.assert_array_equal, after, before)
  assert int(state.step) == 2
  sums = jax.device_get(sums)
  assert sums.pop(SKIPPED) == (1, 1)
  assert sums and not any(np.any(pair) for pair in sums.values())


def test_a_whole_batch_is_taken_as_without_looking(tmp_path):
  states = []
  for skips in (True, False):
    trainer = _trainer(skips)
    state, sums = trainer.train_step(trainer.init(0), BATCHES[0])
    assert (SKIPPED in sums) == skips
    states.append(jax.device_get((state.params, state.opt_state)))
  assert sums["loss"][0] > 0
  jax.tree.map(np.testing.assert_array_equal, *states)


def _train(folder, batches, periods=loop.Periods(3, 100), **watched):
  return loop_test._train(
    folder,
    len(batches),
    periods,
    batches=batches,
    trainer=_trainer(),
    watch=watching.Watch(**watched),
  )


def test_batches_that_are_left_out_are_counted_and_named(tmp_path, caplog):
  """The run is the one that never met them, but for its number of steps."""
  batches = [BATCHES[0], _broken(BATCHES[1]), BATCHES[2]]
  with caplog.at_level(logging.WARNING):
    state, _ = _train(
      tmp_path, batches, tasks=lambda position: [f"task ending at {position}"]
    )
  (line,) = metrics.read(tmp_path / metrics.METRICS)
  assert line["skipped"] == pytest.approx(1 / 3)
  assert (
    "step 2: a loss or gradient is not finite; the batch is left out (tasks: task "
    "ending at 16)"
  ) in caplog.text
  trainer = _trainer()
  wanted = trainer.init(0)
  losses = []
  for batch in (BATCHES[0], BATCHES[2]):
    wanted, sums = trainer.train_step(wanted, batch)
    losses.append(jax.device_get(sums["loss"]))
  jax.tree.map(
    np.testing.assert_array_equal,
    jax.device_get(state.params),
    jax.device_get(wanted.params),
  )
  total, weight = np.sum(losses, axis=0)
  assert line["loss"] == pytest.approx(total / weight, rel=1e-6)


def test_too_many_in_a_row_stop_the_run(tmp_path):
  whole, broken = BATCHES[0], _broken(BATCHES[1])
  with pytest.raises(
    FloatingPointError,
    match=r"step 7: 3 batches in a row had a loss .*max_skipped\)\. The last ends "
    r"at context 56 of the data \(no task known\); the last good checkpoint is of "
    r"step 4$",
  ):
    _train(
      tmp_path,
      [broken, broken, whole, whole, broken, broken, broken, whole],
      loop.Periods(100, 4),
      max_skipped=3,
    )


def test_tasks_of_a_batch_that_is_no_number_are_named(tmp_path):
  with pytest.raises(
    FloatingPointError,
    match=r"step 1: the loss is nan\. The batch ends at context 8 of the data "
    r"\(tasks: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more\); no checkpoint was saved before",
  ):
    loop_test._train(
      tmp_path,
      1,
      loop.Periods(1, 1),
      batches=[_broken(BATCHES[0])],
      watch=watching.Watch(lambda position: [str(i) for i in range(10)]),
    )


class _Figures:
  """An evaluation that gives one figure after the other."""

  def __init__(self, *figures):
    self.figures = list(figures)

  def run(self, state):
    return {"tasks/loss": self.figures.pop(0)}


def test_a_new_best_figure_is_saved_where_it_is_found(tmp_path):
  kept = checkpoints.Kept(1, best_by="tasks/loss")
  steps = loop_test._train(
    tmp_path,
    6,
    loop.Periods(log=6, save=6, evaluate=1),
    [_Figures(9.0, 5.0, 3.0, 4.0, 3.0, 3.5, 6.0)],
    watch=watching.Watch(best_by="tasks/loss"),
    kept=kept,
  )[1]
  assert {step: facts.figure for step, facts in steps.items()} == {
    2: 3.0,
    6: 6.0,
  }


def test_a_figure_that_no_evaluation_gives_is_refused_at_the_first(tmp_path):
  with pytest.raises(
    ValueError,
    match=r"Kept.best_by is 'x', which no evaluation gives; they give ",
  ):
    loop_test._train(
      tmp_path,
      1,
      loop.Periods(1, 1, 1),
      [_Figures(9.0)],
      watch=watching.Watch(best_by="x"),
    )


def test_a_figure_that_is_no_number_is_in_no_file(tmp_path):
  with pytest.raises(FloatingPointError, match=r"step 0: .*tasks/loss is nan"):
    loop_test._train(tmp_path, 1, loop.Periods(1, 1, 1), [_Figures(np.nan)])
  assert metrics.read(tmp_path / metrics.METRICS) == []


class _Clock:
  now = 0.0

  def monotonic(self):
    return self.now


def test_a_checkpoint_is_due_once_its_minutes_have_passed(monkeypatch):
  monkeypatch.setattr(steps, "time", clock := _Clock())
  saving = watching.SaveClock(2.0)
  clock.now = 119.9
  assert not saving.is_due(is_line=True)
  clock.now = 120.0
  assert saving.is_due(is_line=False)
  saving.restart()
  clock.now = 239.9
  assert not saving.is_due(is_line=True)
  assert not watching.SaveClock(None).is_due(is_line=True)


def test_a_run_saves_by_time_without_changing_its_lines(tmp_path):
  """Also between two steps at which it would save, and to the same end."""
  lines = []
  for name, minutes in (("steps", None), ("time", 1e-9)):
    periods = loop.Periods(log=2, save=4, save_minutes=minutes)
    _, facts = loop_test._train(tmp_path / name, 5, periods)
    assert list(facts) == ([4, 5] if minutes is None else [1, 2, 3, 4, 5])
    lines.append((tmp_path / name / metrics.METRICS).read_bytes())
  assert lines[0] == lines[1]


def test_each_step_is_told_before_it_is_taken(tmp_path):
  told = []
  _train(tmp_path, BATCHES[:3], at_step=told.append)
  assert told == [1, 2, 3]
