"""Which runs are started again, by small programs in the place of a run."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from hyperjax.artifacts import step_file
from hyperjax.commands import restarting

# Each attempt takes the next word: a step, and how it then ends.
_PROGRAM = """
import os, pathlib, signal, sys
from hyperjax.artifacts import step_file
from hyperjax.commands import restarting
place = pathlib.Path(sys.argv[1])
attempt = len(place.read_text().split()) if place.exists() else 0
step, how = sys.argv[2:][attempt].split(":")
with place.open("a") as file:
  file.write(step + " ")
step_file.noter()(int(step))
if how == "kill":
  os.kill(os.getpid(), signal.SIGKILL)
elif how == "refused":
  restarting.report(ValueError("LEARNING_RATE must be positive"))
  sys.exit(1)
elif how == "disk":
  restarting.report(OSError("no room for 17 bytes"))
  sys.exit(1)
sys.exit(int(how))
"""


def _supervised(tmp_path, restarts, *attempts):
  """Exit status, the steps of each attempt, and the seconds between them."""
  waits, place = [], tmp_path / "attempts"
  status = restarting.supervise(
    [str(place), *attempts],
    restarts,
    (sys.executable, "-c", _PROGRAM),
    waits.append,
  )
  return status, [int(x) for x in place.read_text().split()], waits


@pytest.mark.parametrize(
  "restarts, attempts, wanted",
  [
    (3, ["7:0"], (0, [7], [])),
    (3, ["7:kill", "9:kill", "12:0"], (0, [7, 9, 12], [1, 2])),
    (3, ["7:kill", "7:kill"], (137, [7, 7], [1])),
    (3, ["7:kill", "7:1", "7:kill", "8:0"], (0, [7, 7, 7, 8], [1, 2, 4])),
    (1, ["7:kill", "9:3"], (3, [7, 9], [1])),
    (3, ["-1:kill", "-1:kill"], (137, [-1, -1], [1])),
    (3, ["0:refused"], (1, [0], [])),
    (3, ["4:disk", "4:disk"], (1, [4, 4], [1])),
    (3, ["4:143"], (143, [4], [])),
    (3, ["4:2"], (2, [4], [])),
  ],
  ids=str,
)
def test_a_crash_is_tried_again_but_the_same_in_the_same_step_is_not(
  tmp_path, restarts, attempts, wanted
):
  assert _supervised(tmp_path, restarts, *attempts) == wanted


def test_each_start_and_the_end_are_said(tmp_path, capfd):
  _supervised(tmp_path, 2, "7:kill", "8:1", "8:1")
  assert capfd.readouterr().err.splitlines() == [
    "hyperjax train: the run ended with SIGKILL in step 7; starting it again "
    "(1 of 2)",
    "hyperjax train: the run ended with status 1 in step 8; starting it again "
    "(2 of 2)",
    "hyperjax train: the run ended with status 1 in step 8, as it did before: it "
    "is not started again",
  ]


def test_whoever_is_asked_to_stop_asks_the_run(tmp_path):
  """Which is then not started again, whatever its status."""
  inner = (
    "import signal, sys, time, pathlib\n"
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
    "pathlib.Path(sys.argv[1]).touch()\n"
    "time.sleep(60)\n"
  )
  outer = (
    "import sys\n"
    "from hyperjax.commands import restarting\n"
    "sys.exit(restarting.supervise([sys.argv[1]], 3, "
    f"(sys.executable, '-c', {inner!r})))\n"
  )
  ready = tmp_path / "ready"
  process = subprocess.Popen([sys.executable, "-c", outer, str(ready)])
  deadline = time.monotonic() + 60
  while not ready.exists():
    assert time.monotonic() < deadline
    time.sleep(0.01)
  process.send_signal(signal.SIGTERM)
  assert process.wait(60) == 5


def test_whoever_is_asked_to_stop_between_two_starts_starts_no_more(tmp_path):
  """At once, although the next start was half a minute off."""
  outer = (
    "import sys\n"
    "from hyperjax.commands import restarting\n"
    "restarting._FIRST_WAIT = 30\n"
    "sys.exit(restarting.supervise(sys.argv[1:], 3, "
    f"(sys.executable, '-c', {_PROGRAM!r})))\n"
  )
  place = tmp_path / "attempts"
  process = subprocess.Popen(
    [sys.executable, "-c", outer, str(place), "7:1", "8:1"],
    stderr=subprocess.PIPE,
    text=True,
  )
  assert "starting it again (1 of 3)" in process.stderr.readline()
  process.send_signal(signal.SIGTERM)
  out = process.communicate(timeout=20)
  assert process.returncode == 143, out
  assert place.read_text() == "7 "


def test_a_failure_is_told_even_where_there_is_no_room_to_note_it(
  tmp_path, monkeypatch
):
  monkeypatch.setenv(step_file.PATH, str(tmp_path / "gone" / "step"))
  restarting.report(OSError("no room for 17 bytes"))
  assert os.listdir(tmp_path) == []


def test_a_run_that_nobody_restarts_notes_and_reports_nothing(
  tmp_path, monkeypatch
):
  monkeypatch.delenv(step_file.PATH, raising=False)
  monkeypatch.chdir(tmp_path)
  step_file.noter()(3)
  restarting.report(ValueError("x"))
  assert os.listdir(tmp_path) == []
  noted = pathlib.Path(tmp_path / "step")
  noted.write_bytes(step_file.FORMAT.pack(step_file.NONE))
  monkeypatch.setenv(step_file.PATH, str(noted))
  step_file.noter()(3)
  assert noted.read_bytes() == b"\3" + bytes(7)
