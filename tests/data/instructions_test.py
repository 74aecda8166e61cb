"""A task's instruction, as the hypermodel and the backbone read it."""

import dataclasses
import logging

import numpy as np
import pytest

from hyperjax.batch import Lengths
from hyperjax.data import episodes, instructions
from hyperjax.data.episodes import Episodes, FewShot
from tests.data import rows

LENGTHS = Lengths(inputs=8, targets=8, demonstrations=24)
BOTH = instructions.READERS
WORDS = [7, 8, 9]


def _told(name="told", words=WORDS, count=30):
  task = rows.numbered(name, count, first=100)
  return dataclasses.replace(task, instruction=np.asarray(words, np.int32))


def test_the_hypermodel_reads_it_first_and_closed_then_whole_demonstrations():
  few_shot = FewShot((16, 16), 1, ("hypermodel",))
  source = Episodes([_told()], few_shot, LENGTHS)
  for index in range(20):
    context = source[index]
    assert context.demonstrations[:4].tolist() == [*WORDS, rows.EOS]
    # Twenty ids are left: five demonstrations of four (input, end, output, end).
    assert len(context.demonstrations) == 24
    assert len(source.episode(index).demonstrations) == 5
    assert source.episode(index).num_dropped == 11
    given = np.asarray(context.demonstrations[4::4])
    assert (context.demonstrations[6::4] == given + 1000).all()
    (inputs,) = context.inputs
    assert len(inputs) == 2  # the backbone reads the input alone
    assert inputs[0] not in given


def test_the_backbone_reads_it_before_the_input_as_one_text():
  source = Episodes([_told()], FewShot((1, 4), 2, ("backbone",)), LENGTHS)
  told, plain = source[3], Episodes([_told()], FewShot((1, 4), 2), LENGTHS)[3]
  np.testing.assert_array_equal(told.demonstrations, plain.demonstrations)
  for with_it, without in zip(told.inputs, plain.inputs, strict=True):
    assert with_it.tolist() == [*WORDS, *without.tolist()]
  for with_it, without in zip(told.targets, plain.targets, strict=True):
    np.testing.assert_array_equal(with_it, without)


def test_a_long_one_takes_half_of_the_room_and_is_counted(caplog):
  long = _told(words=range(2000, 2040))
  with caplog.at_level(logging.WARNING):
    source = Episodes([long, _told("b")], FewShot((1, 4), 1, BOTH), LENGTHS)
  assert "of 1 of 2 tasks are cut to 12 tokens by" in caplog.text
  assert "told" in caplog.text
  cut = {source.episode(i).task: source[i] for i in range(8)}[0]
  assert cut.demonstrations[:12].tolist() == [*range(2000, 2011), rows.EOS]
  assert len(cut.demonstrations) >= 16  # a demonstration has its place
  assert cut.inputs[0][:4].tolist() == [2000, 2001, 2002, 2003]
  assert len(cut.inputs[0]) == 6 and cut.inputs[0][-1] == rows.EOS


def test_without_demonstrations_it_is_all_that_the_hypermodel_reads():
  source = Episodes([_told(count=1)], FewShot((0, 0), 1, BOTH), LENGTHS)
  for index in range(3):
    assert source[index].demonstrations.tolist() == [*WORDS, rows.EOS]


def test_none_to_some_demonstrations_are_drawn_beside_it():
  source = Episodes([_told()], FewShot((0, 2), 1, ("hypermodel",)), LENGTHS)
  counts = {len(source.episode(i).demonstrations) for i in range(40)}
  assert counts == {0, 1, 2}


@pytest.mark.parametrize("readers", [(), ("backbone",)])
def test_a_hypermodel_that_would_read_nothing_is_refused(readers):
  with pytest.raises(ValueError, match=r"is \[0, 4\]; it must be from 1 on"):
    FewShot((0, 4), 1, readers)


@pytest.mark.parametrize("readers", ["hypermodel", ("hypermodel", "decoder")])
def test_unknown_readers_are_refused(readers):
  with pytest.raises(
    ValueError, match=r"instruction_readers must be a list of some of"
  ):
    FewShot((1, 4), 1, readers)


def test_tasks_that_have_none_are_refused_or_counted(caplog):
  without = rows.numbered("plain", 30)
  with pytest.raises(ValueError, match=r"'plain' \(and 0 more of 1\) has no"):
    Episodes([without], FewShot((1, 4), 1, BOTH), LENGTHS)
  with pytest.raises(ValueError, match=r"'plain' \(and 0 more of 2\) has no"):
    Episodes([_told(), without], FewShot((0, 4), 1, BOTH), LENGTHS)
  with caplog.at_level(logging.WARNING):
    source = Episodes([_told(), without], FewShot((1, 4), 1, BOTH), LENGTHS)
  assert "1 of 2 tasks have no instruction: plain" in caplog.text
  read = {source.episode(i).task: source[i] for i in range(8)}
  assert len(read[1].inputs[0]) == 2


def test_demonstrations_may_come_from_another_split():
  """Rows 0 and 1 of the pool stand among the targets, row 2 does not."""
  task = rows.task("a", [([10 + i], [50 + i]) for i in range(6)])
  pool = rows.task("a", [([i], [90 + i]) for i in (10, 11, 30)])
  source = Episodes([task], FewShot((3, 3)), LENGTHS, pools=[pool])
  seen = set()
  for index in range(12):
    context, episode = source[index], source.episode(index)
    given = np.asarray(context.demonstrations[::4])
    assert set(given) <= {10, 11, 30} and context.inputs[0][0] not in given
    assert (context.demonstrations[2::4] == given + 90).all()
    assert context.targets[0][0] == context.inputs[0][0] + 40
    seen.add(int(episode.targets[0]))
  assert seen == set(range(6))


def test_a_pool_without_a_task_is_refused_by_name():
  tasks = [rows.numbered("a", 3), rows.numbered("b", 3)]
  with pytest.raises(ValueError, match=r"here: no demonstrations for task 'b'"):
    episodes.matched(tasks, tasks[:1], "here")


def test_a_pool_that_only_repeats_the_targets_leaves_the_task_out():
  task = rows.task("a", [([10], [50]), ([11], [51])])
  pool = rows.task("a", [([10], [50])])
  with pytest.raises(ValueError, match="no room for a single demonstration"):
    Episodes([task], FewShot((1, 1)), LENGTHS, pools=[pool])
