"""Which process has a folder: what `lease.json` says, and whether it still runs."""

import dataclasses
import datetime
import json
import os
import pathlib
import socket
import time
import uuid


@dataclasses.dataclass(frozen=True)
class Holder:
  """Which process has a folder; strings, but for its number."""

  host: str
  pid: int
  started: str  # when it took the folder: ISO 8601, UTC
  machine: str  # this boot and process space, where the number means something
  birth: str  # when the process began, as its machine counts
  token: str
  # Of life: another at each writing, so that stores see it change.
  sign: str = ""

  @classmethod
  def own(cls) -> "Holder":
    now = datetime.datetime.now(datetime.UTC)
    return cls(
      host=socket.gethostname(),
      pid=os.getpid(),
      started=now.isoformat(" ", "seconds"),
      machine=_machine(),
      birth=_birth(os.getpid()) or "",
      token=uuid.uuid4().hex,
    )

  def is_dead(self) -> bool:
    """Whether it is a process of this machine that is no more."""
    return self.machine == _machine() and _birth(self.pid) != self.birth

  def content(self) -> bytes:
    """As it is written: never the same, since S3 knows versions by their bytes."""
    signed = dataclasses.asdict(self) | {"sign": uuid.uuid4().hex}
    return (json.dumps(signed, indent=1) + "\n").encode()

  def __str__(self) -> str:
    return f"process {self.pid} on {self.host}, since {self.started}"


def read(path: pathlib.Path) -> Holder | None:
  """Who a lease says has the folder; None where it says nothing of the kind.

  Raises:
    OSError: it is not there, or cannot be read.
  """
  content = path.read_bytes()
  try:
    holder = Holder(**json.loads(content))
  except (ValueError, TypeError, RecursionError):
    return None
  return holder if type(holder.pid) is int else None


def clocks() -> tuple[float, float]:
  """By two clocks: of the day, which may be set, and since the machine began.

  The second goes on while a machine sleeps, but not while its host has stopped it.
  """
  if not hasattr(time, "CLOCK_BOOTTIME"):  # no Linux
    return time.time(), time.monotonic()
  return time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)


def elapsed(then: tuple[float, float]) -> float:
  """Seconds since `clocks`, by the clock that says more."""
  return max(now - before for now, before in zip(clocks(), then, strict=True))


def _machine() -> str:
  """This boot and this process space; the host's name where neither is known."""
  try:
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"
  except OSError:
    return socket.gethostname()


def _birth(pid: int) -> str | None:
  """When a process of this machine began; None where there is none."""
  try:
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
  except FileNotFoundError:
    if not pathlib.Path("/proc/self/stat").exists():  # no Linux
      return _is_there(pid)
    return None
  except OSError:
    return None
  # After the name, which is in brackets and may hold anything: the state first.
  fields = stat.rpartition(")")[2].split()
  return None if fields[0] in "ZX" else fields[19]


def _is_there(pid: int) -> str | None:
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return None
  except PermissionError:
    pass  # another user's
  return ""
