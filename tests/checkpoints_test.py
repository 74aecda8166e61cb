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


def test_what_a_save_cut_short_left_is_gone_after_the_next(saver, tmp_path):
  """Who only reads leaves it: the run may be saving just then."""
  folder = tmp_path / "checkpoints"
  unfinished = folder / "9.orbax-checkpoint-tmp"
  (unfinished / "params").mkdir(parents=True)
  reader = checkpoints.Checkpoints(folder, read_only=True)
  assert reader.steps() == [7] and reader.facts(7).position == 0
  reader.close()
  assert unfinished.is_dir()
  own = checkpoints.Checkpoints(folder)
  params = jax.tree.map(jnp.float32, PARAMS)
  state = train_state.TrainState(
    jnp.int32(9), params, {}, {}, jax.random.key(0)
  )
  own.save(state, checkpoints.Facts(1, {}, []))
  own.wait()
  assert own.steps() == [7, 9]
  own.close()
  assert sorted(path.name for path in folder.iterdir()) == ["7", "9"]
