"""Checkpoints read in part."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import checkpoints, sharding, train_state

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


def _save(folder, steps, **options):
  saver = checkpoints.Checkpoints(folder, **options)
  key = jax.random.key(0)
  for step in steps:
    params = {"a": jnp.full(2, float(step))}
    saver.save(
      train_state.TrainState(jnp.int32(step), params, {}, {}, key),
      checkpoints.Facts(step, {}, checkpoints.key_data(key)),
    )
  saver.wait()
  return saver


@pytest.mark.parametrize(
  "options, kept",
  [
    ({}, [2, 3, 4]),
    ({"kept": checkpoints.Kept(1)}, [4]),
    ({"kept": checkpoints.Kept(None)}, [1, 2, 3, 4]),
  ],
  ids=str,
)
def test_the_last_checkpoints_are_kept(tmp_path, options, kept):
  saver = _save(tmp_path / "checkpoints", [1, 2, 3, 4], **options)
  assert saver.steps() == kept and saver.latest() == 4
  saver.close()
  reader = checkpoints.Checkpoints(tmp_path / "checkpoints", read_only=True)
  found = reader.restore_params(kept[0], {"a": _abstract(2)})
  np.testing.assert_array_equal(found["a"], [kept[0]] * 2)
  assert reader.steps() == kept
  assert reader.facts(kept[0]).position == kept[0]
  reader.close()


def test_a_run_that_has_saved_nothing_has_no_folder_and_no_step(tmp_path):
  folder = tmp_path / "run" / "checkpoints"
  saver = checkpoints.Checkpoints(folder)
  assert saver.latest() is None and saver.steps() == []
  saver.close()
  reader = checkpoints.Checkpoints(folder, read_only=True)
  with pytest.raises(ValueError, match=r"1 is not a checkpoint of HyperJAX"):
    reader.facts(1)
  reader.close()
  assert not folder.parent.exists()
  saver = _save(folder, [0])
  assert saver.latest() == 0 and saver.steps() == [0]
  saver.close()


def test_a_state_is_restored_where_it_is_to_lie(tmp_path):
  """Step and key on all devices; the key as it was."""
  layout = sharding.MeshSpec().build(jax.devices()[:2])
  place = layout.replicated

  def placed(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)

  key = jax.random.key(5)
  opt_state = {"m": jnp.arange(4.0)}
  state = train_state.TrainState(
    jnp.int32(3), {"a": jnp.arange(3.0)}, {"frozen": 1}, opt_state, key
  )
  saver = checkpoints.Checkpoints(tmp_path / "checkpoints")
  saver.save(state, checkpoints.Facts(9, {}, checkpoints.key_data(key)))
  saver.wait()
  abstract = train_state.TrainState(
    placed(jnp.int32(3)),
    jax.tree.map(placed, state.params),
    {},
    jax.tree.map(placed, opt_state),
    placed(jax.eval_shape(lambda: jax.random.key(0))),
  )
  found = saver.restore(3, abstract, {"frozen": 2})
  for leaf in (found.step, found.key, found.params["a"], found.opt_state["m"]):
    assert leaf.sharding == place
  assert int(found.step) == 3 and found.step.dtype == jnp.int32
  assert found.key == key and found.frozen == {"frozen": 2}
  np.testing.assert_array_equal(found.params["a"], np.arange(3.0))
  np.testing.assert_array_equal(found.opt_state["m"], np.arange(4.0))
  saver.close()


def test_what_a_save_cut_short_left_is_gone_once_the_run_goes_on(tmp_path):
  """Before it saves anything; orbax removes it in a thread of its own."""
  folder = tmp_path / "checkpoints"
  _save(folder, [1]).close()
  unfinished = folder / "2.orbax-checkpoint-tmp"
  unfinished.mkdir()
  saver = checkpoints.Checkpoints(folder)
  assert saver.last_whole() == 1
  deadline = time.monotonic() + 60
  while unfinished.exists():
    assert time.monotonic() < deadline, "it is still there"
    time.sleep(0.01)
  saver.close()
