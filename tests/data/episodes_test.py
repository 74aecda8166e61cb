import dataclasses
import logging

import numpy as np
import pytest

from hyperjax.batch import Lengths, assemble
from hyperjax.data.episodes import Episodes, FewShot
from tests.data import rows

LENGTHS = Lengths(inputs=8, targets=8, demonstrations=64)


def _split(ids):
  """Demonstrations of a joined row: input, output, input, output, ..."""
  parts = np.split(ids, np.flatnonzero(ids == rows.EOS) + 1)[:-1]
  texts = [tuple(part[:-1].tolist()) for part in parts]
  return list(zip(texts[::2], texts[1::2], strict=True))


def test_an_episode_is_demonstrations_then_other_rows_of_one_task():
  tasks = [rows.numbered("a", 30), rows.numbered("b", 30, first=500)]
  source = Episodes(tasks, FewShot((4, 4), num_targets=3), LENGTHS)
  for index in range(50):
    context = source[index]
    pairs = _split(context.demonstrations)
    assert len(pairs) == 4 and len(context.inputs) == 3
    seen = [pair[0][0] for pair in pairs] + [x[0] for x in context.inputs]
    assert len(set(seen)) == 7
    assert len({value // 500 for value in seen}) == 1
    for (inputs,), (target,) in pairs:
      assert target == inputs + 1000
    for inputs, targets in zip(context.inputs, context.targets, strict=True):
      assert targets[0] == inputs[0] + 1000


def test_an_episode_is_the_same_in_any_order_and_for_any_number_of_hosts():
  tasks = [
    rows.numbered(name, 40, first) for name, first in (("a", 10), ("b", 500))
  ]
  one = Episodes(tasks, FewShot((1, 5)), LENGTHS, seed=7)
  other = Episodes(tasks, FewShot((1, 5)), LENGTHS, seed=7)
  backwards = {i: other.episode(i) for i in reversed(range(60))}
  for i in range(60):
    np.testing.assert_array_equal(
      one.episode(i).demonstrations, backwards[i].demonstrations
    )
    np.testing.assert_array_equal(one.episode(i).targets, backwards[i].targets)
  reseeded = Episodes(tasks, FewShot((1, 5)), LENGTHS, seed=8)
  assert any(
    one.episode(i).targets[0] != reseeded.episode(i).targets[0]
    for i in range(20)
  )


def test_an_epoch_has_every_row_as_a_target_once():
  source = Episodes([rows.numbered("a", 20)], FewShot((2, 2), 4), LENGTHS)
  for epoch in (0, 1):
    targets = [source.episode(5 * epoch + i).targets for i in range(5)]
    assert sorted(np.concatenate(targets)) == list(range(20))
  first, second = (
    [source.episode(i).targets.tolist() for i in range(n, n + 5)]
    for n in (0, 5)
  )
  assert first != second


def test_the_number_of_demonstrations_is_drawn_from_its_range():
  source = Episodes([rows.numbered("a", 40)], FewShot((2, 5)), LENGTHS)
  counts = [len(source.episode(i).demonstrations) for i in range(400)]
  shares = np.bincount(counts, minlength=6)[2:] / 400
  np.testing.assert_allclose(shares, 0.25, atol=0.08)


def test_a_demonstration_never_has_the_text_of_a_target():
  """Row 2 i and row 2 i + 1 have the same input."""
  pairs = [([10 + i // 2], [100 + i]) for i in range(24)]
  source = Episodes([rows.task("twins", pairs)], FewShot((16, 16)), LENGTHS)
  for index in range(100):
    context = source[index]
    texts = [text for text, _ in _split(context.demonstrations)]
    assert tuple(context.inputs[0][:-1].tolist()) not in texts


def test_demonstrations_are_dropped_whole():
  """Of 12 tokens each, five fit in 64."""
  source = Episodes(
    [rows.numbered("a", 30, length=9)], FewShot((8, 8)), LENGTHS
  )
  for index in range(20):
    episode = source.episode(index)
    assert len(episode.demonstrations) == 5 and episode.num_dropped == 3
    assert len(source[index].demonstrations) == 60


@pytest.mark.parametrize("high", [1, 16])
def test_where_few_rows_fit_every_episode_still_has_a_demonstration(
  caplog, high
):
  """Two rows of two hundred: an episode without any would stop a run for good."""
  pairs = [([10 + i] * (5 if i in (3, 77) else 90), [9]) for i in range(200)]
  with caplog.at_level(logging.INFO):
    source = Episodes([rows.task("long", pairs)], FewShot((1, high)), LENGTHS)
  assert "198 of 200 rows are too long for a demonstration" in caplog.text
  for index in range(600):
    episode = source.episode(index)
    assert set(episode.demonstrations) <= {3, 77} - set(episode.targets)
    assert len(episode.demonstrations) >= 1


def test_with_fewer_rows_than_wanted_what_is_left_is_used():
  source = Episodes([rows.numbered("a", 5)], FewShot((16, 16), 3), LENGTHS)
  for index in range(10):
    episode = source.episode(index)
    assert len(episode.targets) == 3 and len(episode.demonstrations) == 2
    assert not set(episode.targets) & set(episode.demonstrations)


def test_long_inputs_of_targets_are_cut_and_keep_their_end():
  source = Episodes(
    [rows.numbered("a", 10, length=20)], FewShot((1, 1)), LENGTHS
  )
  inputs = source[0].inputs[0]
  assert len(inputs) == 8 and inputs[-1] == rows.EOS and inputs[-2] != rows.EOS


@pytest.mark.parametrize(
  "task, message",
  [
    (rows.numbered("lonely", 2), r"'lonely'.*has 2 rows.*needs 3"),
    (rows.numbered("none", 0), r"'none'.*has 0 rows"),
    (rows.task("same", [([5], [i]) for i in range(9)]), "same input"),
    (rows.documents("text", [5, 5]), "'text' has no feature 'inputs'"),
  ],
)
def test_a_task_that_cannot_make_episodes_is_refused_by_name(task, message):
  with pytest.raises(ValueError, match=message):
    Episodes([rows.numbered("fine", 9), task], FewShot((1, 4), 2), LENGTHS)


def test_no_room_for_a_single_demonstration_is_an_error():
  tasks = [rows.numbered("a", 9, length=20), rows.numbered("b", 9, length=30)]
  with pytest.raises(
    ValueError, match=r"is 22, which leaves no room.*shortest of all has 23"
  ):
    Episodes(tasks, FewShot((1, 4)), Lengths(8, 8, demonstrations=22))


def test_a_task_without_room_is_left_out_and_named(caplog):
  tasks = [rows.numbered("short", 9), rows.numbered("long", 9, length=80)]
  with caplog.at_level(logging.WARNING):
    source = Episodes(tasks, FewShot((1, 4)), LENGTHS)
  assert [task.name for task in source.tasks] == ["short"]
  assert "1 of 2 tasks are left out" in caplog.text and "long" in caplog.text


@pytest.mark.parametrize("low_high", [(0, 3), (4, 3)])
def test_a_bad_range_is_refused(low_high):
  with pytest.raises(ValueError, match=r"FewShot\.num_demonstrations"):
    FewShot(low_high)


SEPARATE = Lengths(inputs=8, targets=8, demonstrations=6, num_demonstrations=5)


def test_separate_demonstrations_are_a_row_each():
  """Any number of them up to the rows there are, whatever their length."""
  source = Episodes([rows.numbered("a", 30)], FewShot((1, 5), 2), SEPARATE)
  counts = set()
  for index in range(30):
    context, episode = source[index], source.episode(index)
    assert len(context.demonstrations) == len(episode.demonstrations)
    for ids, row in zip(
      context.demonstrations, episode.demonstrations, strict=True
    ):
      assert ids.tolist() == [10 + row, rows.EOS, 1010 + row, rows.EOS]
    counts.add(len(episode.demonstrations))
    assert episode.num_dropped == 0
  assert counts == {1, 2, 3, 4, 5}
  assembled = assemble([source[i] for i in range(3)], SEPARATE).demonstrations
  assert assembled.shape == (3, 5, 6)
  for i in range(3):
    found = [x[x != 0].tolist() for x in assembled[i] if x.any()]
    assert found == [x.tolist() for x in source[i].demonstrations or ()]


def test_a_separate_instruction_is_the_first_row():
  task = dataclasses.replace(
    rows.numbered("a", 30), instruction=np.arange(500, 520, dtype=np.int32)
  )
  few_shot = FewShot((4, 4), 1, ("hypermodel",))
  context = Episodes([task], few_shot, SEPARATE)[0]
  assert context.demonstrations[0].tolist() == [*range(500, 505), rows.EOS]
  assert len(context.demonstrations) == 5
  with pytest.raises(ValueError, match="is 5 rows; 5 demonstrations and an"):
    Episodes([task], FewShot((1, 5), 1, ("hypermodel",)), SEPARATE)


def test_more_separate_demonstrations_than_rows_are_refused():
  with pytest.raises(ValueError, match="is 5 rows; 6 demonstrations take 6"):
    Episodes([rows.numbered("a", 30)], FewShot((1, 6)), SEPARATE)


def test_rows_that_fit_are_held_in_four_bytes_each():
  """Of hundreds of millions of rows that is what is in memory."""
  pairs = [([10 + i] * (90 if i == 3 else 5), [9]) for i in range(20)]
  source = Episodes([rows.task("long", pairs)], FewShot((1, 2)), LENGTHS)
  held = source._pools[0]._rows
  assert held.dtype == np.int32
  assert held.tolist() == [i for i in range(20) if i != 3]
  assert source.num_too_long(0) == 1
  # Where all fit, nothing is held.
  source = Episodes([rows.numbered("a", 9)], FewShot((1, 2)), LENGTHS)
  assert source._pools[0]._rows is None and source.num_too_long(0) == 0


def test_every_task_has_a_pool():
  tasks = [rows.numbered("a", 9), rows.numbered("b", 9)]
  with pytest.raises(ValueError, match="zip"):
    Episodes(tasks, FewShot((1, 1)), LENGTHS, pools=tasks[:1])


def test_no_tasks_and_no_room_are_refused():
  with pytest.raises(ValueError, match="without tasks has no episodes"):
    Episodes([], FewShot((1, 1)), LENGTHS)
  with pytest.raises(ValueError, match="LENGTHS lacks 'demonstrations'"):
    Episodes([rows.numbered("a", 9)], FewShot((1, 1)), Lengths(8, 8))


def test_demonstrations_may_be_as_few_as_one_row_of_a_pool():
  task, pool = rows.numbered("a", 1), rows.numbered("a", 1, first=50)
  source = Episodes([task], FewShot((3, 3)), LENGTHS, pools=[pool])
  episode = source.episode(4)
  assert (episode.demonstrations.tolist(), episode.targets.tolist()) == (
    [0],
    [0],
  )
  # Rows that are not asked for are not missed.
  with pytest.raises(
    ValueError, match=r"has 1 rows in split .* and 0 in split"
  ):
    Episodes([task], FewShot((1, 1)), LENGTHS, pools=[rows.numbered("a", 0)])


def test_long_rows_are_counted_over_the_tasks_that_are_kept(caplog):
  """Three of a's, and none of those of a task that is left out."""
  pairs = [([10 + i] * (90 if i < 3 else 5), [9]) for i in range(20)]
  tasks = [rows.task("a", pairs), rows.numbered("long", 9, length=80)]
  with caplog.at_level(logging.INFO):
    source = Episodes(tasks, FewShot((1, 2), 2), LENGTHS)
  assert [task.name for task in source.pools] == ["a"]
  left_out, too_long = caplog.messages
  assert left_out == (
    "1 of 2 tasks are left out: fewer than 3 different demonstrations fit in "
    "64 tokens (TASK_FEATURE_LENGTHS['demonstrations']): long"
  )
  assert too_long.startswith("3 of 20 rows are too long for a demonstration of")
  assert source.num_too_long(0) == 3


def test_a_task_of_different_rows_needs_one_more_than_targets(caplog):
  """Of six rows three inputs: with two targets one is always left."""
  pairs = [([10 + i // 2], [100 + i]) for i in range(6)]
  source = Episodes([rows.task("a", pairs)], FewShot((1, 1), 2), LENGTHS)
  assert all(len(source.episode(i).demonstrations) == 1 for i in range(30))
  with pytest.raises(ValueError, match="no room for a single demonstration: 4"):
    Episodes([rows.task("a", pairs)], FewShot((1, 1), 3), LENGTHS)
