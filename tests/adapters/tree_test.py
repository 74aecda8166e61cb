"""What is done with adapters of whatever kind: batches, means, distances."""

import functools

import jax
import ml_dtypes
import numpy as np
import pytest

from hyperjax import adapters
from hyperjax.adapters import spec as adapter_spec
from hyperjax.models import decoding, t5
from tests import testing

CONFIG = testing.CONFIG
PARAMS = testing.t5_params()
# What a batch may hold: kinds, ranks, lengths, places, and no adapter at all.
MIXED = {
  "rank 2 at every projection": testing.SPECS["lora"],
  "a prefix of 3": adapters.PrefixSpec(3),
  "none": None,
  "ia3": testing.SPECS["ia3"],
  "rank 4": adapters.LoraSpec(4),
  "a prefix of 5 in one stack": adapters.PrefixSpec(
    5, sites=("encoder.attention",)
  ),
}
INPUTS = testing.tokens(len(MIXED), 7)
TARGETS = testing.tokens(len(MIXED), 5, seed=1)


def _drawn(spec, seed=0, contexts=1):
  if spec is None:
    return adapters.Adapters()
  generator = np.random.default_rng(seed)
  return jax.tree.map(
    lambda leaf: generator.normal(0, 0.5, leaf.shape).astype(np.float32),
    spec.abstract(CONFIG, contexts),
  )


@functools.cache
def _mixed():
  return [_drawn(spec, seed) for seed, spec in enumerate(MIXED.values())]


@jax.jit
def _logits(inputs, targets, written):
  return t5.T5(CONFIG).apply({"params": PARAMS}, inputs, targets, written)


@jax.jit
def _decoded(inputs, written):
  model = t5.T5(CONFIG)
  return decoding.generate(model, PARAMS, inputs, 6, adapters=written)


def test_each_row_of_a_mixed_batch_answers_as_alone():
  together = adapters.stack(_mixed())
  assert adapters.num_contexts(together) == len(MIXED)
  logits = _logits(INPUTS, TARGETS, together)
  decoded = _decoded(INPUTS, together)
  plain = _logits(INPUTS, TARGETS, t5.NO_ADAPTERS)
  for i, (name, spec) in enumerate(MIXED.items()):
    row = slice(i, i + 1)
    alone = _logits(INPUTS[row], TARGETS[row], _mixed()[i])
    np.testing.assert_allclose(
      logits[row], alone, rtol=2e-5, atol=2e-5, err_msg=name
    )
    assert (np.abs(alone - plain[row]).max() > 0.1) == (spec is not None), name
    if "prefix" in name:  # whose mask meets the cached keys at every step
      found = _decoded(INPUTS[row], _mixed()[i])
      np.testing.assert_array_equal(decoded.tokens[row], found.tokens)
      np.testing.assert_allclose(decoded.scores[row], found.scores, rtol=1e-4)


def test_stacks_are_stacked_again():
  """As one stack of all, in whatever order they came together."""
  own = _mixed()
  parts = [adapters.stack(own[:2]), adapters.stack(own[2:]), own[1]]
  found = adapters.stack(parts)
  wanted = adapters.stack([*own, own[1]])
  assert jax.tree.structure(found) == jax.tree.structure(wanted)
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("name", testing.SPECS)
def test_adapters_of_one_shape_are_only_put_side_by_side(name):
  """Nothing is added, so nothing is paid, where nothing is filled up."""
  spec = testing.SPECS[name]
  given = [_drawn(spec, 0), _drawn(spec, 1, contexts=2)]
  wanted = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *given)
  found = adapters.stack(given)
  assert jax.tree.structure(found) == jax.tree.structure(wanted)
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_a_batch_without_any_adapter_is_that_of_the_t5_alone():
  none = adapters.Adapters()
  assert adapters.stack([none, none]) == none


@pytest.mark.parametrize("name", testing.SPECS)
def test_filling_up_keeps_the_dtype(name):
  low = jax.tree.map(
    lambda leaf: leaf.astype(ml_dtypes.bfloat16), _drawn(testing.SPECS[name])
  )
  found = adapters.path_leaves(adapters.stack([low, adapters.Adapters()]))
  for path in adapters.path_leaves(low):
    assert found[path].dtype == ml_dtypes.bfloat16
    assert found[path].shape[1] == 2


@pytest.mark.parametrize("name", testing.SPECS)
def test_in_a_batch_with_fewer_bits_nothing_is_rounded(name):
  own = _drawn(testing.SPECS[name])
  low = jax.tree.map(lambda leaf: leaf.astype(ml_dtypes.bfloat16), own)
  found = adapters.stack([low, own])
  for i, given in enumerate([low, own]):
    context = jax.tree.map(lambda leaf, i=i: leaf[:, i : i + 1], found)
    jax.tree.map(np.testing.assert_array_equal, context, given)


@pytest.mark.parametrize("name", testing.SPECS)
def test_a_mean_of_copies_is_the_adapter_and_has_the_arrays_of_its_spec(name):
  spec, own = testing.SPECS[name], _drawn(testing.SPECS[name])
  found = adapters.mean([own, own, own], [0.5, 0.2, 0.3])
  wanted = spec.of_mean(3).abstract(CONFIG)
  assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, wanted)
  np.testing.assert_allclose(
    _logits(INPUTS, TARGETS, found),
    _logits(INPUTS, TARGETS, own),
    rtol=1e-4,
    atol=1e-4,
  )
  cut, left_out = adapters.cut(found, spec.num_slots)
  assert left_out < 1e-6
  assert jax.tree.map(np.shape, cut) == jax.tree.map(np.shape, own)
  assert adapters.distance(own, cut) < 1e-5


@pytest.mark.parametrize("name", testing.SPECS)
def test_a_distance_is_relative_to_what_an_adapter_changes(name):
  """Halfway to changing nothing is a distance of a half."""
  own = _drawn(testing.SPECS[name])
  silent = adapters.assemble(
    {
      place: type(node)(
        **{
          field: np.full_like(getattr(node, field), value)
          for field, value in node.neutral.items()
          if getattr(node, field) is not None
        }
      )
      for place, node in adapters.nodes(own).items()
    }
  )
  assert adapters.distance(own, own) < 1e-6
  assert adapters.distance(own, silent) == pytest.approx(1)
  for place, node in adapters.nodes(own).items():
    half = type(node).mean([node, adapters.nodes(silent)[place]], [0.5, 0.5])
    kept, *_ = half.cut(testing.SPECS[name].num_slots)
    assert node.distance(kept) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("name", testing.SPECS)
def test_a_kind_names_itself_and_its_size(name):
  assert (
    testing.SPECS[name].label
    == {
      "prefix": "prefixes of 3",
      "lora": "LoRA of rank 2",
      "ia3": "IA3",
    }[name]
  )


def test_a_mean_holds_the_values_of_all_whatever_their_order():
  short = np.asarray([1.0], ml_dtypes.bfloat16)
  long = np.asarray([1.001], np.float32)
  for given in ([short, long], [long, short]):
    found = adapter_spec.weighted(given, [0.5, 0.5])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [1.0005], rtol=1e-6)
