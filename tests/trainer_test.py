import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from hyperjax import optimizers, sharding, trees
from hyperjax.batch import Batch
from hyperjax.models import problems
from hyperjax.models.t5_layers import T5Config
from tests import testing, trainer_update_test

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

  def build(self, rate=None):
    adam = self.inner.build(rate)

    def init(params):
      return adam.init(params), jax.tree.map(jnp.zeros_like, params)

    def update(grads, state, params=None):
      updates, inner = adam.update(grads, state[0], params)
      return updates, (inner, grads)

    return optax.GradientTransformation(init, update)


@functools.cache
def _trainer(name, devices=1, axes=(), num_microbatches=1):
  return testing.make_trainer(
    _problem(name), _Watched(), devices, axes, num_microbatches
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
  "data 8": (8,),
  "tensor 4": (8, (("tensor", 4),)),
  "fsdp 8": (8, (("fsdp", 8),)),
  "fsdp 4, tensor 2": (8, (("fsdp", 4), ("tensor", 2))),
  "replica 2, fsdp 2, tensor 2": (
    8,
    (("replica", 2), ("fsdp", 2), ("tensor", 2)),
  ),
  "4 microbatches": (2, (), 4),
}


@pytest.mark.slow
@pytest.mark.parametrize(
  "name, layout",
  [
    (name, layout)
    for name in testing.ALONE
    for layout in LAYOUTS
    # A memory is written and read on meshes as prefixes are, but for one axis.
    if name != "memory" or layout in ("data 8", "fsdp 4, tensor 2")
  ],
)
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
@pytest.mark.parametrize("name", testing.ALONE)
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
    match=r"(?s)'tensor': 2.*MeshSpec.axes\) does not divide these parameters "
    r"\(tensor may be 1\):.*rel_embedding \[3, 32\] over \[2, 1",
  ):
    testing.make_trainer(
      testing.hypertuning(testing.SPECS["prefix"], odd),
      num_devices=2,
      axes={"tensor": 2},
    )


def test_given_parameters_lie_where_and_as_the_model_has_them():
  """Of the host or of devices, in their own dtype."""
  layout = testing.make_trainer(
    _problem("prefix"), num_devices=2, axes={"tensor": 2}
  ).layout
  abstract = {
    "a": jax.ShapeDtypeStruct(
      (2, 4),
      "float32",
      sharding=layout.sharding((sharding.EMBED, sharding.MLP)),
    ),
    "b": {"c": jax.ShapeDtypeStruct((3,), "int32", sharding=layout.replicated)},
  }
  values = np.arange(8).reshape(2, 4)
  given = {"a": values.astype(np.int16), "b": {"c": jnp.arange(3.0)}}
  placed = trees.place_params(given, abstract)
  for found, like in zip(
    jax.tree.leaves(placed), jax.tree.leaves(abstract), strict=True
  ):
    assert (found.sharding, found.dtype) == (like.sharding, like.dtype)
  np.testing.assert_array_equal(placed["a"], values)
  np.testing.assert_array_equal(placed["b"]["c"], [0, 1, 2])
  with pytest.raises(ValueError, match=r"^1 parameters are missing: b/c$"):
    trees.place_params({"a": values}, abstract)
  with pytest.raises(ValueError, match=r"parameter a is \(4, 2\).*\(2, 4\)"):
    trees.place_params(given | {"a": values.T}, abstract)


def test_many_missing_parameters_are_counted_and_some_are_named():
  layout = sharding.MeshSpec().build(jax.devices()[:1])
  like = jax.ShapeDtypeStruct((), "float32", sharding=layout.replicated)
  abstract = {f"p{i:02}": like for i in range(12)}
  with pytest.raises(
    ValueError, match=r"^12 parameters are missing: p00, .*, p08, p09$"
  ):
    trees.place_params({}, abstract)


@dataclasses.dataclass(frozen=True)
class _Split(problems.Problem):
  """A weight split over the mesh, one that is whole, and a frozen one."""

  def init(self, key):
    keys = jax.random.split(key, 3)
    names = (sharding.BATCH, sharding.MLP)
    split = [
      nn.LogicallyPartitioned(jax.random.normal(k, (4, 6)), names)
      for k in keys[:2]
    ]
    own = {"split": split[0], "whole": jax.random.normal(keys[2], (6,))}
    return own, {"kept": split[1]}

  def loss(self, params, frozen, batch, key):
    del batch, key
    product = params["split"] * frozen["kept"] * params["whole"]
    loss, weight = product.sum(), jnp.float32(1)
    return loss, weight, {"loss": (loss, weight)}


@pytest.fixture(scope="module")
def split():
  return testing.make_trainer(_Split(), num_devices=4, axes={"tensor": 2})


def test_a_state_lies_on_the_mesh_as_its_axes_say(split):
  """Moments where their parameters lie, the step and the key everywhere."""
  state = split.init(0)
  for x, like in zip(
    jax.tree.leaves(state), jax.tree.leaves(split.abstract), strict=True
  ):
    assert (x.sharding, x.dtype) == (like.sharding, like.dtype)
  mu, nu = (optax.tree.get(state.opt_state, name) for name in ("mu", "nu"))
  for tree in (state.params, mu, nu):
    assert tree["split"].sharding.shard_shape((4, 6)) == (2, 3)
    assert tree["whole"].sharding == split.layout.replicated
  assert state.frozen["kept"].sharding.shard_shape((4, 6)) == (2, 3)
  for leaf in (state.step, state.key):
    assert leaf.sharding == split.layout.replicated
  assert int(state.step) == 0


def test_a_state_stays_where_it_lies_after_an_update(split):
  """Though the gradient of what is whole comes in parts."""
  batch = Batch(np.ones((2, 1), np.int32), None, None, None)
  state, _ = split.train_step(split.init(0), split.layout.place_own(batch))
  for x, like in zip(
    jax.tree.leaves(state), jax.tree.leaves(split.abstract), strict=True
  ):
    assert x.sharding == like.sharding


def test_what_is_given_is_kept_and_only_the_rest_is_drawn(split):
  whole = jax.device_get(split.init(3))
  own = np.full((4, 6), 0.5, np.float16)
  state = split.init(3, ({"split": own}, {}))
  np.testing.assert_array_equal(state.params["split"], own)
  np.testing.assert_array_equal(state.params["whole"], whole.params["whole"])
  np.testing.assert_array_equal(state.frozen["kept"], whole.frozen["kept"])
  kept = np.ones((4, 6), np.float32)
  state = split.init(3, ({}, {"kept": kept}))
  np.testing.assert_array_equal(state.frozen["kept"], kept)
  np.testing.assert_array_equal(state.params["split"], whole.params["split"])
  other = split.init(4)
  assert (other.params["split"] != whole.params["split"]).all()
  assert other.key != whole.key


def test_a_state_has_keys_of_its_own_for_drawing_and_for_its_steps(split):
  """From the seed: the first half draws weights, the second is folded."""
  state = split.init(5)
  draws, steps = jax.random.split(jax.random.key(5))
  drawn = nn.meta.unbox(_Split().init(draws))
  np.testing.assert_allclose(state.params["whole"], drawn[0]["whole"])
  np.testing.assert_allclose(state.frozen["kept"], drawn[1]["kept"])
  assert state.key == steps


def test_a_step_is_compiled_once_and_its_results_lie_where_it_says():
  """Checked for shapes alone, then taken; the state before it is given away."""
  of_trainer = testing.make_trainer(trainer_update_test.Chain(), num_devices=2)
  batch = trainer_update_test._batch(0)
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)
  of_trainer.check_memory(shapes)
  state, place = of_trainer.init(0), of_trainer.layout.place_own
  before = state.params["embedding"]
  metrics = of_trainer.eval_step(state, batch)  # of the host
  again = of_trainer.eval_step(state, place(batch))
  assert again == metrics and of_trainer._eval_step.num_compiled == 1
  assert not before.is_deleted()
  after, found = of_trainer.train_step(state, place(batch))
  assert before.is_deleted()
  assert of_trainer._train_step.num_compiled == 1
  for x, like in zip(
    jax.tree.leaves(after), jax.tree.leaves(of_trainer.abstract), strict=True
  ):
    assert x.sharding == like.sharding
  for leaf in jax.tree.leaves((metrics, found)):
    assert leaf.sharding == of_trainer.layout.replicated
  # Of the parameters that the step began with.
  for name, (total, weight) in metrics.items():
    np.testing.assert_allclose(found[name][0], total, rtol=1e-6)
    assert found[name][1] == weight
