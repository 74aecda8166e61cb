import jax
import pytest
from jax.sharding import PartitionSpec

from hyperjax import sharding


def _layout(model_parallel, rules=sharding.AXIS_RULES):
  return sharding.MeshSpec(model_parallel, rules).build(jax.devices()[:8])


def test_devices_not_sharing_a_model_share_the_data():
  assert dict(_layout(2).mesh.shape) == {"data": 4, "model": 2}


def test_a_mesh_that_does_not_divide_the_devices_is_refused():
  with pytest.raises(ValueError, match=r"model_parallel is 3.*devices, 8"):
    sharding.MeshSpec(3).build(jax.devices()[:8])


def test_names_become_mesh_axes_and_the_earlier_rule_wins():
  layout = _layout(2)
  spec = layout.sharding((sharding.LAYERS, sharding.EMBED, sharding.MLP)).spec
  assert spec == PartitionSpec(None, None, "model")
  head = layout.sharding((sharding.HEAD_HIDDEN, sharding.HEADS)).spec
  assert head == PartitionSpec(None, "model")


def test_fully_sharded_rules_split_weights_over_data_but_not_activations():
  layout = _layout(2, sharding.FULLY_SHARDED_RULES)
  weight = layout.sharding((sharding.EMBED, sharding.MLP)).spec
  assert weight == PartitionSpec("data", "model")
  rows = (sharding.BATCH, sharding.LENGTH, sharding.EMBED)
  assert layout.sharding(rows).spec == PartitionSpec("data", None, None)


def test_an_axis_without_a_rule_is_named_with_the_nearest():
  with pytest.raises(ValueError, match=r"'head'.*did you mean 'heads'"):
    _layout(1).sharding(("head",))


def test_bytes_are_those_of_the_fullest_device():
  layout = _layout(2)
  split = jax.ShapeDtypeStruct(
    (8, 6), "float32", sharding=layout.sharding((sharding.BATCH, sharding.MLP))
  )
  whole = jax.ShapeDtypeStruct((3,), "float32", sharding=layout.replicated)
  assert sharding.device_bytes({"a": split, "b": whole}) == 4 * (2 * 3 + 3)
