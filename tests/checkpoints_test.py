"""Checkpoints read in part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import checkpoints, train_state

PARAMS = {"a": {"x": np.arange(3.0)}, "b": {"y": np.ones((2, 2))}}


@pytest.fixture
def saver(tmp_path):
  found = checkpoints.Checkpoints(tmp_path / "checkpoints")
  key = jax.random.key(0)
  params = jax.tree.map(jnp.float32, PARAMS)
  found.save(
    train_state.TrainState(jnp.int32(7), params, {}, {}, key),
    checkpoints.Facts(0, {}, checkpoints.key_data(key)),
  )
  found.wait()
  yield found
  found.close()


def _abstract(*shape):
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=place)


def test_a_part_is_read_without_the_others(saver):
  found = saver.restore_part(7, {"b": {"y": _abstract(2, 2)}})
  assert list(found) == ["b"]
  np.testing.assert_array_equal(found["b"]["y"], PARAMS["b"]["y"])


def test_a_part_is_read_strictly(saver):
  with pytest.raises(ValueError, match=r"missing: b/z") as raised:
    saver.restore_part(7, {"b": {"z": _abstract(2), "y": _abstract(4)}})
  assert "wrong shape: b/y is (2, 2), not (4,)" in str(raised.value)
  with pytest.raises(ValueError, match="extra: b/y"):
    saver.restore_part(7, {"b": {}})
  assert "a/x" not in str(raised.value)
