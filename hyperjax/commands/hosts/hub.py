"""Process 0's part: who has come, and who has failed.

Process 0 listens at the coordinator's address before JAX does. Every process, the
first one too, connects there and says which one it is; so whoever is missing, comes
twice or counts otherwise is known by name before JAX is asked anything. Once all are
there the port is left to JAX's own service, and the connections stay: by them a
process says why it fails, and where one closes without a word its process was killed.
"""

import contextlib
import dataclasses
import os
import selectors
import socket
import threading
import time
from typing import Any

from hyperjax.commands.hosts import wire

_FAREWELL = 3.0  # seconds that the others have to go, before process 0 goes
_MOST_NAMED = 8  # processes in a message


@dataclasses.dataclass(eq=False)
class _Guest:
  """A connection to process 0; `index` is -1 until it has said which it is."""

  line: socket.socket
  received: bytes = b""
  index: int = -1
  host: str = ""
  is_done: bool = False
  is_gone: bool = False

  def __str__(self) -> str:
    return f"process {self.index} ({self.host})"

  def tell(self, **message: Any) -> None:
    with contextlib.suppress(OSError):
      self.line.sendall(wire.packed(message))


class Hub:
  """What process 0 knows of all: a thread that hears each and tells the others.

  Args:
    place: of process 0.
    timeout: seconds in which all must come.

  Raises:
    Failed: its port is taken.
  """

  def __init__(self, place: wire.Place, timeout: float):
    self._place, self._timeout = place, timeout
    self._deadline = time.monotonic() + timeout
    try:
      self._listener = _listener(place.port)
    except OSError as error:
      raise wire.Failed(
        f"process 0 cannot listen on port {place.port} of "
        f"--coordinator_address: {os.strerror(error.errno or 0)}. Another "
        "run has it, or process index 0 was given twice"
      ) from error
    self._selector = selectors.DefaultSelector()
    self._selector.register(self._listener, selectors.EVENT_READ)
    self._guests: dict[int, _Guest] = {}
    self._has_begun = self._has_ended = False
    self.why = ""  # the processes did not come together, or one has failed
    self._thread = threading.Thread(target=self._run, daemon=True)
    self._thread.start()

  def wait(self) -> None:
    """Until all others have gone; some seconds at the most."""
    self._thread.join(_FAREWELL + 1)

  def _run(self) -> None:
    while not self._has_ended:
      for key, _ in self._selector.select(0.5):
        if key.fileobj is self._listener:
          self._accept()
        elif not self._has_ended:
          self._hear(key.data)
      is_late = time.monotonic() > self._deadline
      if is_late and not (self._has_begun or self._has_ended):
        self._stop(self._missing())
    for key in list(self._selector.get_map().values()):
      assert isinstance(key.fileobj, socket.socket)
      key.fileobj.close()
    self._selector.close()

  def _accept(self) -> None:
    with contextlib.suppress(OSError):  # it is gone again
      line, _ = self._listener.accept()
      wire.keep_alive(line)
      self._selector.register(line, selectors.EVENT_READ, _Guest(line))

  def _hear(self, guest: _Guest) -> None:
    try:
      received = guest.line.recv(wire.MOST_BYTES)
    except OSError:
      received = b""
    *lines, guest.received = (guest.received + received).split(b"\n")
    if not received or len(guest.received) > wire.MOST_BYTES:
      self._lost(guest)
      return
    for line in lines:
      message = wire.unpacked(line)
      if guest.is_gone:
        return
      if guest.index < 0:
        self._greet(guest, message)
      elif "failed" in message:
        why = f"{guest} failed: {message['failed']}"
        self._stop(why, guest, bool(message.get("refused")))
      elif "done" in message:
        guest.is_done = True
        if all(each.is_done for each in self._guests.values()):
          self._tell_all(over=True)

  def _greet(self, guest: _Guest, message: dict[str, Any]) -> None:
    """Takes note of who has come."""
    index, count = message.get("index"), message.get("count")
    if type(index) is not int or index < 0 or self._has_begun:
      self._forget(guest)  # not one of ours
      return
    guest.host, own = str(message.get("host"))[:100], self._place.count
    before = self._guests.get(index)
    guest.index = index
    # The one that is refused hears it as all others do.
    self._guests[index if before is None else -1] = guest
    if count != own:
      self._stop(
        f"{guest} was started with a process count of {count}, "
        f"process 0 ({socket.gethostname()}) with {own}"
      )
    elif before is not None:
      self._stop(
        f"process index {index} was given twice, on {before.host} and on "
        f"{guest.host}"
      )
    elif len(self._guests) == own:
      self._has_begun = True
      self._selector.unregister(self._listener)
      self._listener.close()  # before JAX listens there
      self._tell_all(go=True)

  def _lost(self, guest: _Guest) -> None:
    """One has closed its connection."""
    self._forget(guest)
    if self._guests.get(guest.index) is not guest:
      return
    if not self._has_begun:
      del self._guests[guest.index]  # it may come again
    elif not guest.is_done:
      self._stop(
        f"{guest} ended without a word: it was killed, perhaps for lack of "
        "memory, or its machine is gone",
        guest,
      )

  def _forget(self, guest: _Guest) -> None:
    guest.is_gone = True
    self._selector.unregister(guest.line)
    guest.line.close()

  def _stop(
    self, why: str, culprit: _Guest | None = None, refused: bool = False
  ) -> None:
    """Tells all; then waits for them to go, since JAX's service is with us."""
    self._has_ended, self.why = True, why
    open_ = {key.data for key in self._selector.get_map().values()}
    left = open_ - {None, culprit}  # whoever has not said yet who it is, too
    for guest in left:
      guest.tell(stop=why, **({"refused": True} if refused else {}))
    deadline = time.monotonic() + _FAREWELL
    others = {guest for guest in left if guest.index > 0}
    while others and time.monotonic() < deadline:
      for key, _ in self._selector.select(0.1):
        if key.data in others:
          with contextlib.suppress(OSError):
            if key.data.line.recv(wire.MOST_BYTES):
              continue
          others.discard(key.data)
          self._forget(key.data)

  def _tell_all(self, **message: Any) -> None:
    for guest in self._guests.values():
      guest.tell(**message)

  def _missing(self) -> str:
    count = self._place.count
    missing = [i for i in range(count) if i not in self._guests]
    came = [f"{i} ({self._guests[i].host})" for i in sorted(self._guests)]
    return (
      f"{_numbered(list(map(str, missing)))} of {count} "
      f"{'has' if len(missing) == 1 else 'have'} not come within "
      f"{self._timeout:g} s (--start_timeout); here: "
      f"{_numbered(came) if came else 'none'}"
    )


def _listener(port: int) -> socket.socket:
  if socket.has_dualstack_ipv6():
    with contextlib.suppress(OSError):
      return socket.create_server(
        ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
      )
  return socket.create_server(("", port), backlog=1024)


def _numbered(names: list[str]) -> str:
  shown = ", ".join(names[:_MOST_NAMED])
  if len(names) > _MOST_NAMED:
    shown += f" and {len(names) - _MOST_NAMED} more"
  return f"process{'es' if len(names) > 1 else ''} {shown}"
