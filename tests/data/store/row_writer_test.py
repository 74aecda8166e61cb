"""The arrays of a store while they grow."""

import json

import numpy as np
import pytest

from hyperjax.data.store import row_arrays, row_writer, store

FEATURES = ("inputs", "targets")


def _writer(folder, num_ids=100, has_records=False):
  folder.mkdir(exist_ok=True)
  return row_writer.RowWriter(folder, "t", FEATURES, num_ids, has_records)


def _row(inputs, targets=(1,)):
  return {"inputs": list(inputs), "targets": list(targets)}


def _bytes(folder):
  return {path.stem: path.stat().st_size for path in folder.iterdir()}


def test_a_block_of_rows_is_on_the_disk_before_the_next_is_begun(tmp_path):
  with _writer(tmp_path) as writer:
    for _ in range(4095):
      writer.add(_row([5]))
    assert (writer.num_rows, writer.num_tokens) == (0, 0)
    writer.add(_row([5]))
    assert (writer.num_rows, writer.num_tokens) == (4096, 8192)
    writer.add(_row([5]))
    assert writer.num_rows == 4096
  assert (writer.num_rows, writer.num_tokens) == (4097, 8194)


@pytest.mark.parametrize("size, rows", [(1 << 20, 0), ((1 << 20) + 1, 1)])
def test_a_block_has_no_more_tokens_than_one_row_beyond_a_million(
  tmp_path, size, rows
):
  with _writer(tmp_path) as writer:
    writer.add(_row(np.ones(size - 1, int), [1]))
    assert writer.num_rows == rows


def test_facts_are_of_what_was_written(tmp_path):
  writer = _writer(tmp_path)
  with writer:
    pass
  assert writer.facts == {
    "features": ["inputs", "targets"],
    "dtype": "uint16",
    "rows": 0,
    "tokens": 0,
    "records": False,
    "longest": {"inputs": 0, "targets": 0},
    "last_id": {"inputs": None, "targets": None},
  }
  # One offset, where the first would begin.
  assert _bytes(tmp_path) == {"tokens": 0, "offsets": 8, "hashes": 0}
  with _writer(tmp_path, (1 << 16) + 1, True) as writer:
    writer.add(_row([], [7, 0]) | {"record": {"a": "é"}})
    writer.add(_row([4, 0], [0]))
  assert writer.facts == {
    "features": ["inputs", "targets"],
    "dtype": "int32",
    "rows": 2,
    "tokens": 5,
    "records": True,
    "longest": {"inputs": 2, "targets": 2},
    "last_id": {"inputs": None, "targets": 0},
  }
  lines = json.dumps({"a": "é"}, ensure_ascii=False).encode() + b"{}"
  assert (tmp_path / "records.bin").read_bytes() == lines
  ends = np.fromfile(tmp_path / "ends.bin", np.int64)
  assert ends.tolist() == [0, len(lines) - 2, len(lines)]


@pytest.mark.parametrize("monkeypatched", [1, 2, 4096])
def test_the_last_id_is_one_over_all_blocks_or_none(
  tmp_path, monkeypatch, monkeypatched
):
  monkeypatch.setattr(row_writer, "_BLOCK_ROWS", monkeypatched)
  for i, (ends, wanted) in enumerate(
    (([3, 3, 3], 3), ([3, 3, 4], None), ([4, 3, 3], None), ([3, None, 3], None))
  ):
    with _writer(tmp_path / str(i)) as writer:
      for end in ends:
        writer.add(_row([9, 9], [] if end is None else [8, end]))
    assert writer.facts["last_id"] == {"inputs": 9, "targets": wanted}


@pytest.mark.parametrize(
  "num_ids, dtype", [(1 << 16, "uint16"), ((1 << 16) + 1, "int32")]
)
def test_an_id_takes_two_bytes_where_all_ids_fit(tmp_path, num_ids, dtype):
  with _writer(tmp_path, num_ids) as writer:
    writer.add(_row([num_ids - 1, 0]))
  assert writer.facts["dtype"] == dtype
  found = np.fromfile(tmp_path / "tokens.bin", dtype)
  assert found.tolist() == [num_ids - 1, 0, 1]


@pytest.mark.parametrize("wrong", [-1, 100])
def test_an_id_that_the_vocabulary_does_not_have_is_named(
  tmp_path, monkeypatch, wrong
):
  monkeypatch.setattr(row_writer, "_BLOCK_ROWS", 2)
  writer = _writer(tmp_path)
  with (
    pytest.raises(
      ValueError,
      match=f"t, row 3: targets has ids from {min(wrong, 9)} to {max(wrong, 9)}, "
      "the vocabulary has 100",
    ),
    writer,
  ):
    for own in ([], [99], [0], [9, wrong]):
      writer.add(_row([99, 0], own))
  assert writer.num_rows == 2
  assert all(file.closed for file in writer._files.values())


def test_a_task_is_drawn_as_often_as_another_and_ends_in_one():
  rows = store.in_memory([_row([5])], FEATURES)
  task = store.Task("a", "train", rows)
  assert (task.rate, task.eos_id, task.end_id) == (1.0, 1, 1)

  class Own:
    eos_id = 7

  task = store.Task("a", "train", rows, vocabulary=Own())
  assert (task.eos_id, task.end_id) == (7, 7)
  Own.eos_id = None
  assert (task.eos_id, task.end_id) == (None, 1)


def test_all_rows_are_looked_at_in_blocks_of_a_million():
  million = 1 << 20
  found = list(row_arrays.blocks(2 * million + 1))
  assert found == [
    (0, million),
    (million, 2 * million),
    (2 * million, 2 * million + 1),
  ]
  assert list(row_arrays.blocks(0)) == []
