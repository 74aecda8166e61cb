"""What C++ writes, and its abort, in a process of its own."""

import signal
import subprocess
import sys

import pytest

from hyperjax.commands.hosts import native_log
from tests import conftest

BEGIN = """
import os, sys, time
from hyperjax.commands.hosts import native_log
log = native_log.NativeLog()
"""
OF_THE_SERVICE = "E1127 04:47:06.527889   27087 coordination_service_agent.cc:289] Polled an error"
FATAL = "F1127 04:47:06.527894   27087 client.h:80] Terminating process"


def _run(program):
  process = subprocess.Popen(
    [sys.executable, "-c", BEGIN + program],
    env={"PYTHONPATH": str(conftest.ROOT)},
    stderr=subprocess.PIPE,
    text=True,
  )
  return process.communicate(timeout=60)[1], process.returncode


def _write(text):
  return f"os.write(2, {text.encode()!r} + b'\\n'); time.sleep(0.3)\n"


def test_what_the_service_and_those_after_it_write_can_be_dropped():
  text, status = _run(
    _write("before")
    + _write(OF_THE_SERVICE)
    + _write("    @ 0x7fb863040634")
    + "log.drop()\n"
    + _write("later")
    + "print('process 1 failed', file=sys.stderr, flush=True)\nos._exit(1)\n"
  )
  assert text == "before\nprocess 1 failed\n"
  assert status == 1


def test_nothing_that_is_written_after_it_is_dropped_is_shown():
  text, _ = _run("log.drop()\n" + _write("*** Check failure stack trace: ***"))
  assert text == ""


def test_what_is_held_is_shown_where_nothing_better_is_known():
  text, status = _run(
    _write(FATAL) + _write("*** Check failure stack trace: ***") + "log.show()"
  )
  assert text == f"{FATAL}\n*** Check failure stack trace: ***\n"
  assert status == 0


@pytest.mark.slow
def test_an_abort_waits_until_a_better_sentence_could_be_said():
  """In the thread that aborts; the others go on."""
  text, status = _run(
    f"""
import ctypes, threading
native_log.hold_aborts()
threading.Thread(target=ctypes.CDLL(None).abort, daemon=True).start()
{_write(FATAL)}
time.sleep(2)
print("another thread", file=sys.stderr, flush=True)
time.sleep({native_log.HOLD + 10})
"""
  )
  assert text == f"another thread\n{FATAL}\n"
  assert status == -signal.SIGABRT
