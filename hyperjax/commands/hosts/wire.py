"""What the processes of one run say to each other: lines of JSON over TCP.

It needs the standard library alone, so that a run that cannot begin says so at once.
"""

import dataclasses
import json
import os
import socket
from typing import Any

MOST_BYTES = 1 << 16  # of a message
# A machine that vanishes closes nothing: it is asked, and given up after 60 s.
_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 6}


class Failed(Exception):  # noqa: N818 - its message is shown as it is
  """The processes did not come together, or one has failed."""


@dataclasses.dataclass(frozen=True)
class Place:
  """Which process of a run this one is.

  Attributes:
    host: where process 0 is.
    port: on which it listens, first for its partners, then for JAX.
    count: how many processes there are.
    index: of this one, below `count`.
  """

  host: str
  port: int
  count: int
  index: int

  @property
  def address(self) -> str:
    """As JAX takes it."""
    return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def keep_alive(line: socket.socket) -> None:
  line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
  for name, value in _KEEP_ALIVE.items():
    if hasattr(socket, name):  # macOS lacks some
      line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
  os.set_inheritable(line.fileno(), False)


def packed(message: dict[str, Any]) -> bytes:
  return json.dumps(message).encode() + b"\n"


def unpacked(line: bytes) -> dict[str, Any]:
  """A message; an empty one for what is none, such as JAX's own service's."""
  try:
    message = json.loads(line)
  except (ValueError, RecursionError):
    return {}
  return message if isinstance(message, dict) else {}
