import dataclasses

import numpy as np
import pytest

from hyperjax.batch import Lengths
from hyperjax.data import joining
from hyperjax.data.store import store
from tests.data import rows


def test_joined_demonstrations_come_apart_as_they_were():
  """Also where an end of sequence stands inside a row, or none at its end."""
  ids = [([5, 1, 6, 1], [7]), ([], [8, 1]), ([9], [1, 1])]
  pairs = [{"inputs": a, "targets": b} for a, b in ids]
  task = store.Task("a", "train", store.in_memory(pairs, ("inputs", "targets")))
  joined = joining.join(task, [2, 0, 1])
  assert joined.tolist() == [9, 1, 1, 1, 5, 1, 6, 1, 7, 1, 1, 8, 1]
  parts = [
    (given.tolist(), answer.tolist())
    for given, answer in joining.split_joined(task, [2, 0, 1], joined)
  ]
  assert parts == [([9, 1], [1, 1]), ([5, 1, 6, 1], [7, 1]), ([1], [8, 1])]


def test_rows_without_an_end_are_separated_all_the_same():
  own = store.in_memory(
    [{"inputs": [5 + i], "targets": [9, 1]} for i in range(4)],
    ("inputs", "targets"),
  )
  task = store.Task("p3-like", "train", own)
  joined = joining.join(task, [0, 2])
  assert joined.tolist() == [5, 1, 9, 1, 7, 1, 9, 1]
  assert joining.joined_lengths(task).tolist() == [4] * 4


def test_outputs_may_be_shown_with_other_inputs():
  task = rows.numbered("a", 9)
  joined = joining.join(task, [0, 1], [1, 0])
  shown = [10, rows.EOS, 1011, rows.EOS, 11, rows.EOS, 1010, rows.EOS]
  assert joined.tolist() == shown


LENGTHS = Lengths(inputs=8, targets=8, demonstrations=12)
SEPARATE = Lengths(8, 8, demonstrations=4, num_demonstrations=3)


def test_every_input_has_an_output():
  task = rows.numbered("a", 9)
  with pytest.raises(ValueError, match="zip"):
    joining.join(task, [0, 1], [1])
  room = joining.Room.of(task, (), SEPARATE)
  with pytest.raises(ValueError, match="zip"):
    room.place(task, [0, 1], [1])


def test_room_is_of_one_row_or_of_each():
  told = dataclasses.replace(
    rows.numbered("a", 9), instruction=np.array([5, 6])
  )
  readers = ("hypermodel",)
  room = joining.Room.of(told, readers, LENGTHS)
  assert (room.num_ids, room.num_separate) == (12 - 3, None)
  assert room.place(told, [0]).tolist() == [5, 6, 1, 10, 1, 1010, 1]
  room = joining.Room.of(told, readers, SEPARATE)
  assert (room.num_ids, room.num_separate) == (4, 2)
  assert [x.tolist() for x in room.place(told, [3], [4])] == [
    [5, 6, 1],
    [13, 1, 1014, 1],
  ]
  room = joining.Room.of(told, (), SEPARATE)
  assert (room.num_ids, room.num_separate) == (4, 3)
  assert [x.tolist() for x in room.place(told, [3])] == [[13, 1, 1013, 1]]


def test_what_fits_is_kept_in_order_and_the_rest_counted():
  task = rows.numbered("a", 9)
  sizes = np.array([4, 5, 3, 4, 2, 1])

  def kept(lengths, given):
    room = joining.Room.of(task, (), lengths)
    found, dropped = room.keep_fitting(given, sizes)
    assert found.dtype == np.int64
    return found.tolist(), dropped

  # 12 in all: 5, 4 and 3 are exactly as many.
  assert kept(LENGTHS, [1, 0, 2, 5]) == ([1, 0, 2], 1)
  # What does not fit makes room for a shorter one behind it.
  assert kept(LENGTHS, [1, 0, 3, 4, 5]) == ([1, 0, 4, 5], 1)
  # Four each: three rows, whatever they take together.
  assert kept(SEPARATE, [1, 0, 3, 2, 5]) == ([0, 3, 2], 2)
  assert kept(SEPARATE, []) == ([], 0)


def test_as_many_demonstrations_as_rows_may_be_asked_for():
  joining.check_separate_rows(3, (), SEPARATE)
  joining.check_separate_rows(2, ("hypermodel",), SEPARATE)
  joining.check_separate_rows(99, ("hypermodel",), LENGTHS)
  with pytest.raises(ValueError, match="is 3 rows; 4 demonstrations take 4"):
    joining.check_separate_rows(4, ("backbone",), SEPARATE)
  with pytest.raises(
    ValueError, match="is 3 rows; 3 demonstrations and an instruction take 4"
  ):
    joining.check_separate_rows(3, ("hypermodel",), SEPARATE)


def test_nothing_joined_is_no_id():
  task = rows.numbered("a", 2)
  assert joining.join(task, []).dtype == np.int32
  assert joining.join(task, []).tolist() == []
  assert joining.split_joined(task, [], np.zeros(0, np.int32)) == []
