"""What C++ writes to standard error where a partner fails, and its abort.

JAX's client ends the process by abort(), with a stack, when the coordination service
reports that another process has failed. Which one and why is known here too, by
`hosts.link`, within milliseconds; so the abort is held for some seconds, and with it
what was written, to be dropped once a better sentence is there.
"""

import contextlib
import ctypes
import os
import re
import signal
import sys
import threading
import time

HOLD = 6  # seconds
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031
_OF_THE_SERVICE = re.compile(
  rb"^[WEF]\d{4} .*\b(client\.h|coordination_service\w*\.cc|"
  rb"preemption_sync_manager\.cc|distributed_runtime\w*\.cc)[:\]]",
  re.MULTILINE,
)


def hold_aborts() -> None:
  """Makes a thread that calls abort() sleep first; then the process ends by it."""
  with contextlib.suppress(AttributeError, OSError):  # no such libc
    libc = ctypes.CDLL(None)
    # The handler gets the signal's number, SIGABRT's 6: so many seconds. It is C,
    # since Python's own handlers would run in another thread, after the end.
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))


class NativeLog:
  """Standard error's descriptor, read by a thread that passes on what it reads.

  Of a line of the coordination service, and of what follows it within `HOLD`
  seconds, nothing is shown until these are over. Python's `sys.stderr` writes to
  the terminal as before.
  """

  def __init__(self):
    sys.stderr.flush()
    self._terminal = os.dup(2)
    self._read, write = os.pipe()
    with contextlib.suppress(ImportError, OSError):
      import fcntl

      fcntl.fcntl(write, _F_SETPIPE_SZ, _PIPE_BYTES)
    os.dup2(write, 2)
    os.close(write)
    self._before = sys.stderr
    sys.stderr = open(self._terminal, "w", 1, closefd=False)  # noqa: SIM115 - for the process's life
    self._held, self._since, self._is_dropped = b"", 0.0, False
    self._lock = threading.Lock()
    threading.Thread(target=self._pass_on, daemon=True).start()
    threading.Thread(target=self._release, daemon=True).start()

  def show(self) -> None:
    """Gives the descriptor back, and shows what is held."""
    os.dup2(self._terminal, 2)  # the pipe's last end for writing is closed
    sys.stderr.flush()
    with self._lock:
      os.write(self._terminal, self._held)
      self._held = b""

  def drop(self) -> None:
    """Drops what is held and whatever C++ writes from now on."""
    with self._lock:
      self._is_dropped = True

  def _pass_on(self) -> None:
    while text := os.read(self._read, 1 << 16):
      with self._lock:
        if self._is_dropped:
          continue
        if self._held or _OF_THE_SERVICE.search(text):
          self._since = self._since if self._held else time.monotonic()
          self._held += text
        else:
          os.write(self._terminal, text)

  def _release(self) -> None:
    while True:
      time.sleep(0.5)
      with self._lock:
        is_due = time.monotonic() - self._since > HOLD - 1
        if self._held and is_due and not self._is_dropped:
          os.write(self._terminal, self._held)
          self._held = b""
