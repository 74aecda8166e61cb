import importlib
import sys

import jax
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec

from hyperjax import trees
from hyperjax.interop import t5x_layers
from tests import testing


def test_each_layer_has_an_array_under_the_name_of_public_checkpoints():
  stacked = {
    "encoder": {
      "layers": {"mlp": {"wo": {"kernel": np.array([[1, 2], [3, 4]])}}},
      "encoder_norm": {"scale": np.array([5, 6])},
    }
  }
  single = trees.flatten(t5x_layers.unstack(stacked))
  assert {name: array.tolist() for name, array in single.items()} == {
    "encoder/layers_0/mlp/wo/kernel": [1, 2],
    "encoder/layers_1/mlp/wo/kernel": [3, 4],
    "encoder/encoder_norm/scale": [5, 6],
  }


def test_stacking_undoes_unstacking_also_of_more_than_ten_layers():
  params = {
    "decoder": {
      "layers": {"scale": np.arange(22).reshape(11, 2)},
      "norm": np.ones(2),
    }
  }
  again = t5x_layers.stack(t5x_layers.unstack(params))
  jax.tree.map(np.testing.assert_array_equal, again, params)


@pytest.mark.parametrize("spec", testing.SPECS.values(), ids=testing.SPECS)
def test_every_parameter_has_a_name_for_each_of_its_axes(spec):
  problem = testing.hypertuning(spec)
  boxed = jax.eval_shape(
    lambda key: (lambda pair: pair[0] | pair[1])(problem.init(key)),
    jax.random.key(0),
  )
  names = trees.flatten(t5x_layers.axis_names(boxed))
  drawn = testing.draw(nn.meta.unbox(boxed))
  arrays = trees.flatten(t5x_layers.unstack(drawn))
  assert names.keys() == arrays.keys()
  for path, axes in names.items():
    assert len(axes) == arrays[path].ndim, path
    assert None not in axes, path
  query = "backbone/decoder/layers_2/self_attention/query/kernel"
  assert names[query] == PartitionSpec("embed", "joined_kv")


def test_without_t5x_the_plug_in_says_what_it_needs(monkeypatch):
  monkeypatch.setitem(sys.modules, "t5x", None)
  monkeypatch.delitem(sys.modules, "hyperjax.interop.t5x_model", raising=False)
  with pytest.raises(ImportError, match=r"t5x_model needs t5x.*docs/t5x\.md"):
    importlib.import_module("hyperjax.interop.t5x_model")
