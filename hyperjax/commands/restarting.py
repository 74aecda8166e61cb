"""`hyperjax train --restarts N`: a run that crashes is started again.

Each time in a fresh process, which goes on from the last checkpoint. Not where it
was refused, since that takes another setting; nor where it was asked to stop; nor
where it failed the same way in the same step as before.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from hyperjax.artifacts import step_file

_USAGE = 2  # argparse's status
_STOPPED = (130, 143)
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0  # seconds; each is twice the last


@dataclasses.dataclass(frozen=True)
class Failure:
  """How a process ended; it was the same way where all is equal."""

  status: int  # negative: the signal
  step: int  # that was being taken
  error: str  # without the numbers in it

  def __str__(self) -> str:
    how = f"status {self.status}"
    if self.status < 0:
      how = f"signal {-self.status}"
      if -self.status in set(signal.Signals):
        how = signal.Signals(-self.status).name
    if self.step == step_file.NONE:
      return f"{how} before its first step"
    return f"{how} in step {self.step}"


def is_asked(known: argparse.Namespace) -> bool:
  """Whether this process is to start the run in others."""
  asked = bool(getattr(known, "restarts", 0))
  return asked and step_file.PATH not in os.environ


def is_refused(error: BaseException) -> bool:
  """Whether an error takes another setting, so that no new start helps."""
  is_known = isinstance(error, ValueError | FloatingPointError)
  return is_known or type(error).__name__ in ("UsageError", "Stopped")


def report(error: BaseException) -> None:
  """Leaves what ended this process where the one that started it looks."""
  note(f"{type(error).__name__}: {error}", is_refused(error))


def note(why: str, refused: bool) -> None:
  """The same of what may have ended another process, and this one with it."""
  path = os.environ.get(step_file.PATH)
  if path is None:
    return
  text = re.sub(r"\d+", "#", why)[:2000]
  content = {"error": text, "is_refused": refused}
  # Without room for it the failure itself must still be told.
  with contextlib.suppress(OSError):
    pathlib.Path(f"{path}.error").write_text(json.dumps(content))


def supervise(
  given: Sequence[str],
  restarts: int,
  program: Sequence[str] = (sys.executable, "-m", "hyperjax.main"),
  wait: Callable[[float], object] | None = None,
) -> int:
  """Runs a command line in a process, and again where it crashes.

  Args:
    given: the command line, without the program.
    restarts: how often it is started again at most.
    program: what takes it.
    wait: passes seconds between two starts; by default until a signal comes.

  Returns:
    The exit status of the last process; of one that a signal has ended, 128 and
    the signal; 130 or 143 where a signal came between two starts.
  """
  with _Forwarding() as forwarding:
    last, is_final = _attempt([*program, *given], forwarding)
    for attempt in range(restarts):
      if is_final:
        break
      _say(f"{_ended(last)}; starting it again ({attempt + 1} of {restarts})")
      pause = wait or forwarding.pause
      pause(min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt))
      if forwarding.asked is not None:
        _say("hyperjax train: asked to stop; it is not started again")
        return 128 + forwarding.asked
      before = last
      last, is_final = _attempt([*program, *given], forwarding)
      if last == before and not is_final:
        _say(f"{_ended(last)}, as it did before: it is not started again")
        is_final = True
    if not is_final:
      _say(f"{_ended(last)}; it is not started again (--restarts={restarts})")
  return last.status if last.status >= 0 else 128 - last.status


def _ended(failure: Failure) -> str:
  return f"hyperjax train: the run ended with {failure}"


def _attempt(
  command: Sequence[str], forwarding: "_Forwarding"
) -> tuple[Failure, bool]:
  """How a process ended, and whether that is no crash."""
  with tempfile.TemporaryDirectory(prefix="hyperjax-") as folder:
    noted = pathlib.Path(folder) / "step"
    noted.write_bytes(step_file.FORMAT.pack(step_file.NONE))
    environment = {**os.environ, step_file.PATH: str(noted)}
    status = forwarding.run(command, environment)
    (step,) = step_file.FORMAT.unpack(noted.read_bytes())
    left: dict[str, Any] = {"error": "", "is_refused": False}
    error = pathlib.Path(f"{noted}.error")
    if error.is_file():
      left = json.loads(error.read_text())
  is_final = left["is_refused"] or forwarding.asked is not None
  is_final |= status in (0, _USAGE, *_STOPPED)
  return Failure(status, step, left["error"]), is_final


class _Forwarding:
  """Within it SIGTERM goes on to the process that runs.

  SIGINT does not, since a terminal sends it to both.
  """

  def __init__(self):
    self.asked: int | None = None  # the signal
    self._process: subprocess.Popen[bytes] | None = None
    self._before: dict[int, Any] = {}
    self._read, self._write = os.pipe()  # a byte for each signal

  def run(self, command: Sequence[str], environment: dict[str, str]) -> int:
    """The exit status of a process."""
    self._process = subprocess.Popen(command, env=environment)
    if self.asked is not None:  # just while it was being started
      self._process.send_signal(signal.SIGTERM)
    status = self._process.wait()
    self._process = None
    return status

  def pause(self, seconds: float) -> None:
    """Passes the time; a signal ends it, which time.sleep would outlast."""
    select.select([self._read], [], [], seconds)

  def __enter__(self) -> "_Forwarding":
    for number in (signal.SIGTERM, signal.SIGINT):
      self._before[number] = signal.signal(number, self._forward)
    return self

  def _forward(self, number: int, frame: Any) -> None:
    del frame
    self.asked = number
    os.write(self._write, b"!")
    if self._process is not None and number == signal.SIGTERM:
      self._process.send_signal(number)

  def __exit__(self, *_: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
    os.close(self._read)
    os.close(self._write)


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
