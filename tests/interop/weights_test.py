"""Parameters at hand: kept where they can be, the same T5 in every case."""

import dataclasses

import jax
import numpy as np
import pytest

from hyperjax import trees
from hyperjax.interop import hf, weights
from tests import conftest, testing


def test_parameters_at_hand_are_kept_and_not_copied():
  params = testing.t5_params()
  source = weights.from_params("memory", testing.CONFIG, params)
  loaded = trees.flatten(weights.load(source, testing.CONFIG).params)
  for path, array in trees.flatten(params).items():
    assert np.shares_memory(loaded[path], np.asarray(array)), path


def test_a_kept_a_cast_and_a_read_t5_have_one_identity():
  params = testing.t5_params()
  source = weights.from_params("memory", testing.CONFIG, params)
  kept = weights.load(source, testing.CONFIG)
  read = weights.load(dataclasses.replace(source, at_hand={}), testing.CONFIG)
  low = dataclasses.replace(testing.CONFIG, param_dtype="bfloat16")
  cast = weights.load(source, low)
  assert kept.identity == cast.identity == read.identity
  flat_low = trees.flatten(cast.params)
  for path, array in trees.flatten(read.params).items():
    np.testing.assert_array_equal(array, trees.flatten(params)[path], path)
    np.testing.assert_array_equal(
      flat_low[path], array.astype(flat_low[path].dtype), path
    )


def test_the_identity_of_a_known_t5_stays():
  """Checkpoints of runs name their backbone by it."""
  source = hf.open_folder(conftest.MODELS / "hf_tiny" / "t5_1_1")
  assert weights.load(source, source.config).identity == (
    "1070d3517801005dacd2fef3effd8c678d5344f3a6091e8d6a7563be036662a2"
  )


@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
def test_a_t5_with_a_weight_that_is_no_number_is_refused_by_its_name(value):
  """Wherever it is read: loaded, or only its identity asked for."""
  params = jax.tree.map(np.array, testing.t5_params(testing.CONFIG))
  params["decoder"]["layers"]["mlp"]["wo"]["kernel"][1, 2, 3] = value
  source = weights.from_params("/t5", testing.CONFIG, params)
  message = (
    r"^/t5: the parameter decoder/layers_1/mlp/wo/kernel has 1 of 240 values that "
    r"are not finite in float32$"
  )
  with pytest.raises(ValueError, match=message):
    weights.load(source, testing.CONFIG)
  with pytest.raises(ValueError, match=message):
    weights.identity(source)


def test_what_a_dtype_cannot_hold_is_refused_too():
  """100,000 is finite, but not in float16."""
  params = jax.tree.map(np.array, testing.t5_params(testing.CONFIG))
  params["decoder"]["layers"]["mlp"]["wo"]["kernel"][0, 0, 0] = 1e5
  source = weights.from_params("/t5", testing.CONFIG, params)
  weights.load(source, testing.CONFIG)
  half = dataclasses.replace(testing.CONFIG, param_dtype="float16")
  with (
    np.errstate(over="ignore"),
    pytest.raises(
      ValueError, match=r"layers_0/mlp/wo/kernel has 1 .* in float16"
    ),
  ):
    weights.load(source, half)


def test_a_t5_in_eight_bits_has_the_identity_of_what_was_read():
  """And what is wanted as it was besides is there, unrounded."""
  params = testing.t5_params()
  flat = trees.flatten(params)
  source = weights.from_params("memory", testing.CONFIG, params)
  eight = dataclasses.replace(testing.CONFIG, quantization="int8")
  wanted = "decoder/layers/self_attention/key/kernel"
  found = weights.load(source, eight, [wanted, "encoder/none"])
  assert found.identity == weights.load(source, testing.CONFIG).identity
  np.testing.assert_array_equal(found.whole[wanted], flat[wanted])
  assert found.whole.keys() == {wanted}
  stored = trees.flatten(found.params)
  scale = stored["decoder/layers/self_attention/key/kernel_scale"]
  largest = np.abs(flat[wanted]).max(axis=1)
  np.testing.assert_allclose(127 * scale, largest, rtol=1e-6)
