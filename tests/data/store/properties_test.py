"""A store is the list that it was written from, however many parts it has."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperjax.data.store import build, job, row_writer, store
from tests.data import rows as examples

FEATURES = ("inputs", "targets")
INFO = {"task": "t", "split": "train", "vocabulary": None}
IDS = st.lists(st.integers(0, 99_999), max_size=6)
ROW = st.fixed_dictionaries(
  {
    "inputs": IDS,
    "targets": IDS | IDS.map(lambda ids: [*ids, examples.EOS]),
    "record": st.dictionaries(
      st.text(max_size=3), st.text(max_size=5), max_size=2
    ),
  }
)
PARTS = st.lists(st.lists(ROW, max_size=5), min_size=1, max_size=4)


def _job(folder, rows):
  return job.Job(folder, lambda: iter(rows), FEATURES, INFO, 100_000, True)


def _check(found, rows, order):
  """Every way of reading says what the list says."""
  assert len(found) == len(rows)
  flat = [ids for row in rows for ids in (row["inputs"], row["targets"])]
  tokens = [id_ for ids in flat for id_ in ids]
  assert np.asarray(found.tokens[:]).tolist() == tokens
  assert len(found.tokens) == len(tokens)
  for index in order:
    for name in FEATURES:
      ids = found.row(index, name)
      assert ids.dtype == np.int32 and ids.tolist() == rows[index][name]
    assert found.record(index) == rows[index]["record"]
  position = 0
  for ids in flat:
    for at in range(position, position + len(ids)):
      assert found.span(at) == (position, position + len(ids))
      assert int(found.tokens[at]) == tokens[at]
    position += len(ids)
  for name in FEATURES:
    lengths = [len(row[name]) for row in rows]
    assert found.lengths(name).tolist() == lengths
    assert found.longest(name) == max(lengths, default=0)
    closed = [len(x[name]) + (x[name][-1:] != [examples.EOS]) for x in rows]
    for first in range(len(rows) + 1):
      own = found.closed_lengths(name, examples.EOS, first, len(rows))
      assert own.tolist() == closed[first:]
  hashes = np.asarray(found.hashes[:])
  for i, one in enumerate(rows):
    for j, other in enumerate(rows):
      same = one["inputs"] == other["inputs"]
      assert (hashes[i] == hashes[j]) == same
  chosen = np.asarray(order, np.int64)
  if len(chosen):
    np.testing.assert_array_equal(found.hashes[chosen], hashes[chosen])
  for index in (-1, len(rows)):
    with pytest.raises(IndexError):
      found.row(index, "targets")


@given(PARTS, st.integers(1, 4), st.data())
def test_a_store_is_the_list_it_was_written_from(
  tmp_path_factory, parts, block, data
):
  """Alone, in memory, and of several parts, in any order of reading.

  Rows are written a few at a time. A build that goes on finds some of its parts
  made, and leaves them alone.
  """
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(row_writer, "_BLOCK_ROWS", block)
    _check_stores(tmp_path_factory.mktemp("stores"), parts, data)


def _check_stores(folder, parts, data):
  rows = [row for part in parts for row in part]
  order = data.draw(st.permutations(range(len(rows))))
  _check(store.in_memory(rows, FEATURES), rows, order)
  jobs = [_job(folder / str(i), part) for i, part in enumerate(parts)]
  begun = data.draw(st.sets(st.integers(0, len(parts) - 1)))
  for i in begun:
    jobs[i].make()
  made = {i: (folder / str(i) / store.INFO).stat().st_ino for i in begun}
  build.make_all([_job(folder / "whole", rows), *jobs], 1)
  for i, inode in made.items():
    assert (folder / str(i) / store.INFO).stat().st_ino == inode
  _check(store.read(folder / "whole")[0], rows, order)
  store.write_joined(folder / "all", [x.folder for x in jobs], INFO)
  found, info = store.read(folder / "all")
  assert (info["rows"], len(info["parts"])) == (len(rows), len(parts))
  _check(found, rows, order)


@given(PARTS, st.integers(0, 25), st.integers(0, 25))
def test_joined_parts_are_sliced_and_gathered_as_one_array(
  tmp_path_factory, parts, start, stop
):
  folder = tmp_path_factory.mktemp("stores")
  for i, part in enumerate(parts):
    _job(folder / str(i), part).make()
  store.write_joined(
    folder / "all", [folder / str(i) for i in range(len(parts))], INFO
  )
  tokens = store.read(folder / "all")[0].tokens
  wanted = np.asarray(
    [
      id_
      for part in parts
      for row in part
      for ids in (row["inputs"], row["targets"])
      for id_ in ids
    ],
    np.int64,
  )
  np.testing.assert_array_equal(tokens[start:stop], wanted[start:stop])
  np.testing.assert_array_equal(tokens[-stop:], wanted[-stop:])
  for index in range(-len(wanted), len(wanted)):
    assert tokens[index] == wanted[index]
  if len(wanted):
    # Numbers may come twice, from behind, and in an array of any shape.
    index = np.arange(-len(wanted), len(wanted)).reshape(2, -1)
    np.testing.assert_array_equal(tokens[index], wanted[index])
  for index in (-len(wanted) - 1, len(wanted)):
    with pytest.raises(IndexError):
      tokens[index]
    with pytest.raises(IndexError):
      tokens[np.asarray([index])]
