"""Memories put together, cut and compared; on arrays made by hand."""

import dataclasses
import math

import numpy as np
import pytest

from hyperjax import adapters
from hyperjax.artifacts import adapter_folder
from hyperjax.artifacts.run_record import BackboneRef
from hyperjax.serving import average, update
from hyperjax.serving.examples import Example, Fitted
from tests import testing

SPEC = adapters.MemorySpec(3)
# Positions [M, D] of two memories; zeros are none.
ONE = np.asarray([[3, 0], [0, 0], [0, 4]], np.float32)
TWO = np.asarray([[0, 12], [0, 0], [0, 0]], np.float32)


def _memory(states_MD):
  return adapters.Adapters(memory=adapters.Memory(states_MD[None, None]))


def _adapter(states_MD, count, spec=SPEC):
  info = adapter_folder.Info(
    spec=spec,
    config=dataclasses.replace(testing.CONFIG, emb_dim=2),
    backbone=BackboneRef("ab" * 32, "/t5"),
    tokenizer=None,
    lengths={},
    origin={
      "hypermodel": {"identity": "cd" * 32},
      "demonstrations": update.read_from(
        Fitted([], [Example("x", "y", i) for i in range(count)], [])
      ),
    },
  )
  return adapter_folder.Adapter(info, _memory(states_MD))


def _states(adapter):
  return adapter.arrays.memory.states[0, 0]


def test_a_mean_of_memories_has_the_positions_of_all():
  found = average.average([_adapter(ONE, 2), _adapter(TWO, 2)])
  assert found.info.spec == adapters.MemorySpec(6)
  np.testing.assert_array_equal(_states(found), np.concatenate([ONE, TWO]))


@pytest.mark.parametrize("weights", [[1, 3], [0.5, 0.25]])
def test_memories_of_unequal_weight_have_no_mean(weights):
  with pytest.raises(ValueError, match=r"memory of 3: .* must be equal"):
    average.average([_adapter(ONE, 2), _adapter(TWO, 2)], weights)


def test_there_is_nothing_between_two_memories():
  with pytest.raises(ValueError, match="there is nothing between two"):
    average.interpolate(_adapter(ONE, 2), _adapter(TWO, 2), 0.5)


def test_an_update_puts_new_positions_behind_and_the_oldest_fall_out():
  """Whatever the numbers of examples, the left out share by hand."""
  found = update.by_mean(_adapter(ONE, 2), _adapter(TWO, 1))
  np.testing.assert_array_equal(_states(found), [[3, 0], [0, 4], [0, 12]])
  assert found.info.spec == SPEC
  assert found.info.origin["updates"][0]["left_out"] == 0
  more = update.by_mean(found, _adapter(TWO, 1))
  np.testing.assert_array_equal(_states(more), [[0, 4], [0, 12], [0, 12]])
  left_out = more.info.origin["updates"][1]["left_out"]
  assert left_out == pytest.approx(3 / math.sqrt(9 + 16 + 144 + 144))


def test_a_distance_of_memories_leaves_zeros_out():
  longer = np.asarray([[0, 0], [3, 0], [0, 0], [0, 0], [0, 1]], np.float32)
  assert adapters.distance(_memory(ONE), _memory(ONE[[0, 2]])) == 0
  found = adapters.distance(_memory(ONE), _memory(longer))
  assert found == pytest.approx(3 / 5)


def test_a_shorter_memory_is_filled_up_with_positions_that_are_none():
  found = adapters.stack([_memory(ONE[:1]), adapters.Adapters(), _memory(ONE)])
  states = found.memory.states[0]
  np.testing.assert_array_equal(states[0], [[3, 0], [0, 0], [0, 0]])
  np.testing.assert_array_equal(states[1], np.zeros((3, 2)))
  np.testing.assert_array_equal(states[2], ONE)
