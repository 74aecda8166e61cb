"""Parameters at hand: kept where they can be, the same T5 in every case."""

import dataclasses

import numpy as np

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
