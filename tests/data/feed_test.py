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
