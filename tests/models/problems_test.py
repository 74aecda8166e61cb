"""Baselines: what is trained, what the T5 reads, whose adapter a row meets."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from hyperjax import adapters, trees
from hyperjax.models import decoding, forward, objectives, problems, t5
from hyperjax.models.t5_layers import T5Config
from tests import testing

CONFIG = testing.CONFIG
BATCH = testing.batch(4, 2)


def _initial(problem, seed=0):
  return nn.meta.unbox(jax.jit(problem.init)(jax.random.key(seed)))


def _mean_loss(problem, params, frozen, batch=BATCH):
  loss, weight, _ = jax.jit(problem.loss)(params, frozen, batch, None)
  return float(loss / weight)


@jax.jit
def _plain_loss(params, own, tokens_BS, batch=BATCH):
  """Of the T5 alone, without a problem."""
  logits = t5.T5(CONFIG).apply(
    {"params": params}, tokens_BS, batch.decoder_input_tokens, own
  )
  loss, weight, _ = objectives.token_loss(
    logits, batch.decoder_target_tokens, batch.decoder_loss_weights
  )
  return loss / weight


@pytest.mark.slow
@pytest.mark.parametrize("num_tasks", [1, 4])
@pytest.mark.parametrize("name", testing.ALONE)
def test_gradients_reach_every_adapter_leaf_and_nothing_else_is_trained(
  name, num_tasks
):
  problem = problems.AdapterFineTuning(CONFIG, testing.SPECS[name], num_tasks)
  params, frozen = _initial(problem)
  assert params.keys() == {"adapters"} and frozen.keys() == {"backbone"}
  # Past the first update: LoRA's up-projections are no longer zero.
  params = jax.tree.map(lambda x: x + 0.02, params)
  loss = lambda p: problem.loss(p, frozen, BATCH, None)[0]  # noqa: E731
  flat = trees.flatten(jax.jit(jax.grad(loss))(params))
  described = problem.adapters.abstract(CONFIG, num_tasks)
  assert len(flat) == len(jax.tree.leaves(described))
  for path, grad in flat.items():
    for task in range(num_tasks):
      assert np.abs(grad[:, task]).max() > 0, (path, task)


@pytest.mark.slow
@pytest.mark.parametrize("name", testing.ALONE)
def test_a_shared_adapter_acts_on_every_row(name):
  problem = problems.AdapterFineTuning(CONFIG, testing.SPECS[name])
  _, frozen = _initial(problem)
  own = testing.draw(problem.adapters.abstract(CONFIG))
  params = {"adapters": adapters.as_params(own)}
  found = _mean_loss(problem, params, frozen)
  tokens = BATCH.encoder_input_tokens
  wanted = _plain_loss(frozen["backbone"], own, tokens)
  assert found == pytest.approx(float(wanted), rel=1e-5)
  without = _plain_loss(frozen["backbone"], t5.NO_ADAPTERS, tokens)
  assert abs(found - without) > 1e-3


@pytest.mark.slow
def test_several_tasks_lose_the_sum_of_their_own_mean_losses():
  """Task 2 has far fewer target tokens than the others, and counts as much."""
  problem = problems.AdapterFineTuning(CONFIG, testing.SPECS["lora"], 4)
  _, frozen = _initial(problem)
  own = testing.draw(problem.adapters.abstract(CONFIG, 4))
  params = {"adapters": adapters.as_params(own)}
  weights = BATCH.decoder_loss_weights.copy()
  weights[4:6, 1:] = 0
  batch = dataclasses.replace(BATCH, decoder_loss_weights=weights)
  loss, weight, metrics = jax.jit(problem.loss)(params, frozen, batch, None)
  alone = [
    _plain_loss(
      frozen["backbone"],
      jax.tree.map(lambda x: x[:, i : i + 1], own),  # noqa: B023
      part.encoder_input_tokens,
      part,
    )
    for i in range(4)
    for part in [jax.tree.map(lambda x: x[2 * i : 2 * i + 2], batch)]  # noqa: B023
  ]
  assert float(weight) == 1
  assert float(loss) == pytest.approx(float(sum(alone)), rel=1e-5)
  total, tasks = metrics["loss"]
  assert float(total / tasks) == pytest.approx(np.mean(alone), rel=1e-5)


def test_of_a_batch_each_task_has_its_own_mean_whatever_its_weights():
  """Task 0 has weights that are no shares, task 1 one token, task 2 none."""
  config = T5Config(6, 8, 2, 4, 8, 1, 1)
  spec = adapters.PrefixSpec(2, key_stddev=2.0)
  problem = problems.AdapterFineTuning(config, spec, 3)
  frozen = {"backbone": testing.t5_params(config)}
  own = testing.draw(spec.abstract(config, 3), scale=1.0)
  batch = testing.batch(3, 2, inputs=3, targets=4, vocab_size=6)
  weights = np.zeros((6, 4), np.float32)
  weights[:2] = np.arange(8).reshape(2, 4)
  weights[3, 0] = 0.5
  batch = dataclasses.replace(batch, decoder_loss_weights=weights)
  params = {"adapters": adapters.as_params(own)}
  loss, weight, metrics = jax.jit(problem.loss)(params, frozen, batch, None)
  log_probs = jax.nn.log_softmax(
    jax.jit(t5.T5(config).apply)(
      {"params": frozen["backbone"]},
      batch.encoder_input_tokens,
      batch.decoder_input_tokens,
      own,
    )
  )
  targets = batch.decoder_target_tokens
  losses = -np.take_along_axis(np.asarray(log_probs), targets[..., None], 2)
  losses = losses[..., 0]
  wanted = (losses[:2] * weights[:2]).sum() / 28 + losses[3, 0]
  assert float(loss) == pytest.approx(wanted, rel=1e-5)
  assert float(weight) == 1
  # What is reported is the mean over the tasks that have targets.
  assert float(metrics["loss"][0]) == pytest.approx(wanted, rel=1e-5)
  assert float(metrics["loss"][1]) == pytest.approx(2)


def test_a_drawn_adapter_is_each_tasks_and_lies_with_its_tasks():
  """Alike for all tasks, by its leaf's mean and deviation."""
  config = T5Config(6, 8, 2, 4, 8, 1, 1)
  spec = adapters.PrefixSpec(64, key_stddev=2.0, value_stddev=0.1)
  several = problems.AdapterFineTuning(config, spec, 3)
  leaf = adapters.path_leaves(spec.leaves(config))
  leaf = leaf["encoder.attention.prefix.key"]
  box = several._draw(leaf, jax.random.key(0))
  assert box.names == leaf.axes
  assert box.value.shape == (1, 3, 64, 2, 4)
  drawn = np.asarray(box.value)
  assert np.std(drawn) == pytest.approx(2.0, rel=0.1)
  assert abs(np.mean(drawn)) < 0.3
  np.testing.assert_array_equal(drawn, drawn[:, :1].repeat(3, axis=1))
  # One adapter for all contexts is on every device.
  box = problems.AdapterFineTuning(config, spec)._draw(leaf, jax.random.key(0))
  assert box.names == ("layers", None, *leaf.axes[2:])
  np.testing.assert_array_equal(box.value, drawn[:, :1])
  shifted = dataclasses.replace(leaf, mean=5.0, stddev=0.0)
  np.testing.assert_array_equal(
    several._draw(shifted, jax.random.key(0)).value, np.full_like(drawn, 5.0)
  )


@pytest.mark.slow
def test_untrained_adapters_are_drawn_by_the_spec_and_alike_for_every_task():
  spec = adapters.PrefixSpec(64, key_stddev=2.0, value_stddev=0.1)
  drawn, _ = _initial(problems.AdapterFineTuning(CONFIG, spec, 3))
  single, _ = _initial(problems.AdapterFineTuning(CONFIG, spec))
  single = trees.flatten(single)
  for path, leaf in trees.flatten(drawn).items():
    stddev = 2.0 if path.endswith("key") else 0.1
    assert np.std(leaf) == pytest.approx(stddev, rel=0.05), path
    for task in range(3):
      np.testing.assert_array_equal(leaf[:, task], single[path][:, 0])
  lora, _ = _initial(problems.AdapterFineTuning(CONFIG, testing.SPECS["lora"]))
  for path, leaf in trees.flatten(lora).items():
    assert np.any(leaf) == path.endswith("down"), path
  ia3, _ = _initial(problems.AdapterFineTuning(CONFIG, testing.SPECS["ia3"]))
  for leaf in jax.tree.leaves(ia3):
    np.testing.assert_array_equal(leaf, np.ones_like(leaf))


def test_adapters_are_named_beside_what_they_change():
  spec = testing.SPECS["lora"]
  own = testing.draw(spec.abstract(CONFIG))
  params = adapters.as_params(own)
  flat, kernels = trees.flatten(params), trees.flatten(testing.t5_params())
  for path in flat:
    assert f"{path.rpartition('/')[0]}/kernel" in kernels
  jax.tree.map(
    np.testing.assert_array_equal,
    adapters.from_params(params, spec.leaves(CONFIG)),
    own,
  )


def test_demonstrations_stand_in_front_of_each_input_without_a_gap():
  demonstrations = np.array([[5, 6, 1, 0, 0], [7, 1, 0, 0, 0]])
  inputs = np.array([[20, 1, 0], [21, 22, 1], [23, 1, 0], [0, 0, 0]])
  joined = problems.in_front(demonstrations, inputs)
  assert joined.tolist() == [
    [5, 6, 1, 20, 1, 0, 0, 0],
    [5, 6, 1, 21, 22, 1, 0, 0],
    [7, 1, 23, 1, 0, 0, 0, 0],
    [7, 1, 0, 0, 0, 0, 0, 0],
  ]
  alone = np.array([[[5, 6, 1], [0, 0, 0]], [[7, 1, 0], [8, 1, 0]]])
  assert problems.in_front(alone, inputs[:2]).tolist() == [
    [5, 6, 1, 20, 1, 0, 0, 0, 0],
    [7, 1, 8, 1, 21, 22, 1, 0, 0],
  ]


@functools.cache
def _full(reads):
  problem = problems.FullFineTuning(CONFIG, reads_demonstrations=reads)
  return problem, *_initial(problem)


@pytest.mark.slow
def test_full_fine_tuning_trains_all_weights_and_leaves_demonstrations_unread():
  problem, params, frozen = _full(reads=False)
  assert not jax.tree.leaves(frozen)
  wanted = trees.flatten(testing.t5_params())
  assert trees.flatten(params["backbone"]).keys() == wanted.keys()
  other = dataclasses.replace(BATCH, demonstrations=BATCH.demonstrations + 1)
  found = _mean_loss(problem, params, frozen)
  assert found == _mean_loss(problem, params, frozen, other)
  language = problems.LanguageModel(CONFIG)
  assert found == _mean_loss(language, params, frozen)
  loss = lambda p: problem.loss(p, frozen, BATCH, None)[0]  # noqa: E731
  for path, grad in trees.flatten(jax.jit(jax.grad(loss))(params)).items():
    assert np.abs(grad).max() > 0, path


@pytest.mark.slow
def test_in_context_learning_answers_from_what_stands_in_the_input():
  """Padding of demonstrations or inputs changes nothing."""
  problem, params, frozen = _full(reads=True)
  found = _mean_loss(problem, params, frozen)
  inputs = np.concatenate(
    [np.repeat(BATCH.demonstrations, 2, axis=0), BATCH.encoder_input_tokens], 1
  )
  wanted = _plain_loss(params["backbone"], t5.NO_ADAPTERS, inputs)
  assert found == pytest.approx(float(wanted), rel=1e-6)
  padded = dataclasses.replace(
    BATCH,
    demonstrations=np.pad(BATCH.demonstrations, ((0, 0), (0, 4))),
    encoder_input_tokens=np.pad(BATCH.encoder_input_tokens, ((0, 0), (0, 2))),
  )
  padded_loss = _mean_loss(problem, params, frozen, padded)
  assert padded_loss == pytest.approx(found, rel=1e-5)


@pytest.mark.slow
def test_without_adapters_or_demonstrations_the_input_alone_is_answered():
  in_context, params, frozen = _full(reads=True)
  shared = problems.AdapterFineTuning(CONFIG, testing.SPECS["prefix"])
  own, _ = _initial(shared)
  wanted = decoding.generate(
    t5.T5(CONFIG), params["backbone"], BATCH.encoder_input_tokens, 5
  ).tokens
  for problem, trained, kept in (
    (in_context, params, frozen),
    (shared, own, params),
  ):
    both = [
      forward.decode(CONFIG, given, max_length=5).tokens
      for given in (
        testing.alone(trained, kept, BATCH),
        testing.setting(problem, trained, kept, BATCH),
      )
    ]
    np.testing.assert_array_equal(both[0], wanted)
    assert (both[1] != wanted).any()


def test_in_context_learning_without_demonstrations_is_refused():
  problem, params, frozen = _full(reads=True)
  batch = dataclasses.replace(BATCH, demonstrations=None)
  with pytest.raises(ValueError, match=r"reads_demonstrations is True, but"):
    problem.loss(params, frozen, batch, None)
