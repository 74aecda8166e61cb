"""Rows by index: tasks side by side."""

import dataclasses

import numpy as np
import pytest

from hyperjax.batch import Lengths
from hyperjax.data import pairs, sources
from tests.data import rows

LENGTHS = Lengths(inputs=4, targets=3, demonstrations=12)
# 5, 7 and 3 rows; inputs 10.., 100.., 200..
TASKS = [
  rows.numbered("a", 5, 10),
  rows.numbered("b", 7, 100),
  rows.numbered("c", 3, 200),
]


def test_every_context_is_of_its_own_task_and_epochs_meet_each_row_once():
  source = pairs.SideBySide(TASKS, LENGTHS, pairs.PerTask(2))
  for which, task in enumerate(TASKS):
    count = len(task.rows)
    met = []
    for step in range(count):  # two rows each: two epochs
      own, chosen = source.rows(step * len(TASKS) + which)
      assert own is task
      context = source[step * len(TASKS) + which]
      for row, inputs, targets in zip(
        chosen, context.inputs, context.targets, strict=True
      ):
        assert inputs.tolist() == task.rows.row(row, "inputs").tolist()
        assert targets.tolist() == task.rows.row(row, "targets").tolist()
      met += chosen
    assert sorted(met[:count]) == sorted(met[count:]) == list(range(count))
    assert met[:count] != met[count:]


def test_a_task_meets_the_same_rows_whatever_stands_beside_it():
  some = pairs.PerTask(2, max_rows=4)
  together = pairs.SideBySide(TASKS, LENGTHS, some, seed=3)
  for which, task in enumerate(TASKS):
    alone = pairs.SideBySide([task], LENGTHS, some, seed=3)
    for step in range(9):
      beside = together.rows(step * len(TASKS) + which)
      assert alone.rows(step) == beside
    np.testing.assert_array_equal(
      alone.demonstrations()[0], together.demonstrations()[which]
    )


def test_no_more_than_max_rows_are_used_and_another_seed_draws_others():
  def used(seed):
    source = pairs.SideBySide(
      [TASKS[1]], LENGTHS, pairs.PerTask(1, max_rows=3), seed
    )
    return {row for step in range(20) for row in source.rows(step)[1]}

  assert all(len(used(seed)) == 3 for seed in range(4))
  assert len({tuple(used(seed)) for seed in range(4)}) > 1


def test_a_hypermodel_is_shown_rows_that_are_trained_on_and_whole():
  """A row takes four tokens with its ends: three of them fit in twelve."""
  source = pairs.SideBySide(TASKS, LENGTHS, pairs.PerTask(1, None, 4))
  shown = source.demonstrations()
  assert shown.shape == (3, 12) and shown.dtype == np.int32
  for which, task in enumerate(TASKS):
    own = shown[which].reshape(3, 4)
    for given, end, answer, last in own.tolist():
      assert (answer, end, last) == (given + 1000, 1, 1)
      assert [given, 1] in [
        task.rows.row(i, "inputs").tolist() for i in range(len(task.rows))
      ]
    assert len({row[0] for row in own.tolist()}) == 3
  short = dataclasses.replace(LENGTHS, demonstrations=3)
  with pytest.raises(ValueError, match=r"'a': none of 4 .* fits in 3 tokens"):
    pairs.SideBySide(TASKS, short, pairs.PerTask(1, None, 4)).demonstrations()


def test_instructions_are_read_as_in_episodes():
  """The hypermodel's comes before demonstrations, the T5's before each input."""
  told = dataclasses.replace(TASKS[0], instruction=np.array([50, 51]))
  readers = ("hypermodel", "backbone")
  lengths = dataclasses.replace(LENGTHS, inputs=5)
  source = pairs.SideBySide([told], lengths, pairs.PerTask(1, None, 2, readers))
  row = source.rows(0)[1][0]
  assert source[0].inputs[0].tolist() == [50, 51, 10 + row, 1]
  shown = source.demonstrations()[0]
  assert shown[:3].tolist() == [50, 51, 1]
  assert np.count_nonzero(shown) == 3 + 2 * 4
  separate = dataclasses.replace(
    lengths, demonstrations=4, num_demonstrations=3
  )
  source = pairs.SideBySide(
    [told], separate, pairs.PerTask(1, None, 2, readers)
  )
  assert source.demonstrations().shape == (1, 3, 4)
  assert source.demonstrations()[0, 0].tolist() == [50, 51, 1, 0]


def test_a_batch_has_as_many_rows_of_each_of_the_tasks_asked_for():
  lengths = {"inputs": 4, "targets": 3}
  given = rows.Tasks(tuple(TASKS), "abc")
  data = sources.TasksSideBySide(given, lengths, 2, 6)
  assert data.rows_per_context == 3
  assert [task.name for task in data.open(0).tasks] == ["a", "c"]
  with pytest.raises(ValueError, match=r"BATCH_SIZE is 7 .* the 2 tasks"):
    dataclasses.replace(data, batch_size=7)
  with pytest.raises(ValueError, match=r"NUM_TASKS is 6; abc.* has 3 tasks"):
    dataclasses.replace(data, num_tasks=6).open(0)
