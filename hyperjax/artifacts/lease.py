"""A run folder is written by one run at a time; `lease.json` says by which.

Who holds it touches it every ten seconds. One that was not touched for most of a
minute, or whose process is dead on this machine, is taken over. Times are those of
the folder's own file system, or of the bucket's store, so that clocks of machines
need not agree.
"""

import contextlib
import dataclasses
import datetime
import json
import logging
import os
import pathlib
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from hyperjax import checkpoints, paths
from hyperjax.checks import disk

FILE = "lease.json"
BEAT = 10.0  # seconds between signs of life
SILENCE = 45.0  # seconds without one, after which a lease is void
_MOST = 2048  # bytes of a refusal that other processes are told
# Seconds in which others that take over too show themselves.
_SETTLING, _SETTLING_FAR = 0.2, 1.0

_log = logging.getLogger(__name__)
_own: list["Lease"] = []  # what this process holds


class Held(checkpoints.Refused):
  """Another run has the folder."""


@dataclasses.dataclass(frozen=True)
class Holder:
  """Which process has a folder; strings, but for its number."""

  host: str
  pid: int
  started: str  # when it took the folder: ISO 8601, UTC
  machine: str  # this boot and process space, where the number means something
  birth: str  # when the process began, as its machine counts
  token: str

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

  def __str__(self) -> str:
    return f"process {self.pid} on {self.host}, since {self.started}"


class Lease:
  """What this process holds of a folder; use it in `with`."""

  def __init__(
    self, folder: pathlib.Path, beat: float = BEAT, silence: float = SILENCE
  ):
    self._folder, self._beat, self._silence = folder, beat, silence
    self._path, self._is_in_bucket = folder / FILE, paths.is_bucket(folder)
    self._own = Holder.own()
    self._beaten = time.time()  # when the last sign of life was given
    self._made: list[pathlib.Path] = []  # folders, the lowest first
    self._ended = threading.Event()
    self._thread = threading.Thread(
      target=self._keep, daemon=True, name="lease"
    )

  def __enter__(self) -> "Lease":
    """Takes the folder, which is made where it lacks.

    Raises:
      Held: another run has it.
      OSError: it cannot be written.
    """
    folder = self._folder.absolute()
    if not self._is_in_bucket:
      self._made = [x for x in (folder, *folder.parents) if not x.exists()]
      folder.mkdir(parents=True, exist_ok=True)
    try:
      if not self._create():
        with _alone(folder):
          self._take_over()
        time.sleep(_SETTLING_FAR if self._is_in_bucket else _SETTLING)
        self.check()
    except BaseException:
      self._remove_made()
      raise
    self._beaten = time.time()
    self._thread.start()
    _own.append(self)
    return self

  def check(self) -> None:
    """Refuses to go on where another run has taken the folder meanwhile.

    Raises:
      Held: it has.
    """
    holder = self._holder()
    if holder is not None and holder.token != self._own.token:
      raise Held(
        f"{self._folder} was taken over by {holder}, since this process gave no "
        f"sign of life for {self._silence:g} seconds; nothing more is written"
      )
    if self._was_silent() and not self._path.exists():
      raise Held(
        f"{self._folder} may have been another run's meanwhile: this process gave "
        f"no sign of life for more than {self._silence:g} seconds, and its "
        f"{FILE} is gone; nothing more is written"
      )

  def __exit__(self, *_: object) -> None:
    self._ended.set()
    self._thread.join()
    self.give_back()
    _own.remove(self)
    self._remove_made()

  def give_back(self) -> None:
    """Frees the folder, if it is still one's own."""
    self._ended.set()
    with contextlib.suppress(OSError):
      holder = self._holder()
      if holder is not None and holder.token == self._own.token:
        self._path.unlink()

  def _create(self) -> bool:
    """Writes the lease unless there is one."""
    return paths.created(self._path, self._content())

  def _take_over(self) -> None:
    """Replaces a lease that is void."""
    before = self._holder()
    is_dead = before is not None and before.is_dead()
    age = self._age()
    if age is None:  # it was given back just now
      if self._create():
        return
      age = 0.0
    if age <= self._silence and not is_dead:
      raise Held(
        f"{self._folder} is in use by {before or 'another process'}: two runs "
        "in one folder would destroy each other's checkpoints. If that process "
        f"is gone, the folder is free {self._silence:g} seconds after its last "
        f"sign of life, which was {max(0.0, age):.0f} seconds ago"
      )
    if before is not None:
      _log.warning("%s was left by %s, which has ended", self._folder, before)
    paths.replace(self._path, self._content())

  def _keep(self) -> None:
    """Touches the lease until the end, as long as it is one's own."""
    while not self._ended.wait(self._beat):
      # A disk that fails for a while is for the run's own writes to notice.
      with contextlib.suppress(OSError):
        holder = self._holder()
        if holder is not None and holder.token == self._own.token:
          self._touch()
          self._beaten = time.time()
        elif holder is None and not (self._path.exists() or self._was_silent()):
          self._create()
          self._beaten = time.time()

  def _touch(self) -> None:
    if self._is_in_bucket:
      paths.replace(self._path, self._content())
    else:
      os.utime(self._path)

  def _was_silent(self) -> bool:
    """Whether another run may have had the folder, and given it back."""
    return time.time() - self._beaten > self._silence

  def _holder(self) -> Holder | None:
    """Who has the folder; None where nobody has, or who is not to be read."""
    try:
      content = json.loads(self._path.read_bytes())
      holder = Holder(**content)
    except (OSError, ValueError, TypeError, RecursionError):
      return None
    return holder if type(holder.pid) is int else None

  def _age(self) -> float | None:
    """Seconds since the last sign of life, by the file system's clock."""
    now = self._now()
    try:
      return now - paths.modified(self._path)
    except FileNotFoundError:
      return None

  def _now(self) -> float:
    """The file system's time, as it notes it of what is written now."""
    if self._is_in_bucket:
      probe = self._path.with_name(f"{FILE}.{self._own.token}")
      paths.replace(probe, b"?")
      now = paths.modified(probe)
      probe.unlink(missing_ok=True)
      return now
    with tempfile.TemporaryFile(dir=self._folder) as probe:
      probe.write(b"?")
      probe.flush()
      return os.fstat(probe.fileno()).st_mtime

  def _content(self) -> bytes:
    return (json.dumps(dataclasses.asdict(self._own), indent=1) + "\n").encode()

  def _remove_made(self) -> None:
    """A run that has written nothing leaves no folder."""
    for folder in self._made:
      try:
        folder.rmdir()
      except OSError:  # something is in it
        return


def give_back() -> None:
  """Frees what this process holds, before an end that leaves no `with`."""
  for each in list(_own):
    each.give_back()


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[Callable[[], None]]:
  """Holds a folder for all processes of a run; yields `Lease.check`.

  Raises:
    Held: another run has it.
    OSError: it cannot be written.
  """
  refusal: Exception | None = None
  with contextlib.ExitStack() as stack:
    check: Callable[[], None] = lambda: None  # noqa: E731
    if jax.process_index() == 0:
      try:
        check = stack.enter_context(Lease(folder)).check
      except Held as error:
        refusal = error
      except OSError as error:
        refusal = disk.not_written(folder / FILE, error)
    said = b"" if refusal is None else str(refusal).encode()
    if jax.process_count() > 1:
      padded = np.frombuffer(said[:_MOST].ljust(_MOST, b"\0"), np.uint8)
      shared = np.asarray(multihost_utils.broadcast_one_to_all(padded))
      said = shared.astype(np.uint8).tobytes().rstrip(b"\0")
    if refusal is not None:
      raise refusal
    if said:  # whoever is heard first says why
      reason = said.decode(errors="replace")
      raise Held(f"process 0 may not write to {folder}: {reason}")
    yield check


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
  """Lets one process of a machine look and replace at a time.

  Those of others show themselves while things settle, or at the next save.
  """
  try:
    import fcntl
  except ImportError:  # Windows
    fcntl = None
  if fcntl is None or paths.is_bucket(folder):
    yield
    return
  handle = os.open(folder, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):  # a file system without locks
      fcntl.flock(handle, fcntl.LOCK_EX)
    yield
  finally:
    os.close(handle)


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
