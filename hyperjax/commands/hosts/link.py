"""Each process's connection to process 0, which knows of all others."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from hyperjax.commands.hosts import wire

_RETRY = 0.2  # seconds between attempts to reach process 0
_GRACE = 30.0  # that process 0 has to say what it knows


class Link:
  """This process's connection to process 0.

  Args:
    place: of this process.
    timeout: seconds in which process 0 must answer.

  Raises:
    Failed: it does not, or says that the processes do not come together.
  """

  def __init__(self, place: wire.Place, timeout: float):
    self._place = place
    self._line = _connected(place, timeout)
    self._messages = self._read()
    self._has_failed = False
    self.is_refused = False  # the other's failure takes another setting
    self._over = threading.Event()
    self._tell(index=place.index, count=place.count, host=socket.gethostname())
    # Process 0 has its own time, which began when it was started.
    self._line.settimeout(timeout + _GRACE)
    answer = {}
    with contextlib.suppress(OSError):
      answer = next(self._messages, {})
    self._line.settimeout(None)
    if "go" not in answer:
      self._line.close()
      unknown = (
        f"what answered at {place.address} is no process 0 that waits for "
        f"process {place.index}: it has ended, or its run has begun already"
      )
      raise wire.Failed(answer.get("stop", unknown))

  def watch(self, on_stop: Callable[[str], None]) -> None:
    """Calls `on_stop` with the reason, in a thread, when another has failed."""
    threading.Thread(target=self._watch, args=(on_stop,), daemon=True).start()

  def fail(self, why: str, refused: bool = False) -> None:
    """Tells the others that this process fails, why, and if it was refused."""
    self._has_failed = True
    with contextlib.suppress(OSError):  # process 0 is gone as well
      self._tell(failed=why, refused=refused)

  def finish(self) -> None:
    """Says that this process has done its part, and waits for all others'."""
    with contextlib.suppress(OSError):
      self._tell(done=True)
    self._over.wait()

  def close(self) -> None:
    """Leaves without a word, as a process that is killed."""
    with contextlib.suppress(OSError):  # process 0 is gone
      self._line.shutdown(socket.SHUT_RDWR)
    self._line.close()

  def _watch(self, on_stop: Callable[[str], None]) -> None:
    why = (
      f"process 0 ({self._place.host}) ended without a word: it was killed, "
      "perhaps for lack of memory, or its machine is gone"
    )
    with contextlib.suppress(OSError):
      for message in self._messages:
        if "over" in message:
          self._over.set()
          return
        why = message.get("stop", why)
        if "stop" in message:
          self.is_refused = bool(message.get("refused"))
          break
    if not self._has_failed:
      on_stop(why)

  def _tell(self, **message: Any) -> None:
    self._line.sendall(wire.packed(message))

  def _read(self) -> Iterator[dict[str, Any]]:
    """What process 0 says, until it closes the connection."""
    received = b""
    while chunk := self._line.recv(wire.MOST_BYTES):
      *lines, received = (received + chunk).split(b"\n")
      yield from map(wire.unpacked, lines)


def _connected(place: wire.Place, timeout: float) -> socket.socket:
  deadline = time.monotonic() + timeout
  while True:
    left = deadline - time.monotonic()
    try:
      line = socket.create_connection(
        (place.host, place.port), max(1.0, min(5.0, left))
      )
    except OSError as error:
      if left > _RETRY:
        time.sleep(_RETRY)
        continue
      raise wire.Failed(
        f"process 0 has not answered at {place.address} within {timeout:g} s "
        f"(--start_timeout): {error.strerror or error}. Is it started, and does "
        "this address lead to it from here?"
      ) from error
    wire.keep_alive(line)
    return line
