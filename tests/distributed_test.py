"""Several processes as one run, over gloo on this machine."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from hyperjax import metrics
from hyperjax.artifacts import lease
from tests import conftest, damaged_checkpoints_test, runs_example

pytestmark = pytest.mark.slow
OPTIONS = ("--gin.TRAIN_STEPS=40", "--gin.DROPOUT_RATE=0.0")


def _free_port():
  with socket.socket() as taken:
    taken.bind(("localhost", 0))
    return taken.getsockname()[1]


def _start(world, folder, count, devices, *options):
  """`count` processes of one run, with so many devices each."""
  gin_file = folder.parent / "run.gin"
  gin_file.write_text(runs_example.GIN)
  port = _free_port()
  environment = os.environ | {
    "XLA_FLAGS": (
      f"--xla_force_host_platform_device_count={devices} "
      "--xla_backend_optimization_level=0"
    ),
    "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
    "PYTHONPATH": str(conftest.ROOT),
  }
  command = [sys.executable, "-m", "hyperjax.main", "train"]
  command += [f"--gin_file={gin_file}", f"--gin.MODEL_DIR={folder}", *options]
  command += [f"--gin.INITIAL_CHECKPOINT_PATH={world / 'backbone'}"]
  command += [f"--gin.mixtures.StoredTasks.cache_dir={world / 'tokens'}"]
  started = []
  for index in range(count):
    own = [f"--coordinator_address=localhost:{port}"]
    own += [f"--process_count={count}", f"--process_index={index}"]
    started.append(
      subprocess.Popen(
        [*command, *(own if count > 1 else ())],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
      )
    )
  return started


def _finish(processes, status=0):
  said = [process.communicate(timeout=900)[0] for process in processes]
  for process, text in zip(processes, said, strict=True):
    assert process.returncode == status, text
  return said


def _losses(folder):
  lines = metrics.read(folder / metrics.METRICS)
  return [line["step"] for line in lines], [line["loss"] for line in lines]


@pytest.fixture(scope="module")
def two(world, tmp_path_factory):
  """The folder of a run of two processes, and what they said."""
  folder = tmp_path_factory.mktemp("two") / "run"
  return folder, _finish(_start(world, folder, 2, 2, *OPTIONS))


def test_two_processes_train_as_one(world, two, tmp_path):
  folder, said = two
  assert "step 40/40" in said[0] and "loss" not in said[1]
  _finish(_start(world, tmp_path / "run", 1, 4, *OPTIONS))
  (steps, losses), (found_steps, found) = (
    _losses(tmp_path / "run"),
    _losses(folder),
  )
  assert steps == found_steps == [10, 20, 30, 40]
  np.testing.assert_allclose(found, losses, rtol=1e-5)


@pytest.mark.parametrize("axis", ["tensor", "fsdp"])
def test_one_copy_of_the_model_may_span_both_processes(
  world, two, tmp_path, axis
):
  """Both then make the same rows, or hold parts of the same weights."""
  folder = tmp_path / "run"
  _finish(_start(world, folder, 2, 2, *OPTIONS, f"--gin.MESH={{'{axis}': 4}}"))
  assert _losses(folder)[0] == _losses(two[0])[0]
  np.testing.assert_allclose(_losses(folder)[1], _losses(two[0])[1], rtol=1e-5)


def test_a_signal_to_one_process_stops_all_and_they_continue(
  world, two, tmp_path
):
  folder = tmp_path / "run"
  processes = _start(world, folder, 2, 2, *OPTIONS)
  deadline = time.monotonic() + 600
  while not _losses(folder)[0] and time.monotonic() < deadline:
    assert processes[0].poll() is None, processes[0].stdout.read()
    time.sleep(0.01)
  processes[1].send_signal(signal.SIGTERM)
  _finish(processes, status=143)
  assert _losses(folder)[0][-1] < 40
  _finish(_start(world, folder, 2, 2, *OPTIONS))
  assert _losses(folder) == _losses(two[0])


def _newest(folder):
  """The step of the newest checkpoint; -1 where there is none."""
  names = [path.name for path in (folder / "checkpoints").glob("*")]
  return max((int(name) for name in names if name.isdigit()), default=-1)


# More of them are killed at night (`make nightly`).
KILLS = int(os.environ.get("HYPERJAX_TEST_KILLS", 3))


def test_kills_of_one_or_both_change_nothing(world, tmp_path):
  """Whoever is left says which one died, and ends; all are started again."""
  whole, killed = tmp_path / "whole" / "run", tmp_path / "killed" / "run"
  for folder in (whole, killed):
    folder.parent.mkdir()
  _finish(_start(world, whole, 2, 4, *OPTIONS))
  save = "--gin.hyperjax.loop.Periods.save=3"
  for number in range(KILLS):
    last = _newest(killed)
    processes = _start(world, killed, 2, 4, *OPTIONS, save)
    deadline = time.monotonic() + 600
    while _newest(killed) <= last and time.monotonic() < deadline:
      assert processes[0].poll() is None, processes[0].stdout.read()
      time.sleep(0.01)
    victims = ((0,), (1,), (0, 1))[number % 3]
    for index in victims:
      processes[index].kill()
    for index, process in enumerate(processes):
      said = process.communicate(timeout=30)[0]
      if index not in victims:
        assert process.returncode == 1, said
        assert f"process {victims[0]} (" in said.splitlines()[-1]
        assert "ended without a word" in said.splitlines()[-1]
  _finish(_start(world, killed, 2, 4, *OPTIONS))
  lines = (killed / metrics.METRICS).read_bytes()
  assert lines == (whole / metrics.METRICS).read_bytes()


def test_all_processes_go_on_from_the_same_whole_checkpoint(
  world, two, tmp_path
):
  """Each has read a part of the files; the first renames."""
  folder = tmp_path / "run"
  shutil.copytree(two[0], folder)
  assert damaged_checkpoints_test._names(folder / "checkpoints") == ["25", "40"]
  newest = folder / "checkpoints" / "40"
  paths = [x for x in (newest / "params").rglob("d/*") if x.is_file()]
  damaged_checkpoints_test._flip(max(paths, key=lambda x: x.stat().st_size))
  said = _finish(_start(world, folder, 2, 2, *OPTIONS))
  assert "it is now damaged-40, and the run goes on from step 25" in said[0]
  assert "Traceback" not in said[0] + said[1]
  assert (folder / "checkpoints" / "40" / "manifest.json").is_file()
  assert _losses(folder) == _losses(two[0])


def test_a_second_run_of_several_processes_is_refused_by_all(world, two):
  folder = two[0]
  with lease.Lease(folder):
    said = _finish(_start(world, folder, 2, 2, *OPTIONS), status=1)
  for text in said:
    assert f"is in use by process {os.getpid()} on" in text
    assert "Traceback" not in text
