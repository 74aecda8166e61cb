"""Damaged checkpoints of runs: orbax's files, as far as a run reads them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import checkpoints, train_state
from tests import damage

PARAMS = {"a": {"x": np.arange(3.0)}, "b": {"y": np.ones((2, 2))}}
OPT_STATE = {"m": np.zeros(3, np.float32)}


def _state():
  return train_state.TrainState(
    jnp.int32(7),
    jax.tree.map(jnp.float32, PARAMS),
    {},
    jax.tree.map(jnp.float32, OPT_STATE),
    jax.random.key(0),
  )


def _save(folder):
  saver, state = checkpoints.Checkpoints(folder / "checkpoints"), _state()
  saver.save(state, checkpoints.Facts(3, {}, checkpoints.key_data(state.key)))
  saver.wait()
  saver.close()


def _restore(folder):
  saver = checkpoints.Checkpoints(folder / "checkpoints", read_only=True)
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
    _state(),
  )
  try:
    assert saver.latest() == 7
    state = saver.restore(7, abstract, {})
    assert state.params["b"]["y"].shape == (2, 2)
    assert saver.facts(7).position >= 0
    saver.restore_part(7, {"b": abstract.params["b"]})
  finally:
    saver.close()


# What says where arrays lie (`_METADATA`, `manifest.ocdbt`) is read by threads of
# orbax's and TensorStore's own, which a damaged one ends with the process now and
# then: that is for a checksum to find before they read.
CASES = [
  damage.Case(
    file, _save, f"checkpoints/7/{file}", _restore, is_json, "checkpoints/7"
  )
  for file, is_json in (
    ("facts/metadata", True),
    ("params/_sharding", True),
  )
]


# Orbax leaves what it has begun where it meets something damaged.
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_damaged_file_is_refused_by_name_or_read(tmp_path, case):
  damage.search(case, tmp_path)
