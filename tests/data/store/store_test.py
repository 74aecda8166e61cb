import json
import subprocess
import sys

import numpy as np
import pytest

from hyperjax.data.store import mixtures, store
from tests import conftest

FEATURES = ("inputs", "targets")
ROWS = [
  {"inputs": [3, 4, 1], "targets": [5, 1], "record": {"id": "a", "x": [1, 2]}},
  {"inputs": [], "targets": [7, 8, 9, 1], "record": {"id": "ü"}},
  {"inputs": [3, 4, 1], "targets": [1], "record": {}},
]
INFO = {"task": "t", "split": "train", "vocabulary": None, "made_of": {}}


def _write(folder, num_ids=100, keep_records=True, rows=ROWS):
  store.write(folder, iter(rows), FEATURES, INFO, num_ids, keep_records)


@pytest.mark.parametrize("num_ids, dtype", [(100, "uint16"), (70_000, "int32")])
def test_rows_read_back_as_they_were_written(tmp_path, num_ids, dtype):
  _write(tmp_path / "t", num_ids)
  rows, info = store.read(tmp_path / "t")
  assert len(rows) == 3 and info["dtype"] == dtype
  for i, row in enumerate(ROWS):
    for feature in FEATURES:
      assert rows.row(i, feature).tolist() == row[feature]
    assert rows.record(i) == row["record"]
  assert rows.lengths("inputs").tolist() == [3, 0, 3]
  assert rows.lengths("targets").tolist() == [2, 4, 1]


def test_rows_with_equal_inputs_have_equal_hashes(tmp_path):
  _write(tmp_path / "t")
  rows, _ = store.read(tmp_path / "t")
  assert rows.hashes[0] == rows.hashes[2] != rows.hashes[1]
  in_memory = store.in_memory(ROWS, FEATURES)
  np.testing.assert_array_equal(in_memory.hashes, rows.hashes)


def test_records_are_kept_only_when_asked_for(tmp_path):
  _write(tmp_path / "t", keep_records=False)
  rows, _ = store.read(tmp_path / "t")
  assert rows.record(0) == {}
  assert not (tmp_path / "t" / "records.bin").exists()


def test_more_rows_than_a_block_are_written_whole(tmp_path):
  many = [{"inputs": [i % 90], "targets": [1]} for i in range(9000)]
  _write(tmp_path / "t", rows=many, keep_records=False)
  rows, _ = store.read(tmp_path / "t")
  assert len(rows) == 9000
  assert [int(rows.row(i, "inputs")[0]) for i in (0, 4095, 4096, 8999)] == [
    0,
    45,
    46,
    89,
  ]


def test_what_fails_halfway_leaves_nothing_behind(tmp_path):
  def broken():
    yield ROWS[0]
    raise RuntimeError("no more")

  with pytest.raises(RuntimeError):
    store.write(tmp_path / "t", broken(), FEATURES, INFO, 100, True)
  assert list(tmp_path.iterdir()) == []


def test_an_id_outside_the_vocabulary_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"t \(train\), row 1: targets has ids"):
    _write(tmp_path / "t", num_ids=9)


def test_a_file_cut_short_is_noticed(tmp_path):
  _write(tmp_path / "t")
  path = tmp_path / "t" / "tokens.bin"
  path.write_bytes(path.read_bytes()[:-2])
  with pytest.raises(ValueError, match=r"tokens\.bin has \d+ bytes"):
    store.read(tmp_path / "t")


def test_another_format_and_no_store_are_refused(tmp_path):
  with pytest.raises(ValueError, match="holds no stored tokens"):
    store.read(tmp_path)
  _write(tmp_path / "t")
  info = json.loads((tmp_path / "t" / store.INFO).read_text())
  (tmp_path / "t" / store.INFO).write_text(json.dumps(info | {"format": 99}))
  with pytest.raises(ValueError, match="has format 99"):
    store.read(tmp_path / "t")


def test_a_store_that_lost_its_info_is_made_again(tmp_path):
  _write(tmp_path / "t")
  (tmp_path / "t" / store.INFO).unlink()
  _write(tmp_path / "t")
  assert len(store.read(tmp_path / "t")[0]) == 3


def test_two_writers_at_once_do_not_touch_each_others_rows(tmp_path):
  """The second begins and ends while the first is at work, as on two hosts."""

  def interrupted():
    yield ROWS[0]
    _write(tmp_path / "t", rows=ROWS)
    yield from ROWS[1:]

  _write(tmp_path / "t", rows=interrupted())
  assert len(store.read(tmp_path / "t")[0]) == 3
  assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_the_longest_row_of_a_feature(tmp_path):
  assert store.in_memory(ROWS, FEATURES).longest("inputs") == 3
  assert store.in_memory(ROWS, FEATURES).longest("targets") == 4
  assert store.in_memory([], FEATURES).longest("targets") == 0


def test_a_vocabulary_travels_with_its_store_or_is_missed(tmp_path):
  from hyperjax.data import vocabularies, vocabulary
  from hyperjax.tasks import records

  original = tmp_path / "own.model"
  original.write_bytes(records.VOCABULARY.read_bytes())
  own = vocabulary.SentencePiece(str(original), extra_ids=3)
  vocabularies.keep_copy(own, tmp_path / "kept")
  described = own.description
  original.unlink()
  found = vocabularies.open_described(described, tmp_path / "kept")
  assert found is not None
  assert found.decode(found.encode("alice red")) == "alice red"
  (copy,) = (tmp_path / "kept").iterdir()
  copy.write_bytes(copy.read_bytes()[:-9])
  with pytest.raises(ValueError, match="not the vocabulary these tokens"):
    vocabularies.open_described(described, tmp_path / "kept")
  copy.unlink()
  with pytest.raises(ValueError, match=r"is neither at .*kept.* nor at .*own"):
    vocabularies.open_described(described, tmp_path / "kept")


def test_two_processes_may_make_the_same_store(tmp_path):
  _write(tmp_path / "t")
  _write(tmp_path / "t")
  assert len(store.read(tmp_path / "t")[0]) == 3
  assert [path.name for path in tmp_path.iterdir()] == ["t"]


def test_a_mixture_opens_by_name_without_seqio(tmp_path):
  _write(tmp_path / "t" / "train-1")
  mixtures.write_mixture(
    tmp_path, "mix", "train", True, [("t", 2.5, tmp_path / "t" / "train-1")]
  )
  stored = mixtures.StoredTasks("mix", str(tmp_path), keep_records=True)
  (task,) = stored.open()
  assert (task.name, task.rate, len(task.rows)) == ("t", 2.5, 3)
  with pytest.raises(
    ValueError, match=r"'mix', split 'test'.*holds mix \(train\)"
  ):
    mixtures.StoredTasks("mix", str(tmp_path), "test").open()


OPEN = """
import pathlib, sys
from hyperjax.batch import Lengths
from hyperjax.data import text
from hyperjax.data.store import store

rows, _ = store.read(pathlib.Path(sys.argv[1]))
cut = text.CaclmLengths()
task = store.Task("c4", "train", rows)
source = text.Caclm([task], cut, Lengths(32, 128, demonstrations=354))
for i in range(500):
  assert len(source.window(i)[1]) == 512
# Not the files' own pages, which the system may drop at any time.
(memory,) = [
  int(line.split()[1]) / 1024
  for line in pathlib.Path("/proc/self/status").read_text().splitlines()
  if line.startswith("RssAnon")
]
print(len(rows), len(rows.tokens), memory)
"""


def _sparse(folder, num_rows, tokens_per_row, is_regular=True):
  """A store of one feature, of tokens that are all 0 and take no room.

  Where rows are not regular, the last one has all tokens: the offsets take no
  room either.
  """
  folder.mkdir(parents=True)
  num_tokens = num_rows * tokens_per_row
  offsets = (
    np.arange(num_rows + 1, dtype=np.int64) * tokens_per_row
    if is_regular
    else np.array([num_tokens])
  )
  sizes = {
    "tokens": 2 * num_tokens,
    "offsets": 8 * (num_rows + 1),
    "hashes": 8 * num_rows,
  }
  for name, size in sizes.items():
    with open(folder / f"{name}.bin", "wb") as file:
      file.truncate(size)
      if name == "offsets":
        file.seek(size - offsets.nbytes)
        file.write(offsets.tobytes())
  info = {
    **{"format": 1, "features": ["targets"], "dtype": "uint16"},
    **{"rows": num_rows, "tokens": num_tokens, "records": False},
    "longest": {"targets": tokens_per_row if is_regular else num_tokens},
    "last_id": {"targets": 0},
  }
  (folder / store.INFO).write_text(json.dumps(info))


@pytest.mark.parametrize("num_parts", [1, 1024])
def test_a_store_of_c4s_size_opens_in_little_memory(tmp_path, num_parts):
  if sys.platform != "linux":
    pytest.skip("memory is read from /proc, sparse files are needed")
  if num_parts == 1:
    _sparse(tmp_path / "all", 200_000_000, 400, is_regular=False)
    expected = 200_000_000, 80_000_000_000
  else:  # one file stands for all
    _sparse(tmp_path / "part", 356_000, 512)
    store.write_joined(tmp_path / "all", [tmp_path / "part"] * 1024, INFO)
    expected = 364_544_000, 186_646_528_000
  command = [sys.executable, "-c", OPEN, str(tmp_path / "all")]
  done = subprocess.run(
    command, cwd=conftest.ROOT, check=True, stdout=subprocess.PIPE, text=True
  )
  num_rows, num_tokens, memory = map(float, done.stdout.split())
  assert (num_rows, num_tokens) == expected
  assert memory < 500, memory


def test_files_may_be_many_more_than_the_usual_limit(tmp_path):
  _write(tmp_path / "part", keep_records=False)
  store.write_joined(tmp_path / "all", [tmp_path / "part"] * 400, INFO)
  program = """
import pathlib, resource, sys
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
from hyperjax.data.store import store
rows, _ = store.read(pathlib.Path(sys.argv[1]))
for i in range(0, len(rows), 3):
  assert rows.row(i, "inputs").tolist() == [3, 4, 1]
"""
  command = [sys.executable, "-c", program, str(tmp_path / "all")]
  subprocess.run(command, cwd=conftest.ROOT, check=True)


def test_what_a_store_says_of_all_rows_is_what_their_tokens_say(tmp_path):
  rows = [
    {"inputs": [3, 4, 1], "targets": [5, 1]},
    {"inputs": [], "targets": [7, 8, 9, 1]},
    {"inputs": [3], "targets": [1]},
  ]
  _write(tmp_path / "t", rows=rows, keep_records=False)
  read, info = store.read(tmp_path / "t")
  assert info["longest"] == {"inputs": 3, "targets": 4}
  assert info["last_id"] == {"inputs": None, "targets": 1}
  assert read.closed_lengths("inputs", 1, 0, 3).tolist() == [3, 1, 2]
  assert read.closed_lengths("targets", 1, 1, 3).tolist() == [4, 1]
  assert read.closed_lengths("targets", 9, 0, 3).tolist() == [3, 5, 2]
