import threading

import jax
import numpy as np
import pytest

from hyperjax.batch import Lengths
from hyperjax.data import feed
from hyperjax.data.episodes import Episodes, FewShot
from hyperjax.data.pairs import Pairs
from tests.data import rows

LENGTHS = Lengths(inputs=3, targets=3, demonstrations=12)


def _episodes():
  tasks = [rows.numbered("a", 20), rows.numbered("b", 20, first=400)]
  return Episodes(tasks, FewShot((1, 3), 2), LENGTHS, seed=4)


def _assert_same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_feed_taken_up_at_a_position_goes_on_as_before():
  with feed.Feed(_episodes(), 4) as whole:
    taken = [next(whole) for _ in range(6)]
  position = taken[2][1]
  assert position == 12
  with feed.Feed(_episodes(), 4, position) as again:
    for batch, after in taken[3:]:
      found, found_after = next(again)
      _assert_same(found, batch)
      assert found_after == after


@pytest.mark.parametrize("hosts", [2, 4])
def test_the_hosts_batches_together_are_the_one_hosts_batch(hosts):
  whole = feed.make_batch(_episodes(), 8, range(4))
  own = 4 // hosts
  parts = [
    feed.make_batch(_episodes(), 8, range(host * own, (host + 1) * own))
    for host in range(hosts)
  ]
  joined = jax.tree.map(lambda *own: np.concatenate(own), *parts)
  _assert_same(joined, whole)


def test_an_error_in_the_thread_reaches_whoever_asks():
  class Broken(Episodes):
    def __getitem__(self, index):
      if index >= 8:
        raise ValueError(f"broken at {index}")
      return super().__getitem__(index)

  tasks = [rows.numbered("a", 20)]
  broken = Broken(tasks, FewShot((1, 3), 2), LENGTHS)
  with feed.Feed(broken, 4) as batches:
    next(batches)
    next(batches)
    with pytest.raises(ValueError, match="broken at 8"):
      next(batches)


def test_what_was_not_begun_when_a_feed_is_left_is_not_made():
  made, may_end = [], threading.Event()

  class Slow(Episodes):
    def __getitem__(self, index):
      made.append(index)
      if index == 1:
        may_end.wait(2)
      return super().__getitem__(index)

  source = Slow([rows.numbered("a", 20)], FewShot((1, 3), 2), LENGTHS)
  with feed.Feed(source, 1, ahead=4) as batches:
    next(batches)
    *_, (_, last) = batches._waiting
    last.add_done_callback(lambda _: may_end.set())
  assert made in ([0], [0, 1])


def test_a_feed_says_how_many_windows_were_drawn_again(caplog):
  source = Pairs([rows.numbered("a", 30)], LENGTHS)
  with feed.Feed(source, 1) as batches:
    next(batches)
  assert not caplog.messages
  source.num_skipped = 3
  with feed.Feed(source, 1):
    pass
  [said] = caplog.messages
  assert said.startswith("3 windows fell in too short a document")


def test_batches_are_made_ahead_but_no_more_than_asked_for():
  made = []

  class Counted(Episodes):
    def __getitem__(self, index):
      made.append(index)
      return super().__getitem__(index)

  source = Counted([rows.numbered("a", 20)], FewShot((1, 3), 2), LENGTHS)
  with feed.Feed(source, 2, ahead=3) as batches:
    next(batches)
    for _, future in batches._waiting:
      future.result()
  assert made == [0, 1, 2, 3, 4, 5]


def test_an_outline_is_of_the_batch_of_all_and_draws_nothing():
  class Drawing(Episodes):
    def __getitem__(self, index):
      self.num_skipped += 1
      return super().__getitem__(index)

  source = Drawing([rows.numbered("a", 20)], FewShot((1, 3), 2), LENGTHS)
  found = feed.outline(source, 4)
  assert source.num_skipped == 0
  whole = feed.make_batch(source, 0, range(4))
  assert jax.tree.map(lambda x: (x.shape, x.dtype), found) == jax.tree.map(
    lambda x: (x.shape, x.dtype), whole
  )


def test_pairs_meet_every_row_once_an_epoch():
  source = Pairs([rows.numbered("a", 30)], LENGTHS)
  epochs = [
    [int(source[30 * epoch + i].inputs[0][0]) for i in range(30)]
    for epoch in (0, 1)
  ]
  for met in epochs:
    assert sorted(met) == list(range(10, 40))
  assert epochs[0] != epochs[1]
  assert source[3].targets[0][0] == source[3].inputs[0][0] + 1000
