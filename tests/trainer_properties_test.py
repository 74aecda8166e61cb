"""A training update is that of its rows: not of how they are laid out.

Padding, order, contexts without any row, parts of a batch and the mesh are
changed at once; lengths, weights and values are drawn.
"""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperjax import adapters, optimizers, trees
from hyperjax.batch import Batch, decoder_fields
from hyperjax.models.t5_layers import T5Config
from tests import testing

CONFIG = T5Config(
  vocab_size=12,
  emb_dim=8,
  num_heads=2,
  head_dim=4,
  mlp_dim=8,
  num_encoder_layers=1,
  num_decoder_layers=1,
)
CONTEXTS, ROWS, DEMONSTRATIONS = 3, 2, 2
SEEDS = st.integers(0, 2**20)
# A LoRA scaled by 1: by more, rounding alone moves gradients.
SPECS = {name: testing.SPECS[name] for name in testing.ALONE} | {
  "lora": adapters.LoraSpec(2, alpha=2.0, projections=("query", "key", "wo"))
}


class _Descent(optimizers.Optimizer):
  """Plain: an update is the gradient."""

  learning_rate = optimizers.Constant(1.0)

  def build(self, rate=None):
    return optax.sgd(1.0)


@functools.cache
def _trainer(name, *layout):
  problem = testing.hypertuning(SPECS[name], CONFIG, z_loss=0.01)
  return testing.make_trainer(problem, _Descent(), *layout)


@functools.cache
def _params(name):
  """Random everywhere: at first a LoRA's `up` is zero."""
  abstract = _trainer(name).abstract
  return jax.device_get(
    testing.draw((abstract.params, abstract.frozen), scale=0.25)
  )


@functools.cache
def _state(of_trainer, name):
  return of_trainer.init(0, _params(name))


def _update(of_trainer, name, batch):
  """The gradient of the mean loss, and the metrics as sums and weights."""
  state = jax.tree.map(lambda x: x.copy(), _state(of_trainer, name))
  before = jax.device_get(state.params)
  state, metrics = of_trainer.train_step(
    state, of_trainer.layout.place_own(batch)
  )
  after = jax.device_get(state.params)
  grads = jax.tree.map(np.subtract, before, after)
  return trees.flatten(grads), jax.device_get(metrics)


def _ids(draw, *shape):
  ids = np.random.default_rng(draw(SEEDS)).integers(2, 12, shape)
  sizes = np.random.default_rng(draw(SEEDS)).integers(
    1, shape[-1] + 1, shape[:-1]
  )
  return (ids * (np.arange(shape[-1]) < sizes[..., None])).astype(np.int32)


def _moved(batch, order, within, counts):
  """Contexts and their rows in another order, wider, with blank ones behind."""

  def rows(x, width):
    x = x.reshape(CONTEXTS, ROWS, -1)[order][:, within]
    x = np.pad(x, ((0, counts - CONTEXTS), (0, 0), (0, width - x.shape[-1])))
    return x.reshape(counts * ROWS, width)

  read = batch.demonstrations[order][:, ::-1]
  blank = ((0, counts - CONTEXTS), (0, 1), (0, 2))
  return Batch(
    rows(batch.encoder_input_tokens, 7),
    rows(batch.decoder_input_tokens, 5),
    rows(batch.decoder_target_tokens, 5),
    rows(batch.decoder_loss_weights, 5),
    np.pad(read, blank),
  )


def _batch(draw):
  """Each demonstration is encoded by itself; some targets have no weight."""
  total = CONTEXTS * ROWS
  fields = decoder_fields(_ids(draw, total, 3))
  kept = draw(st.lists(st.booleans(), min_size=total, max_size=total))
  kept[draw(st.integers(0, total - 1))] = True
  fields["decoder_loss_weights"] *= np.asarray(kept, np.float32)[:, None]
  return Batch(
    _ids(draw, total, 4),
    **fields,
    demonstrations=_ids(draw, CONTEXTS, DEMONSTRATIONS, 5),
  )


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=10)
@given(data=st.data())
def test_an_update_is_that_of_its_rows_however_they_are_laid_out(name, data):
  batch = _batch(data.draw)
  order = data.draw(st.permutations(range(CONTEXTS)))
  within = data.draw(st.permutations(range(ROWS)))
  wanted, metrics = _update(_trainer(name), name, batch)
  # Four devices as two times two, and two microbatches of each.
  found, other = _update(
    _trainer(name, 4, (("tensor", 2),), 2),
    name,
    _moved(batch, order, within, 4),
  )
  for metric in ("loss", "cross_entropy", "token_accuracy"):
    np.testing.assert_allclose(other[metric], metrics[metric], rtol=1e-5)
  assert found.keys() == wanted.keys()
  for path, grad in wanted.items():
    distance = np.linalg.norm(found[path] - grad)
    assert distance <= 1e-4 * np.linalg.norm(grad) + 1e-6, path


@settings(max_examples=10)
@given(data=st.data(), factor=st.sampled_from([0.01, 0.25, 3.0]))
def test_a_loss_is_a_mean_whatever_its_weights_sum_to(data, factor):
  batch = _batch(data.draw)
  scaled = dataclasses.replace(
    batch,
    decoder_loss_weights=batch.decoder_loss_weights * np.float32(factor),
  )
  wanted, _ = _update(_trainer("lora"), "lora", batch)
  found, _ = _update(_trainer("lora"), "lora", scaled)
  for path, grad in wanted.items():
    distance = np.linalg.norm(found[path] - grad)
    assert distance <= 1e-4 * np.linalg.norm(grad) + 1e-6, path
