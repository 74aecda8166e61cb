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


def _read(folder):
  saver = checkpoints.Checkpoints(folder / "checkpoints", read_only=True)
  try:
    assert saver.latest() == 7
    assert saver.facts(7).position >= 0
  finally:
    saver.close()


# What says where arrays lie, and how, is read by threads of orbax's and TensorStore's
# own, which a damaged file ends with the process now and then: that is for a checksum
# to find before they read.
FACTS = damage.Case(
  "facts/metadata",
  _save,
  "checkpoints/7/facts/metadata",
  _read,
  True,
  "checkpoints/7",
)


# Orbax leaves what it has begun where it meets something damaged.
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_damaged_facts_are_refused_by_name_or_read(tmp_path):
  damage.search(FACTS, tmp_path)
