"""A T5 whose padding has another id than 0 is trained and scored the same."""

import dataclasses

import jax
import numpy as np
import pytest

from hyperjax import adapters, trees
from hyperjax.batch import Lengths, decoder_fields
from hyperjax.data import feed, sources
from hyperjax.data.buckets import Bucket, Microbatches
from hyperjax.data.episodes import Episodes, FewShot
from hyperjax.evaluation.few_shot import Evaluator
from hyperjax.evaluation.loss import LossEvaluation
from hyperjax.models import forward, problems
from tests import testing
from tests.evaluation import curves_test, few_shot_test

PAD = 39  # an id that no text has
LENGTHS = Lengths(inputs=6, targets=7, demonstrations=20)
TASKS = few_shot_test.TARGETS.tasks


def _other(config):
  return dataclasses.replace(config, pad_id=PAD, start_id=PAD)


def _swapped(tree):
  """Parameters in which the ids 0 and `PAD` have changed places."""

  def swap(path, x):
    if not path.endswith(("token_embedder/embedding", "logits_dense/kernel")):
      return x
    axis = 0 if path.endswith("embedding") else -1
    order = np.arange(testing.CONFIG.vocab_size)
    order[[0, PAD]] = PAD, 0
    return np.take(x, order, axis)

  flat = trees.flatten(jax.device_get(tree))
  return trees.unflatten({path: swap(path, x) for path, x in flat.items()})


def _both(problem, other):
  """Two trainers of the same T5, of which one pads with another id."""
  trainer = testing.make_trainer(problem)
  state = trainer.init(0)
  again = state.replace(
    params=_swapped(state.params), frozen=_swapped(state.frozen)
  )
  return (trainer, state), (testing.make_trainer(other), again)


@pytest.fixture(scope="module")
def hypertuned():
  spec = adapters.PrefixSpec(3, key_stddev=4.0)
  other = testing.hypertuning(spec, _other(testing.CONFIG))
  return _both(testing.hypertuning(spec), other)


def _losses(trainer, state, batches):
  return [
    jax.device_get(trainer.eval_step(state, jax.device_put(batch)))
    for batch in batches
  ]


def _assert_close(found, wanted):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5), found, wanted
  )


def _episodes():
  return Episodes(TASKS, FewShot((1, 3), 2), LENGTHS, seed=4)


def test_a_step_has_the_same_loss(hypertuned):
  (trainer, state), (again, swapped) = hypertuned
  with feed.Feed(_episodes(), 4, pad_id=PAD) as batches:
    of_other, _ = next(batches)
  one = feed.make_batch(_episodes(), 0, range(4))
  assert (of_other.encoder_input_tokens != one.encoder_input_tokens).any()
  found = _losses(again, swapped, [of_other])
  _assert_close(found, _losses(trainer, state, [one]))


def test_so_it_has_in_microbatches_of_buckets(hypertuned):
  (trainer, state), (again, swapped) = hypertuned
  buckets = [Bucket(2, Lengths(4, 5, 20)), Bucket(2, LENGTHS)]
  parts = [
    Microbatches(_episodes(), 3, buckets, pad_id=pad_id)(0)
    for pad_id in (0, PAD)
  ]
  found = _losses(again, swapped, parts[1])
  _assert_close(found, _losses(trainer, state, parts[0]))


@pytest.mark.slow
def test_demonstrations_in_the_input_have_no_gap():
  config = testing.CONFIG
  (trainer, state), (again, swapped) = _both(
    problems.FullFineTuning(config, True),
    problems.FullFineTuning(_other(config), True),
  )
  one, of_other = (
    feed.make_batch(_episodes(), 0, range(2), pad_id) for pad_id in (0, PAD)
  )
  found = _losses(again, swapped, [of_other])
  _assert_close(found, _losses(trainer, state, [one]))


def _renamed(answer):
  """The ids of an answer, 0 and `PAD` having changed places."""
  places = {"0": str(PAD), str(PAD): "0"}
  return " ".join(places.get(x, x) for x in answer.split())


@pytest.mark.slow
def test_answers_of_an_evaluation_are_the_same(hypertuned):
  wanted, found = (
    Evaluator(few_shot_test._evaluation(), own.problem, own.layout).run(
      state.params, state.frozen
    )
    for own, state in hypertuned
  )
  for one, other in zip(wanted, found, strict=True):
    renamed = {x: _renamed(y) for x, y in other.predictions.items()}
    assert renamed == one.predictions


def test_a_decoder_begins_with_the_start_also_where_padding_is_another_id():
  config = dataclasses.replace(testing.CONFIG, pad_id=PAD)
  targets_BT = np.array([[7, 8, PAD], [9, PAD, PAD]], np.int32)
  given_BT = decoder_fields(targets_BT, PAD)["decoder_input_tokens"]
  found_BT = forward.begun(config, given_BT)
  np.testing.assert_array_equal(found_BT, [[0, 7, 8], [0, 9, PAD]])


@pytest.mark.slow
def test_held_out_losses_are_the_same(hypertuned):
  data = sources.FewShotEpisodes(
    few_shot_test.TARGETS,
    {"inputs": 6, "targets": 7, "demonstrations": 20},
    (1, 3),
    2,
  )
  evaluation = LossEvaluation("held", data, 2, 4)
  wanted, found = (
    evaluation.prepare(trainer).run(state) for trainer, state in hypertuned
  )
  _assert_close(found, wanted)


@pytest.mark.slow
def test_curves_of_tasks_side_by_side_are_the_same():
  spec = testing.SPECS["prefix"]
  both = _both(
    *(
      problems.AdapterFineTuning(config, spec, 2)
      for config in (testing.CONFIG, _other(testing.CONFIG))
    )
  )
  wanted, found = (
    curves_test._curves().prepare(trainer).run(state) for trainer, state in both
  )
  _assert_close(found, wanted)
