"""Tasks trained side by side: each exactly as if it were alone."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from hyperjax import adapters, optimizers, trees
from hyperjax.models import problems
from tests import testing

NUM_TASKS, STEPS = 4, 3
CONFIG = dataclasses.replace(testing.CONFIG, num_encoder_layers=1)
SPECS = {
  "prefix": testing.SPECS["prefix"],
  "lora": adapters.LoraSpec(2, projections=("query", "wo")),
  "ia3": testing.SPECS["ia3"],
}
# Clipping is at work at every step, and Adafactor factors every matrix. An eps
# above the noise of tiny gradients, or Adam amplifies rounding.
OPTIMIZERS = {
  "adam": optimizers.AdamW(
    optimizers.Constant(1e-2), eps=1e-4, weight_decay=0.1, clip_norm=0.05
  ),
  "adafactor": optimizers.Adafactor(
    optimizers.LinearDecay(1e-1, 10), min_dim_size_to_factor=2, clip_norm=0.05
  ),
}


@functools.cache
def _frozen():
  problem = problems.AdapterFineTuning(CONFIG, SPECS["lora"])
  return jax.device_get(testing.make_trainer(problem).init(0).frozen)


def _params(spec):
  """Different values for every task."""
  own = testing.draw(spec.abstract(CONFIG, NUM_TASKS))
  return {"adapters": adapters.as_params(own)}


def _batch(step):
  """Task 1's targets are all of one token: weights differ between tasks."""
  batch = testing.batch(NUM_TASKS, 2, seed=7 * step)
  targets = batch.decoder_target_tokens.copy()
  targets[2:4, 1:] = 0
  return dataclasses.replace(
    batch,
    demonstrations=None,
    decoder_target_tokens=targets,
    decoder_loss_weights=(targets > 0).astype(np.float32),
  )


@functools.cache
def _trainer(name, optimizer, num_tasks, num_devices=1):
  problem = problems.AdapterFineTuning(CONFIG, SPECS[name], num_tasks)
  return testing.make_trainer(problem, OPTIMIZERS[optimizer], num_devices)


def _trained(name, optimizer, tasks, num_devices=1):
  """The state of some tasks after a few steps together, and their losses."""
  trainer = _trainer(name, optimizer, len(tasks), num_devices)
  params = jax.tree.map(lambda x: np.asarray(x)[:, tasks], _params(SPECS[name]))
  state = trainer.init(0, (params, _frozen()))
  rows = np.concatenate([[2 * task, 2 * task + 1] for task in tasks])
  losses = []
  for step in range(STEPS):
    batch = jax.tree.map(lambda x: x[rows], _batch(step))
    state, metrics = trainer.train_step(state, trainer.layout.place_own(batch))
    losses.append(float(metrics["loss"][0] / metrics["loss"][1]))
  return jax.device_get(state), losses


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", SPECS)
def test_each_task_becomes_what_it_becomes_alone(name, optimizer):
  together, losses = _trained(name, optimizer, list(range(NUM_TASKS)))
  alone = [_trained(name, optimizer, [task]) for task in range(NUM_TASKS)]
  np.testing.assert_allclose(
    losses, np.mean([own for _, own in alone], axis=0), rtol=1e-5
  )
  before = trees.flatten(_params(SPECS[name]))
  for path, leaf in trees.flatten(together.params).items():
    for task, (own, _) in enumerate(alone):
      moved = leaf[:, task] - before[path][:, task]
      wanted = trees.flatten(own.params)[path][:, 0] - before[path][:, task]
      distance = np.linalg.norm(moved - wanted)
      assert distance <= 1e-3 * np.linalg.norm(wanted), (path, task)


@pytest.mark.slow
def test_tasks_on_several_devices_are_those_of_one():
  tasks = list(range(NUM_TASKS))
  one, _ = _trained("prefix", "adam", tasks)
  four, _ = _trained("prefix", "adam", tasks, num_devices=4)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    four.params,
    one.params,
  )


@pytest.mark.parametrize("num_devices", [1, 4])
def test_microbatches_of_rows_of_each_task_make_the_same_update(num_devices):
  """Also where a task's rows have different numbers of target tokens."""
  problem = problems.AdapterFineTuning(CONFIG, SPECS["lora"], NUM_TASKS)
  # Neither its first step nor its moments hide what a gradient is multiplied by.
  adam = optimizers.AdamW(optimizers.Constant(1e-2), eps=1.0)
  batch = testing.batch(NUM_TASKS, 2)
  targets = batch.decoder_target_tokens.copy()
  targets[2, 1:] = targets[5] = 0  # a row of task 2 has no token at all
  batch = dataclasses.replace(
    batch,
    demonstrations=None,
    decoder_target_tokens=targets,
    decoder_loss_weights=(targets > 0).astype(np.float32),
  )
  found = []
  for count in (1, 2):
    trainer = testing.make_trainer(
      problem, adam, num_devices, num_microbatches=count
    )
    trainer.check(NUM_TASKS, 2)
    state = trainer.init(0, (_params(SPECS["lora"]), _frozen()))
    placed = trainer.layout.place_own(batch)
    state, metrics = trainer.train_step(state, placed)
    means = {name: x / weight for name, (x, weight) in metrics.items()}
    state = dataclasses.replace(state, key=jax.random.key_data(state.key))
    found.append(jax.device_get((state, means)))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), *found
  )


def test_moments_lie_where_their_adapters_lie():
  """Each device holds the tasks of its part of the batch, nothing else."""
  trainer = _trainer("prefix", "adam", NUM_TASKS, 4)
  moments = trainer.abstract.opt_state[1][0].mu
  for leaf in jax.tree.leaves((trainer.abstract.params, moments)):
    assert leaf.sharding.shard_shape(leaf.shape)[1] == 1
  shared = _trainer("prefix", "adam", 1, 4).abstract.params
  for leaf in jax.tree.leaves(shared):
    assert leaf.sharding.shard_shape(leaf.shape) == leaf.shape


def test_a_batch_of_other_than_the_tasks_is_refused():
  problem = problems.AdapterFineTuning(CONFIG, SPECS["prefix"], NUM_TASKS)
  with pytest.raises(ValueError, match=r"8 contexts; 4 tasks are trained side"):
    testing.make_trainer(problem).check(8)
  three = testing.make_trainer(problem, num_microbatches=3)
  with pytest.raises(
    ValueError,
    match=r"NUM_MICROBATCHES is 3; .* divide the 2 rows of each of 4",
  ):
    three.check(NUM_TASKS, 2)
  three.check(NUM_TASKS, 6)
  with pytest.raises(ValueError, match=r"num_tasks must be a whole.*got 0"):
    problems.AdapterFineTuning(CONFIG, SPECS["prefix"], 0)
