import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hyperjax import optimizers, trees
from hyperjax.models import problems
from hyperjax.models.t5_layers import T5Config
from tests import testing

# Extents that every mesh below divides.
CONFIG = T5Config(
  vocab_size=40,
  emb_dim=16,
  num_heads=4,
  head_dim=4,
  mlp_dim=24,
  num_encoder_layers=2,
  num_decoder_layers=2,
)
BATCH = testing.batch(8, 2)


def _problem(name):
  return testing.hypertuning(testing.SPECS[name], CONFIG)


class _Watched(optimizers.Optimizer):
  """AdamW that also keeps the gradient it was given, in its state.

  So one compiled step shows gradients and trains.
  """

  # An eps above the noise of tiny gradients: LoRA with AdamW's usual one is
  # chaotic, and proves nothing about meshes.
  inner = optimizers.AdamW(optimizers.Constant(5e-4, warmup_steps=10), eps=1e-3)
  learning_rate = inner.learning_rate

  def build(self):
    adam = self.inner.build()

    def init(params):
      return adam.init(params), jax.tree.map(jnp.zeros_like, params)

    def update(grads, state, params=None):
      updates, inner = adam.update(grads, state[0], params)
      return updates, (inner, grads)

    return optax.GradientTransformation(init, update)


@functools.cache
def _trainer(name, devices=1, model_parallel=1, num_microbatches=1):
  return testing.make_trainer(
    _problem(name), _Watched(), devices, model_parallel, num_microbatches
  )


@functools.cache
def _given(name, past_zero):
  """Parameters on the host, at the beginning or after one update.

  Past LoRA's zero up-projections every gradient is at work.
  """
  single = _trainer(name)
  state = single.init(0)
  if past_zero:
    batch = single.layout.place_own(testing.batch(8, 2, seed=9))
    state, _ = single.train_step(state, batch)
  return jax.device_get((state.params, state.frozen))


def _loss_and_gradients(of_trainer, given):
  """Of the mean loss over `BATCH`."""
  state = of_trainer.init(0, given)
  state, metrics = of_trainer.train_step(
    state, of_trainer.layout.place_own(BATCH)
  )
  total, weight = metrics["loss"]
  return float(total) / float(weight), jax.device_get(state.opt_state[1])


def _assert_same_gradients(found, wanted):
  found, wanted = trees.flatten(found), trees.flatten(wanted)
  assert found.keys() == wanted.keys()
  for path, grad in wanted.items():
    distance = np.linalg.norm(np.asarray(found[path]) - grad)
    assert distance <= 1e-5 * np.linalg.norm(grad) + 1e-12, path


# Eight devices on each mesh; four microbatches, of two devices each.
LAYOUTS = {
  "(8, 1)": (8, 1, 1),
  "(4, 2)": (8, 2, 1),
  "(2, 4)": (8, 4, 1),
  "4 microbatches": (2, 1, 4),
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", testing.SPECS)
def test_first_loss_and_gradients_are_those_of_one_device_and_batch(
  name, layout
):
  given = _given(name, past_zero=True)
  loss, grads = _loss_and_gradients(_trainer(name), given)
  found, found_grads = _loss_and_gradients(
    _trainer(name, *LAYOUTS[layout]), given
  )
  assert abs(found - loss) <= 1e-6 * abs(loss)
  _assert_same_gradients(found_grads, grads)


def _losses(of_trainer, given, steps=20):
  state = of_trainer.init(0, given)
  losses = []
  for step in range(steps):
    # Two batches in turn: a loss on ever new random tokens would not move.
    batch = of_trainer.layout.place_own(
      testing.batch(8, 2, seed=5 * (step % 2))
    )
    state, metrics = of_trainer.train_step(state, batch)
    losses.append(metrics["loss"])
  return np.array([float(total) / float(weight) for total, weight in losses])


# Scales of a random T5's features move its loss too little in so few steps.
FAST = ("prefix", "lora")


@functools.cache
def _one_device_losses(name):
  return _losses(_trainer(name), _given(name, past_zero=False))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_one_ulp_does_not_matter_in_twenty_steps(name):
  """The control of the next test: else any difference would prove nothing."""
  params, frozen = _given(name, past_zero=False)
  plain = _one_device_losses(name)
  assert plain[0] - plain[-4:].mean() > 0.2
  nudged = jax.tree.map(lambda x: np.nextafter(x, np.inf), params)
  control = _losses(_trainer(name), (nudged, frozen))
  assert 0 < np.abs(control - plain).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FAST)
def test_twenty_steps_are_those_of_one_device_and_batch(name, layout):
  given = _given(name, past_zero=False)
  found = _losses(_trainer(name, *LAYOUTS[layout]), given)
  np.testing.assert_allclose(found, _one_device_losses(name), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_frozen_backbone_is_bit_identical_and_has_no_optimizer_state():
  of_trainer = testing.make_trainer(_problem("prefix"))
  state = of_trainer.init(0)
  before = jax.device_get(state.frozen)
  trained_before = jax.device_get(state.params)
  for seed in range(3):
    batch = of_trainer.layout.place_own(testing.batch(4, 2, seed=seed))
    state, _ = of_trainer.train_step(state, batch)
  jax.tree.map(np.testing.assert_array_equal, before, state.frozen)
  moved = jax.tree.map(
    lambda a, b: not np.array_equal(a, b), trained_before, state.params
  )
  assert all(jax.tree.leaves(moved))
  # Adam: two moments of every trained weight, one counter, nothing else.
  slots = sum(x.size for x in jax.tree.leaves(state.opt_state) if x.ndim)
  assert slots == 2 * sum(x.size for x in jax.tree.leaves(state.params))


@pytest.mark.slow
@pytest.mark.parametrize("name", testing.SPECS)
def test_gradients_reach_every_leaf_of_the_hypermodel(name):
  """For LoRA only after the first update: `up` starts at zero."""
  of_trainer = _trainer(name)

  def silent(given):
    _, grads = _loss_and_gradients(of_trainer, given)
    return {
      path for path, grad in trees.flatten(grads).items() if not np.any(grad)
    }

  before = _given(name, past_zero=False)

  paths = set(trees.flatten(before[0]))
  if name == "lora":
    ups = {path for path in paths if "/head/" in path and ".up." in path}
    assert silent(before) == paths - ups
  assert silent(_given(name, past_zero=True)) == set()


@pytest.mark.slow
def test_dropout_is_the_hypermodels_alone():
  config = dataclasses.replace(CONFIG, dropout_rate=0.3)
  problem = testing.hypertuning(testing.SPECS["prefix"], config)
  state = testing.make_trainer(problem).init(0)
  params, frozen = state.params, state.frozen
  loss = jax.jit(lambda key: problem.loss(params, frozen, BATCH, key)[0])
  one, other = loss(jax.random.key(0)), loss(jax.random.key(1))
  assert one != other
  assert loss(jax.random.key(0)) == one
  still = jax.jit(lambda: problem.loss(params, frozen, BATCH, None)[0])
  assert still() == still() != one

  # With the hypermodel's own dropout off, nothing is left that drops out.
  calm = testing.hypertuning(testing.SPECS["prefix"], CONFIG)
  mixed = problems.HyperTuning(config, calm.hypermodel, calm.adapters)
  loss = jax.jit(lambda key: mixed.loss(params, frozen, BATCH, key)[0])
  assert loss(jax.random.key(0)) == loss(jax.random.key(1))


@pytest.mark.slow
def test_training_the_backbone_jointly_moves_both():
  problem = testing.hypertuning(
    testing.SPECS["prefix"], CONFIG, train_backbone=True
  )
  of_trainer = testing.make_trainer(problem)
  state = of_trainer.init(0)
  assert state.frozen == {}
  before = jax.device_get(state.params["backbone"])
  state, _ = of_trainer.train_step(state, of_trainer.layout.place_own(BATCH))
  moved = jax.tree.map(
    lambda a, b: not np.array_equal(a, b), before, state.params["backbone"]
  )
  assert all(jax.tree.leaves(moved))


def test_a_batch_that_the_mesh_does_not_divide_is_refused():
  of_trainer = testing.make_trainer(
    _problem("prefix"), num_devices=4, num_microbatches=2
  )
  of_trainer.check(16)
  with pytest.raises(ValueError, match=r"batch of 12 contexts.*multiple of 8"):
    of_trainer.check(12)


def test_given_parameters_of_another_shape_are_refused():
  of_trainer = testing.make_trainer(_problem("prefix"))
  wrong = {"hypermodel": {"slots": np.zeros((2, 2), np.float32)}}
  with pytest.raises(
    ValueError, match=r"slots is \(2, 2\), the model's \(3, 16\)"
  ):
    of_trainer.init(0, (wrong, {}))


def test_a_mesh_that_cuts_a_parameter_unevenly_is_refused_by_name():
  odd = dataclasses.replace(CONFIG, num_heads=3)
  with pytest.raises(
    ValueError,
    match=r"(?s)'model': 2.*model_parallel.*rel_embedding \[3, 32\] over \[2, 1",
  ):
    testing.make_trainer(
      testing.hypertuning(testing.SPECS["prefix"], odd),
      num_devices=2,
      model_parallel=2,
    )
