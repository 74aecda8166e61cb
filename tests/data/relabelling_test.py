import dataclasses
import logging

import numpy as np
import pytest

from hyperjax.batch import Lengths
from hyperjax.data import relabelling
from hyperjax.data.episodes import Episodes, FewShot
from tests.data import rows

LENGTHS = Lengths(inputs=8, targets=6, demonstrations=64)
# Row i of either task has input [first + i]; of the first, two labels of one id, of
# the second three of two ids. The third task's outputs are all different.
LABELS = {
  "two": [(500,), (501,)],
  "three": [(600, 9), (601, 9), (602, 9)],
}
FIRSTS = {"two": 10, "three": 110, "free": 210}


def _tasks():
  labelled = [
    rows.task(
      name,
      [([FIRSTS[name] + i], own[i % len(own)]) for i in range(60)],
    )
    for name, own in LABELS.items()
  ]
  return [*labelled, rows.numbered("free", 60, FIRSTS["free"])]


def _episodes(relabel, kinds=relabelling.KINDS, lengths=LENGTHS, tasks=None):
  few = FewShot((4, 6), 3, relabel=relabel, relabel_with=kinds)
  return Episodes(tasks or _tasks(), few, lengths, seed=5)


def _texts(ids):
  """What ends of sequence separate."""
  parts = np.split(ids, np.flatnonzero(ids == rows.EOS) + 1)[:-1]
  return [tuple(part[:-1].tolist()) for part in parts]


def _shown(source, index):
  """The task of an episode, and (input, output) of all its rows."""
  context, name = source[index], source.task_of(index).name
  texts = _texts(context.demonstrations)
  pairs = list(zip(texts[::2], texts[1::2], strict=True))
  for inputs, targets in zip(context.inputs, context.targets, strict=True):
    pairs.append((*_texts(inputs), *_texts(targets)))
  return name, pairs


def _mapping(name, pairs):
  """What stands for each label of a task, told by its rows' inputs."""
  found = {}
  for (value,), output in pairs:
    own = LABELS[name]
    label = own[(value - FIRSTS[name]) % len(own)]
    assert found.setdefault(label, output) == output
  return found


def test_a_label_is_replaced_alike_in_demonstrations_and_targets():
  source, changed = _episodes(1.0), 0
  for index in range(90):
    name, pairs = _shown(source, index)
    if name != "free":
      found = _mapping(name, pairs)
      assert len(set(found.values())) == len(found)
      changed += any(old != new for old, new in found.items())
  assert changed > 40  # a third of the orders of two labels is as it was


def test_so_many_episodes_are_relabelled_and_all_else_is_as_without():
  plain, source = _episodes(0.0), _episodes(0.3)
  replaced = labelled = 0
  for index in range(600):
    own, before = source.episode(index), plain.episode(index)
    np.testing.assert_array_equal(own.targets, before.targets)
    if own.relabelling is None:
      np.testing.assert_array_equal(own.demonstrations, before.demonstrations)
    labelled += source.task_of(index).name != "free"
    replaced += own.relabelling is not None
  assert 0.24 < replaced / labelled < 0.36


def test_which_labels_are_replaced_does_not_depend_on_what_was_asked_before():
  one, other = _episodes(0.5), _episodes(0.5)
  backwards = {i: other[i] for i in reversed(range(60))}
  for i in range(60):
    np.testing.assert_array_equal(
      one[i].demonstrations, backwards[i].demonstrations
    )
    np.testing.assert_array_equal(one[i].targets, backwards[i].targets)


def test_a_task_of_many_outputs_is_left_as_it_is():
  source = _episodes(1.0)
  for index in range(60):
    name, pairs = _shown(source, index)
    if name == "free":
      assert all(target == value + 1000 for (value,), (target,) in pairs)
      assert source.episode(index).relabelling is None


def test_more_than_32_different_outputs_are_no_labels():
  """However many rows each has."""
  for count, is_few in ((32, True), (33, False)):
    pairs = [([10 + i], [500 + i % count]) for i in range(10 * count)]
    task = rows.task("many", pairs)
    found = relabelling.Labels([task], [task], LENGTHS).of(0)
    assert (found is not None) == is_few


@pytest.mark.parametrize("kind", relabelling.KINDS)
def test_new_labels_are_of_the_kind_that_is_asked_for(kind):
  source = _episodes(1.0, (kind,))
  others = {"two": "three", "three": "two"}
  inputs = {first + i for first in FIRSTS.values() for i in range(60)}
  for index in range(60):
    name, pairs = _shown(source, index)
    if name == "free":
      continue
    new = set(_mapping(name, pairs).values())
    if kind == relabelling.PERMUTED:
      assert new <= set(LABELS[name])
    elif kind == relabelling.SYMBOLS:
      assert all(len(own) == 1 and own[0] in inputs for own in new)
    elif name == "three":  # no other task has three labels
      assert source.episode(index).relabelling is None
    else:
      assert new <= set(LABELS[others[name]])


def test_all_orders_of_labels_are_as_likely():
  """So that the labels alone tell nothing."""
  source = _episodes(1.0, (relabelling.PERMUTED,))
  found = [
    _mapping(*_shown(source, index)).get((500,))
    for index in range(600)
    if source.task_of(index).name == "two"
  ]
  assert 0.4 < np.mean([own == (501,) for own in found if own]) < 0.6


class _Counted:
  """Rows that count how often one is read."""

  def __init__(self, own):
    self.own, self.num_read = own, 0

  def row(self, *args):
    self.num_read += 1
    return self.own.row(*args)

  def __len__(self):
    return len(self.own)

  def __getattr__(self, name):
    return getattr(self.own, name)


def test_lengths_are_known_without_a_token_and_hold_every_episode():
  tasks = [
    dataclasses.replace(task, rows=_Counted(task.rows)) for task in _tasks()
  ]
  source = _episodes(0.7, tasks=tasks)
  before = [task.rows.num_read for task in tasks]
  sizes = [source.sizes(index) for index in range(200)]
  assert [task.rows.num_read for task in tasks] == before
  for index, own in enumerate(sizes):
    context, is_new = source[index], source.episode(index).relabelling
    real = (
      max(map(len, context.inputs)),
      max(map(len, context.targets)),
      len(context.demonstrations),
    )
    assert own[:3] == real if is_new is None else own[:3] >= real
    assert all(have <= say for have, say in zip(real, own, strict=False))


def test_longer_labels_still_have_room():
  """A demonstration of the first task takes 4 tokens, with another's labels 5."""
  room = Lengths(inputs=8, targets=6, demonstrations=22)
  source = _episodes(1.0, (relabelling.BORROWED,), room)
  counts = set()
  for index in range(60):
    shown = source[index].demonstrations
    assert 0 < len(shown) <= 22
    if source.episode(index).relabelling is not None:
      counts.add(len(_texts(shown)) // 2)
  assert counts == {4}


def test_where_no_task_has_labels_it_is_said(caplog):
  free = [rows.numbered(name, 60) for name in ("a", "b")]
  _episodes(0.5, tasks=free)
  _episodes(0.5)
  (said,) = [x.message for x in caplog.records if x.levelno >= logging.WARNING]
  assert said == (
    "relabel is 0.5: of 2 tasks 0 have labels that can be replaced"
  )


def test_labels_that_do_not_fit_in_targets_are_not_taken():
  short = Lengths(inputs=8, targets=2, demonstrations=64)
  source = _episodes(1.0, (relabelling.BORROWED,), short)
  assert all(source.episode(i).relabelling is None for i in range(60))


def test_no_instruction_is_read_where_labels_are_replaced():
  readers = ("hypermodel", "backbone")
  told = [
    dataclasses.replace(task, instruction=np.arange(700, 703, dtype=np.int32))
    for task in _tasks()
  ]
  few = FewShot((2, 2), 1, readers, relabel=0.5)
  lengths = Lengths(inputs=12, targets=6, demonstrations=64)
  source, seen = Episodes(told, few, lengths), set()
  for index in range(80):
    context = source[index]
    is_new = source.episode(index).relabelling is not None
    assert (700 not in context.demonstrations) == is_new
    assert (700 not in context.inputs[0]) == is_new
    seen.add(is_new)
  assert seen == {True, False}


def test_an_output_that_was_not_seen_among_the_labels_stays():
  """Of 2,000 rows every fourth or so is looked at."""
  pairs = [([10 + i], [500 + i % 2]) for i in range(2000)]
  looked = set(relabelling._spread(2000, 512))
  odd = next(i for i in range(2000) if i not in looked)
  pairs[odd] = ([10 + odd], [999])
  task = rows.task("rare", pairs)
  labels = relabelling.Labels([task], [task], LENGTHS, (relabelling.PERMUTED,))
  assert labels.of(0) == ((500,), (501,))
  found = labels.draw(0, np.random.default_rng(0), moves_all=True)
  shown = found.task(task).rows
  assert shown.row(odd, "targets").tolist() == [999, rows.EOS]
  other = pairs[0][1][0] ^ 1
  assert shown.row(0, "targets").tolist() == [other, rows.EOS]


@pytest.mark.parametrize("kind", relabelling.KINDS)
def test_where_all_labels_are_to_move_none_stands_for_itself(kind):
  tasks = _tasks()
  labels = relabelling.Labels(tasks, tasks, LENGTHS, (kind,))
  for seed in range(50):
    for task in (0, 1):
      found = labels.draw(task, np.random.default_rng(seed), moves_all=True)
      if found is not None:
        assert all(old != new for old, new in found.new.items())


def test_any_number_of_demonstrations_is_from_one_to_what_has_room():
  """Of 4 tokens each, six have room in 26."""
  lengths = Lengths(inputs=8, targets=6, demonstrations=26)
  few = FewShot("any_number")
  source = Episodes([rows.numbered("a", 60)], few, lengths)
  counts = [len(source.episode(i).demonstrations) for i in range(600)]
  shares = np.bincount(counts, minlength=7)[1:] / 600
  np.testing.assert_allclose(shares, 1 / 6, atol=0.06)


def test_any_number_of_separate_demonstrations_is_up_to_their_rows():
  lengths = Lengths(8, 6, demonstrations=8, num_demonstrations=5)
  few = FewShot("any_number")
  source = Episodes([rows.numbered("a", 60)], few, lengths)
  counts = {len(source[i].demonstrations) for i in range(200)}
  assert counts == {1, 2, 3, 4, 5}
