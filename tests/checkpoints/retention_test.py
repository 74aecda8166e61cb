"""Which checkpoints are kept."""

import jax
import jax.numpy as jnp
import pytest

from hyperjax import checkpoints, train_state
from hyperjax.checkpoints import Kept

STEPS = list(range(1, 9))
FIGURES = {1: 0.5, 2: 0.2, 4: 0.9, 6: 0.2, 7: None}


@pytest.mark.parametrize(
  "kept, wanted",
  [
    (Kept(2), [7, 8]),
    (Kept(20), STEPS),
    (Kept(None), STEPS),
    (Kept(1, every=3), [3, 6, 8]),
    (Kept(1, best_by="loss"), [2, 8]),
    (Kept(1, best_by="loss", best_is="max"), [4, 8]),
    (Kept(2, every=5, best_by="loss", best_is="max"), [4, 5, 7, 8]),
  ],
  ids=str,
)
def test_the_last_every_so_many_and_the_best_are_kept(kept, wanted):
  """Of equal figures the first, which the later one did not better."""
  assert kept.steps(STEPS, FIGURES) == wanted


def test_without_figures_there_is_no_best():
  assert Kept(best_by="loss").best({}) is None
  assert Kept(best_by="loss").best({3: None}) is None
  assert Kept().best(FIGURES) is None


def _state(step):
  params = {"a": jnp.full(2, float(step))}
  key = jax.random.key(0)
  return train_state.TrainState(jnp.int32(step), params, {}, {}, key)


def _saved(saver, figures):
  for step, figure in figures.items():
    key = checkpoints.key_data(jax.random.key(0))
    saver.save(_state(step), checkpoints.Facts(0, {}, key, figure, "loss"))
  saver.wait()
  return saver.steps()


def test_the_best_outlives_those_around_it_also_after_a_restart(tmp_path):
  kept = Kept(1, best_by="loss")
  saver = checkpoints.Checkpoints(tmp_path / "checkpoints", kept)
  assert _saved(saver, {1: 0.5, 2: 0.2, 3: 0.3, 4: None}) == [2, 4]
  assert saver.is_best(0.1)
  assert not saver.is_best(0.2) and not saver.is_best(0.25)
  saver.close()
  again = checkpoints.Checkpoints(tmp_path / "checkpoints", kept)
  assert again.last_whole() == 4
  assert not again.is_best(0.2) and again.is_best(0.1)
  assert _saved(again, {5: 0.4, 6: 0.1, 7: 0.3}) == [6, 7]
  facts = again.facts(6)
  assert (facts.figure, facts.figure_of) == (0.1, "loss")
  again.close()


def test_a_figure_of_another_name_is_none_by_which_the_best_is_kept(tmp_path):
  """A run that goes on by accuracy compares no losses with it."""
  folder = tmp_path / "checkpoints"
  saver = checkpoints.Checkpoints(folder, Kept(1, best_by="loss"))
  assert _saved(saver, {1: 0.9, 2: 0.5}) == [2]
  saver.close()
  kept = Kept(1, best_by="accuracy", best_is="max")
  again = checkpoints.Checkpoints(folder, kept)
  assert again.is_best(0.1)
  again.close()


def test_where_no_best_is_asked_for_no_figure_is_better(tmp_path):
  saver = checkpoints.Checkpoints(tmp_path / "checkpoints")
  assert not saver.is_best(0.1)
  saver.close()
