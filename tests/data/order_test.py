import numpy as np
import pytest

from hyperjax.data import order


def test_permutations_differ_by_key_and_look_random():
  size = 10_000
  one, other = (order.permuted(np.arange(size), size, key) for key in (1, 2))
  assert (one == other).mean() < 0.01
  assert abs(np.corrcoef(np.arange(size), one)[0, 1]) < 0.05


def test_an_episode_is_the_same_whichever_is_asked_first():
  one, other = order.TaskOrder([1, 2, 3], 0), order.TaskOrder([1, 2, 3], 0)
  far = 5 * order.TaskOrder.block_size + 17
  first = other[far]
  assert [one[i] for i in range(100)] == [other[i] for i in range(100)]
  assert one[far] == first
  different = order.TaskOrder([1, 2, 3], 1)
  assert [one[i] for i in range(100)] != [different[i] for i in range(100)]


def test_rates_must_be_positive():
  with pytest.raises(ValueError, match="rates must be positive"):
    order.TaskOrder([1.0, 0.0], 0)


def test_named_streams_draw_what_their_numbers_drew():
  """Written down: data order and evaluations of earlier versions stay."""
  assert {stream.name: stream.value for stream in order.Stream} == {
    "BLOCKS_OF_TASKS": 0,
    "RATES": 1,
    "DEMONSTRATIONS": 2,
    "TARGETS": 3,
    "WINDOWS_AGAIN": 4,
    "WINDOWS": 5,
    "WINDOW_SHIFTS": 6,
    "PREFIX_LENGTHS": 7,
    "PAIRS": 8,
    "OTHER_TASKS": 10,
    "EVALUATED_DEMONSTRATIONS": 11,
    "ROWS_SIDE_BY_SIDE": 12,
    "EPOCHS_SIDE_BY_SIDE": 13,
    "RELABELLED": 14,
    "EVALUATED_LABELS": 15,
  }
  tasks = order.TaskOrder([1, 2, 3], 7)
  assert [tasks[i] for i in range(4)] == [(2, 0), (1, 0), (2, 1), (0, 0)]
  drawn = order.generator(3, order.Stream.OTHER_TASKS, 1).permutation(6)
  np.testing.assert_array_equal(drawn, order.generator(3, 10, 1).permutation(6))
  key = (3, order.Stream.PAIRS, 2)
  moved = order.permuted(np.arange(9), 9, *key)
  np.testing.assert_array_equal(moved, order.permuted(np.arange(9), 9, 3, 8, 2))
