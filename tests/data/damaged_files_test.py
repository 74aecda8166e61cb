"""Damaged files of text, tokens and vocabularies."""

import gzip
import json

import numpy as np
import pytest

from hyperjax.data import files, vocabulary
from hyperjax.data.store import mixtures, store
from hyperjax.data.vocabulary import SentencePiece
from hyperjax.tasks import records
from tests import damage

FEATURES = ("inputs", "targets")
ROWS = [
  {"inputs": [3, 4, 1], "targets": [5, 1], "record": {"id": "a", "x": [1, 2]}},
  {"inputs": [], "targets": [7, 8, 9, 1], "record": {"id": "ü"}},
  {"inputs": [3, 4, 1], "targets": [1], "record": {}},
]
INFO = {"task": "t", "split": "train", "vocabulary": None, "made_of": {}}


def _lines(folder):
  lines = [{"text": "a b", "url": None}, {"text": "c"}, {"text": "d " * 9}]
  content = "".join(json.dumps(line) + "\n" for line in lines).encode()
  (folder / "x.jsonl").write_bytes(content)
  (folder / "x.json.gz").write_bytes(gzip.compress(content, mtime=0))


def _store(folder, rows=ROWS):
  store.write(folder, rows, FEATURES, INFO, 100, True)


def _read_store(folder):
  rows, info = store.read(folder / "made" / "t")
  store.instruction_of(info)
  read_rows(rows)


def read_rows(rows):
  """Everything that is asked of rows; their ids are within their type."""
  for feature in rows.features:
    lengths = rows.lengths(feature)
    assert len(lengths) == len(rows)
    assert len(rows) == 0 or lengths.min() >= 0
    rows.longest(feature)
    rows.closed_lengths(feature, 1, 0, len(rows))
    for i in range(len(rows)):
      assert len(rows.row(i, feature)) == lengths[i]
  for i in range(len(rows)):
    assert isinstance(rows.record(i), dict)
    rows.hashes[i]
  for i in range(len(rows.tokens)):
    start, end = rows.span(i)
    assert start <= i < end


def _one(folder):
  (folder / "made").mkdir()
  info = {"instruction": [3, 4]}
  store.write(folder / "made" / "t", ROWS, FEATURES, INFO | info, 100, True)


def _joined(folder):
  parts = [folder / "made" / name for name in "ab"]
  for part in parts:
    _store(part)
  store.write_joined(folder / "made" / "t", parts, INFO)


def _mixture(folder):
  _one(folder)
  mixtures.write_mixture(
    folder, "m", "train", True, [("t", 2.0, folder / "made" / "t")], {"a": 1}
  )
  (made,) = (folder / "mixtures").iterdir()
  made.rename(folder / "mixtures" / "m.json")


def _vocabulary(folder):
  (folder / "own.model").write_bytes(records.VOCABULARY.read_bytes())


def _read_vocabulary(folder):
  vocabulary._load.cache_clear()  # one file of the same name after another
  found = SentencePiece(str(folder / "own.model"), 7)
  size = found.size
  assert size >= 7 and found.eos_id != size
  ids = found.encode("alice paris ü red seven")
  assert all(0 <= i < size for i in ids)
  assert isinstance(found.decode([*ids, 3, 10**6]), str)


def _case(name, write, file, read, **others):
  return damage.Case(name, write, file, read, **others)


CASES = [
  _case(
    "JSON lines",
    _lines,
    "x.jsonl",
    lambda folder: list(files.read_json_lines(folder / "x.jsonl")),
    is_json=True,
  ),
  _case(
    "packed JSON lines",
    _lines,
    "x.json.gz",
    lambda folder: list(files.read_json_lines(folder / "x.json.gz")),
  ),
  *(
    _case(
      f"stored {name}",
      _one,
      f"made/t/{name}",
      _read_store,
      is_json=is_json,
      named="made",
    )
    for name, is_json in (
      ("info.json", True),
      ("offsets.bin", False),
      ("ends.bin", False),
      ("records.bin", False),
      ("tokens.bin", False),
      ("hashes.bin", False),
    )
  ),
  _case(
    "joined info.json",
    _joined,
    "made/t/info.json",
    _read_store,
    is_json=True,
    named="made",
  ),
  _case(
    "a part's info.json",
    _joined,
    "made/b/info.json",
    _read_store,
    is_json=True,
    named="made",
  ),
  _case(
    "mixture",
    _mixture,
    "mixtures/m.json",
    lambda folder: mixtures.open_mixture(folder, "m", "train", True),
    is_json=True,
    named="",  # of another mixture there is none by this name
  ),
  _case("SentencePiece model", _vocabulary, "own.model", _read_vocabulary),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_damaged_file_is_refused_by_name_or_read(tmp_path, case):
  damage.search(case, tmp_path)


def test_ids_outside_of_their_file_are_named_with_their_row(tmp_path):
  _one(tmp_path)
  path = tmp_path / "made" / "t" / "offsets.bin"
  offsets = np.frombuffer(path.read_bytes(), np.int64).copy()
  offsets[3] = 2**40  # row 1, feature 0, begins there
  path.write_bytes(offsets.tobytes())
  rows, _ = store.read(tmp_path / "made" / "t")
  assert rows.row(0, "inputs").tolist() == [3, 4, 1]
  for read in (
    lambda: rows.row(1, "inputs"),
    lambda: rows.lengths("inputs"),
    lambda: rows.closed_lengths("targets", 1, 0, 3),
  ):
    with pytest.raises(
      ValueError, match=r"made/t: offsets\.bin is damaged: row 1 does not lie"
    ):
      read()


def test_a_vocabulary_that_cannot_be_loaded_is_named(tmp_path):
  from sentencepiece import sentencepiece_model_pb2

  model = sentencepiece_model_pb2.ModelProto()
  model.ParseFromString(records.VOCABULARY.read_bytes())
  twice = model.pieces.add()
  twice.CopyFrom(model.pieces[9])
  for name, content, message in (
    ("a", b"", "a is not a SentencePiece model: it has no piece"),
    ("b", b"<html>", "b is not a SentencePiece model"),
    ("c", model.SerializeToString(), "c is a damaged SentencePiece model: "),
  ):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
      SentencePiece(str(tmp_path / name), 7).encode("x")
