import functools

import jax
import numpy as np
import pytest

from hyperjax import sharding
from hyperjax.models import gathering, problems
from hyperjax.models.t5_layers import T5Config
from hyperjax.planning import collectives
from tests import testing

VOCAB, WIDTH, JOINED, MLP, LAYERS, HEADS, BUCKETS = 80, 64, 16, 96, 3, 4, 32
CONFIG = T5Config(
  vocab_size=VOCAB,
  emb_dim=WIDTH,
  num_heads=HEADS,
  head_dim=JOINED // HEADS,
  mlp_dim=MLP,
  num_encoder_layers=LAYERS,
  num_decoder_layers=LAYERS,
)
DEVICES = 8
# Of a T5 1.1, by hand: four kernels of each of three attentions a pair of layers,
# three of each feed-forward, and the output layer.
KERNELS = LAYERS * (12 * WIDTH * JOINED + 6 * WIDTH * MLP) + WIDTH * VOCAB
EMBEDDING = VOCAB * WIDTH
SMALL = LAYERS * 5 * WIDTH + 2 * WIDTH + 2 * HEADS * BUCKETS  # norms, biases


def _around_a_ring(numbers):
  """Bytes that each device sends of float32 that all of them get."""
  return 4 * numbers * (DEVICES - 1) / DEVICES


@functools.cache
def _sent(*axes):
  """By kind of collective, in a step that trains all of a T5."""
  trainer = testing.make_trainer(
    problems.LanguageModel(CONFIG), None, DEVICES, axes
  )
  traced = trainer.trace_train_step(testing.batch(8, 1))
  with trainer.layout.activate():
    return collectives.by_kind(traced.lower().compile().as_text())


def test_devices_with_copies_reduce_each_gradient_once_and_nothing_else():
  sent = _sent()
  assert sent.keys() == {"all-reduce"}
  needed = 2 * _around_a_ring(KERNELS + EMBEDDING + SMALL)
  assert needed <= sent["all-reduce"] <= 1.15 * needed


def test_a_split_weight_is_gathered_for_its_product_and_for_its_gradient():
  """And each gradient is reduced once. The table is read twice, unless merged.

  Compilers for hosts have no reduce-scatter: they reduce, then take a part.
  """
  sent = _sent(("fsdp", DEVICES))
  assert sent.keys() == {"all-gather", "all-reduce"}
  least = _around_a_ring(2 * KERNELS + EMBEDDING)
  most = _around_a_ring(2 * KERNELS + 2 * EMBEDDING)
  assert least <= sent["all-gather"] <= 1.15 * most
  reduced = 2 * _around_a_ring(KERNELS + EMBEDDING + SMALL)
  assert reduced <= sent["all-reduce"] <= 1.15 * reduced


@pytest.mark.slow
@pytest.mark.parametrize("name", testing.ALONE)
@pytest.mark.parametrize(
  "axes",
  [
    {"fsdp": 8},
    {"fsdp": 4, "tensor": 2},
    {"replica": 2, "fsdp": 2, "tensor": 2},
  ],
  ids=str,
)
def test_nothing_is_exchanged_that_nobody_asked_for(name, axes):
  """Of hypertuning: no part of an array changes its device by itself."""
  config = testing.hypertuning(testing.SPECS[name], CONFIG)
  trainer = testing.make_trainer(config, None, DEVICES, axes)
  traced = trainer.trace_train_step(testing.batch(8, 2))
  with trainer.layout.activate():
    text = traced.lower().compile().as_text()
  assert collectives.by_kind(text).keys() == {"all-gather", "all-reduce"}


@pytest.mark.parametrize("rows", [8, 6])
def test_what_parts_share_is_added_to_each_row(rows):
  """Also where there is one part, since the mesh does not divide the rows."""
  layout = testing.make_trainer(
    problems.LanguageModel(CONFIG), None, 4, {"fsdp": 4}
  ).layout
  shared = jax.random.normal(jax.random.key(0), (1, 2, 3, 3))
  own = jax.random.normal(jax.random.key(1), (rows, 1, 1, 3))

  def added(shared, own):
    axes = (sharding.HEADS, sharding.LENGTH, sharding.KV)
    parts = gathering.for_each_part(shared, rows, axes)
    return gathering.add_to_rows(parts, own), len(parts)

  with layout.activate():
    found, parts = jax.jit(added)(shared, own)
    gradient = jax.jit(jax.grad(lambda x: added(x, own)[0].sum()))(shared)
  assert parts == (4 if rows == 8 else 1)
  np.testing.assert_array_equal(found, np.asarray(shared) + np.asarray(own))
  np.testing.assert_array_equal(gradient, np.full((1, 2, 3, 3), float(rows)))
