"""What an optimizer is given is the gradient of the loss that is documented.

The loss is written again from a model's logits; the keys of dropout are those
of the step and of the microbatch.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hyperjax import adapters, optimizers, trees
from hyperjax.models import hypermodel, problems, t5
from hyperjax.models.t5_layers import T5Config
from tests import testing

# Extents that every mesh below divides.
CONFIG = T5Config(
  vocab_size=16,
  emb_dim=8,
  num_heads=2,
  head_dim=4,
  mlp_dim=8,
  num_encoder_layers=1,
  num_decoder_layers=1,
  dropout_rate=0.3,
)
TIED = dataclasses.replace(
  CONFIG, mlp_activations=("relu",), logits_via_embedding=True
)
SEED = 5

pytestmark = pytest.mark.slow


def _batch(step: int = 0):
  return testing.batch(
    8, 1, demonstrations=4, inputs=3, targets=3, seed=9 * step, vocab_size=16
  )


def _hypertuning(**options) -> problems.HyperTuning:
  hyper = hypermodel.HyperT5Config(CONFIG, head_hidden_dim=8)
  # Without dropout in its own configuration, a frozen T5 could not show any.
  return problems.HyperTuning(
    CONFIG, hyper, adapters.PrefixSpec(2), z_loss=0.02, **options
  )


class Kept(optimizers.Optimizer):
  """Slow plain descent that keeps the gradient it was given as its state."""

  learning_rate = optimizers.Constant(0.1)

  def build(self, rate=None):
    return optax.GradientTransformation(
      lambda params: jax.tree.map(jnp.zeros_like, params),
      lambda grads, state, params=None: (
        jax.tree.map(lambda x: -0.1 * x, grads),
        grads,
      ),
    )


def _logits(problem, params, frozen, batch, key):
  """From the models alone; the hypermodel drops out with the first half of a key."""
  backbone = (params | frozen)["backbone"]
  written, rngs = t5.NO_ADAPTERS, {"dropout": key}
  if isinstance(problem, problems.HyperTuning):
    hyper_key, backbone_key = jax.random.split(key)
    model = hypermodel.HyperT5(
      problem.hypermodel, problem.adapters, problem.backbone
    )
    written = model.apply(
      {"params": params["hypermodel"]},
      batch.demonstrations,
      rngs={"dropout": hyper_key},
    )
    rngs = {"dropout": backbone_key} if problem.train_backbone else {}
  return t5.T5(problem.backbone).apply(
    {"params": backbone},
    batch.encoder_input_tokens,
    batch.decoder_input_tokens,
    written,
    rngs=rngs,
  )


def _summed_loss(problem, params, frozen, batch, key):
  """Cross entropy of the weighted targets, and z_loss times log(Z) squared."""
  logits = _logits(problem, params, frozen, batch, key)
  log_z = jnp.log(jnp.exp(logits).sum(-1))
  is_target = jax.nn.one_hot(batch.decoder_target_tokens, logits.shape[-1])
  loss = log_z - (is_target * logits).sum(-1) + problem.z_loss * log_z**2
  return (loss * batch.decoder_loss_weights).sum()


_value_and_grad = jax.jit(
  jax.value_and_grad(_summed_loss, argnums=1), static_argnums=0
)


def _wanted(problem, params, frozen, batch, step_key, num_microbatches):
  """Mean loss and its gradient: microbatch i has contexts i, i + k, ..."""
  total, grads = 0.0, None
  for i in range(num_microbatches):
    part = jax.tree.map(lambda x: x[i::num_microbatches], batch)  # noqa: B023
    loss, own = _value_and_grad(
      problem, params, frozen, part, jax.random.fold_in(step_key, i)
    )
    total, own = total + float(loss), jax.device_get(own)
    grads = own if grads is None else jax.tree.map(np.add, grads, own)
  weight = batch.decoder_loss_weights.sum()
  return total / weight, jax.tree.map(lambda x: x / weight, grads)


def _assert_close(found, wanted):
  found, wanted = trees.flatten(found), trees.flatten(wanted)
  assert found.keys() == wanted.keys()
  for path, grad in wanted.items():
    distance = np.linalg.norm(np.asarray(found[path]) - grad)
    assert distance <= 1e-5 * np.linalg.norm(grad) + 1e-8, path


PROBLEMS = {
  "hypertuning": (_hypertuning(), 2),
  "language model": (problems.LanguageModel(TIED), 1),
  "joint": (_hypertuning(train_backbone=True), 4),
}


@functools.cache
def _trainer(name, num_devices=1, axes=(), num_microbatches=None):
  problem, count = PROBLEMS[name]
  count = count if num_microbatches is None else num_microbatches
  return testing.make_trainer(problem, Kept(), num_devices, axes, count)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_gradient_is_that_of_the_mean_loss_with_dropout_of_its_own(name):
  """Each step and each microbatch has a key of its own; over two steps."""
  problem, num_parts = PROBLEMS[name]
  trainer = _trainer(name)
  state = trainer.init(SEED)
  frozen = jax.device_get(state.frozen)
  key_data = np.asarray(jax.random.key_data(state.key))
  for step in range(2):
    batch, params = _batch(step), jax.device_get(state.params)
    key = jax.random.wrap_key_data(key_data)
    loss, grads = _wanted(
      problem, params, frozen, batch, jax.random.fold_in(key, step), num_parts
    )
    state, metrics = trainer.train_step(state, trainer.layout.place_own(batch))
    assert float(metrics["loss"][0] / metrics["loss"][1]) == pytest.approx(
      loss, rel=1e-5
    )
    norm = np.sqrt(sum(np.sum(x**2) for x in jax.tree.leaves(grads)))
    assert metrics["gradient_norm"][0] == pytest.approx(norm, rel=1e-5)
    assert metrics["gradient_norm"][1] == 1
    _assert_close(state.opt_state, grads)
    moved = jax.tree.map(lambda x, y: x - 0.1 * y, params, grads)
    _assert_close(state.params, moved)
  jax.tree.map(np.testing.assert_array_equal, frozen, state.frozen)


@pytest.mark.parametrize(
  "mesh",
  [(2,), (8,), (8, (("fsdp", 4), ("tensor", 2)))],
  ids=str,
)
@pytest.mark.parametrize("name", ["hypertuning", "language model"])
def test_dropout_is_the_same_on_every_mesh(name, mesh):
  single = _trainer(name, num_microbatches=1)
  given = jax.device_get((single.init(0).params, single.init(0).frozen))
  found = []
  for trainer in (single, _trainer(name, *mesh, num_microbatches=1)):
    state, metrics = trainer.train_step(
      trainer.init(0, given), trainer.layout.place_own(_batch())
    )
    found.append((float(metrics["loss"][0]), jax.device_get(state.opt_state)))
  (loss, grads), (other_loss, other_grads) = found
  assert other_loss == pytest.approx(loss, rel=1e-6)
  _assert_close(other_grads, grads)
