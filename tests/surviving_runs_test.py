"""Runs in processes of their own: two in one folder, killed, started again."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hyperjax import metrics
from hyperjax.artifacts import lease
from hyperjax.checkpoints import storing
from tests import runs_test

pytestmark = pytest.mark.slow
STEPS = 80  # saved every 25, logged every 10


def _command(world, folder, *options):
  folder.parent.mkdir(exist_ok=True)
  return runs_test._command(
    world, folder, f"--gin.TRAIN_STEPS={STEPS}", *options
  )


@pytest.fixture(scope="module")
def whole(world, tmp_path_factory):
  """A run that nothing happens to."""
  folder = tmp_path_factory.mktemp("whole") / "of" / "run"
  subprocess.run(**_command(world, folder), check=True)
  return folder


def _metrics(folder):
  return (folder / metrics.METRICS).read_bytes()


def test_a_second_run_in_a_folder_is_refused_and_the_first_is_not_touched(
  world, whole, tmp_path
):
  """Killed with -9 it is out of the way at once, on the same machine."""
  folder = tmp_path / "a" / "run"
  command = _command(world, folder)
  with runs_test._start(command, folder, 30) as first:
    # Held still, or it might be done before the second has started.
    first.send_signal(signal.SIGSTOP)
    second = subprocess.Popen(
      **command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while second.poll() is None:
      os.utime(folder / lease.FILE)  # its sign of life
      time.sleep(0.2)
    out, error = second.communicate()
    assert second.returncode == 1, out
    holder = json.loads((folder / lease.FILE).read_text())
    assert holder["pid"] == first.pid
    said = (
      f"hyperjax train: {folder} is in use by process {first.pid} on "
      f"{holder['host']}, since {holder['started']}: two runs"
    )
    assert said in error
    assert "Traceback" not in error
    first.send_signal(signal.SIGKILL)
  subprocess.run(**command, check=True)
  assert _metrics(folder) == _metrics(whole)
  assert not (folder / lease.FILE).exists()


_IMPATIENT = (
  "from hyperjax import main; from hyperjax.artifacts import lease;"
  "lease.BEAT, lease.SILENCE = 0.1, 2.0; main.run()"
)


def _files(folder):
  """Every file, by its name, with its content.

  But of checkpoints that were begun and have no name, which nobody reads: threads
  that are in the midst of one go on with it for a moment.
  """
  found = {x.relative_to(folder): x for x in folder.rglob("*") if x.is_file()}
  return {
    str(name): path.read_bytes()
    for name, path in found.items()
    if not any(part.endswith(storing.PARTIAL) for part in name.parts)
  }


@pytest.mark.parametrize("is_done", [False, True])
def test_a_run_that_wakes_after_another_took_its_folder_writes_nothing(
  world, whole, tmp_path, is_done
):
  """It was stopped, as a laptop or a machine that is moved is."""
  folder = tmp_path / "a" / "run"
  command = _command(world, folder)
  patient = command["args"]
  impatient = [sys.executable, "-c", _IMPATIENT, *patient[3:]]
  with runs_test._start(command | {"args": impatient}, folder, 30) as first:
    first.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    second = runs_test._start(command | {"args": impatient}, folder, 60)
    with second:
      if is_done:
        said = second.stdout.read().decode()
        assert second.wait() == 0, said
      else:
        second.send_signal(signal.SIGSTOP)
      before = _files(folder)
      first.send_signal(signal.SIGCONT)
      said = first.communicate()[0].decode()
      after = _files(folder)
      second.send_signal(signal.SIGCONT)
      second.communicate()
  assert after == before
  assert first.returncode == 1, said
  # Threads that were in the midst of a checkpoint may say so, before it or after.
  (last,) = [x for x in said.splitlines() if x.startswith("hyperjax train: ")]
  who = f"{folder} was taken over by process {second.pid} on"
  assert (f"{folder} may have been another run's" if is_done else who) in last
  assert last.endswith("nothing more is written")
  assert _metrics(folder) == _metrics(whole)


def _child(process):
  """The process that a supervising one has started."""
  path = f"/proc/{process.pid}/task/{process.pid}/children"
  deadline = time.monotonic() + 60
  while time.monotonic() < deadline:
    with open(path) as file:
      if found := file.read().split():
        return int(found[0])
    time.sleep(0.01)
  raise AssertionError("it has started none")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_run_that_is_killed_is_started_again_where_it_may_be(
  world, whole, tmp_path
):
  folder = tmp_path / "a" / "run"
  command = _command(world, folder, "--restarts=2")
  with runs_test._start(command, folder, 30) as outer:
    os.kill(_child(outer), signal.SIGKILL)
    said = outer.stdout.read().decode()
  assert outer.returncode == 0, said
  assert "the run ended with SIGKILL in step" in said
  assert "starting it again (1 of 2)" in said
  assert _metrics(folder) == _metrics(whole)


def test_what_is_refused_is_not_started_again(world, tmp_path):
  command = _command(
    world, tmp_path / "a" / "run", "--restarts=2", "--gin.BATCH_SIZE=3"
  )
  outer = subprocess.run(**command, capture_output=True, text=True)
  assert outer.returncode == 1
  assert "BATCH_SIZE" in outer.stderr and "again" not in outer.stderr
