import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from hyperjax import sharding

ROWS = ("replica", "data", "fsdp")


def _layout(axes=None, rules=sharding.AXIS_RULES, devices=8):
  return sharding.MeshSpec(axes or {}, rules).build(jax.devices()[:devices])


@pytest.mark.parametrize(
  "axes, sizes",
  [
    ({}, (1, 8, 1, 1)),
    ({"tensor": 2}, (1, 4, 1, 2)),
    ({"fsdp": 8}, (1, 1, 8, 1)),
    ({"replica": 2, "fsdp": 2, "tensor": 2}, (2, 1, 2, 2)),
    ({"data": 4, "tensor": 2}, (1, 4, 1, 2)),
  ],
  ids=str,
)
def test_axes_that_are_not_named_are_one_and_data_takes_the_rest(axes, sizes):
  names = ("replica", "data", "fsdp", "tensor")
  layout = _layout(axes)
  assert dict(layout.mesh.shape) == dict(zip(names, sizes, strict=True))
  assert layout.data_parallel == sizes[0] * sizes[1] * sizes[2]


@pytest.mark.parametrize(
  "axes, message",
  [
    (
      {"fsdp": 3},
      "MeshSpec.axes {'fsdp': 3} take 3 devices, which must divide the 8 there "
      "are; such can be {'fsdp': 2} or {'fsdp': 4} or {'fsdp': 1}",
    ),
    (
      {"data": 2, "tensor": 2},
      "MeshSpec.axes {'data': 2, 'tensor': 2} take 4 devices, which must be the "
      "8 there are; such can be {'data': 4, 'tensor': 2} or "
      "{'data': 2, 'tensor': 4}",
    ),
    (
      {"fsdp": 3, "tensor": 5},
      "MeshSpec.axes {'fsdp': 3, 'tensor': 5} take 15 devices, which must divide "
      "the 8 there are; such can be {'fsdp': 2} or {'fsdp': 4} or {'fsdp': 8}",
    ),
  ],
  ids=str,
)
def test_sizes_of_other_devices_are_refused_with_those_that_can_be(
  axes, message
):
  with pytest.raises(ValueError) as found:
    _layout(axes)
  assert str(found.value) == message


@pytest.mark.parametrize(
  "given, message",
  [
    ({"axes": {"fsdp": 0}}, r"axes\['fsdp'\] must be a whole number from 1"),
    (
      {"axes": {"pipeline": 2}},
      "axes has 'pipeline'; it may have replica, data, fsdp, tensor$",
    ),
    ({"axes": {"model": 2}}, "axes has 'model': it is now 'tensor'"),
    ({"axes": 4}, "axes must be a mapping of replica, data, fsdp, tensor"),
    (
      {"rules": (("mlp", "model"),)},
      "rules split 'mlp' over the mesh axis 'model'.* it is now 'tensor'$",
    ),
    (
      {"rules": (("batch", ("data", "rows")),)},
      "rules split 'batch' over the mesh axis 'rows'; there are .*tensor$",
    ),
  ],
  ids=str,
)
def test_an_axis_that_there_is_not_is_refused(given, message):
  with pytest.raises(ValueError, match=rf"^MeshSpec\.{message}"):
    sharding.MeshSpec(**given)


def test_names_become_mesh_axes_and_the_earlier_rule_wins():
  layout = _layout({"fsdp": 2, "tensor": 2})
  for names, axes in {
    (sharding.LAYERS, sharding.EMBED, sharding.MLP): (None, "fsdp", "tensor"),
    (sharding.VOCAB, sharding.EMBED): ("tensor", "fsdp"),
    (sharding.HEAD_HIDDEN, sharding.HEADS): ("fsdp", "tensor"),
    (sharding.EMBED, sharding.HEAD_HIDDEN): ("fsdp", "tensor"),
    (sharding.BATCH, sharding.LENGTH, sharding.EMBED): (ROWS, None, None),
    (sharding.LAYERS, sharding.BATCH, sharding.JOINED_KV): (
      None,
      ROWS,
      "tensor",
    ),
  }.items():
    assert layout.sharding(names).spec == PartitionSpec(*axes), names


def test_rules_of_ones_own_may_name_an_axis_several_or_none():
  rules = (("batch", ["data", "tensor"]), ("mlp", "fsdp"), ("embed", None))
  layout = _layout({"fsdp": 2, "tensor": 2}, rules)
  assert layout.batch.spec == PartitionSpec(("data", "tensor"))
  assert layout.contexts.spec == PartitionSpec(None, ("data", "tensor"))
  assert layout.data_parallel == 4
  assert layout.sharding(("embed", "mlp")).spec == PartitionSpec(None, "fsdp")


def test_an_axis_without_a_rule_is_named_with_the_nearest():
  with pytest.raises(ValueError, match=r"'head'.*did you mean 'heads'"):
    _layout().sharding(("head",))


def test_bytes_are_those_of_the_fullest_device():
  layout = _layout({"tensor": 2})
  split = jax.ShapeDtypeStruct(
    (8, 6), "float32", sharding=layout.sharding((sharding.BATCH, sharding.MLP))
  )
  whole = jax.ShapeDtypeStruct((3,), "float32", sharding=layout.replicated)
  assert sharding.device_bytes({"a": split, "b": whole}) == 4 * (2 * 3 + 3)


class _Chip:
  """A chip of a slice, as far as its place in a mesh is concerned."""

  platform, device_kind, process_index = "gpu", "chip", 0

  def __init__(self, number, slice_index):
    self.id, self.slice_index = number, slice_index

  def __repr__(self):
    return f"{self.slice_index}:{self.id}"


@pytest.mark.parametrize("axes", [{"replica": 2}, {"data": 4}, {"fsdp": 8}])
def test_slices_are_joined_along_the_first_axes_that_they_divide(axes):
  """What is split within a slice never leaves it."""
  chips = [_Chip(i, i % 2) for i in range(8)]
  axes = axes | {"tensor": 8 // max(axes.values())}
  spec = sharding.MeshSpec(axes)
  found = sharding._arranged(spec._shape(8), chips)
  slices = np.vectorize(lambda chip: chip.slice_index)(found).reshape(2, 4)
  np.testing.assert_array_equal(slices, [[0] * 4, [1] * 4])
