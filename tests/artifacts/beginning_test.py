"""Which arrays of a T5 a hypermodel begins with."""

import dataclasses

import numpy as np
import pytest

from hyperjax import trees
from hyperjax.artifacts import beginning
from hyperjax.models import hypermodel
from tests import testing

KERNEL = "decoder/layers/mlp/wo/kernel"
T5 = {
  KERNEL: np.arange(5.0)[:, None],  # of each layer its number
  "encoder/layers/mlp/wo/kernel": np.zeros((5, 1)),
  "decoder/relpos_bias/rel_embedding": np.ones((2, 32)),
  "decoder/logits_dense/kernel": np.ones((12, 40)),
}


def _begun(layers, wanted, **options):
  """By path, of what is wanted by path and shape."""
  t5 = dataclasses.replace(testing.CONFIG, num_decoder_layers=5)
  config = hypermodel.HyperT5Config(
    t5, 8, body="frozen_encoder", decoder_layers=layers, **options
  )
  asked = trees.unflatten({p: np.empty(shape) for p, shape in wanted.items()})
  return trees.flatten(beginning.copied(config, trees.unflatten(T5), asked))


@pytest.mark.parametrize(
  "layers, chosen",
  [(1, [0]), (2, [0, 4]), (3, [0, 2, 4]), (5, [0, 1, 2, 3, 4])],
)
def test_fewer_layers_of_a_decoder_are_evenly_spaced_ones(layers, chosen):
  begun = _begun(layers, {KERNEL: (layers, 1)})
  np.testing.assert_array_equal(begun[KERNEL][:, 0], chosen)


def test_what_has_no_namesake_of_its_shape_stays_new():
  wanted = {KERNEL: (2, 3), "slots": (4, 12)}
  assert _begun(2, wanted) == {}


def test_buckets_of_other_distances_do_not_begin_as_the_t5s():
  path = "decoder/relpos_bias/rel_embedding"
  wanted = {path: (2, 32)}
  assert _begun(2, wanted).keys() == {path}
  assert _begun(2, wanted, bidirectional_slots=True) == {}
