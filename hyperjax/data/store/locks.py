"""Which of several processes makes what, and what dead ones have left.

Processes, on one machine or on several that share a disk or a bucket, may make the
same things. A lock keeps them from making one thing twice. It only spares work:
what is made appears whole, by a rename or by the object that comes last, whoever
comes first.
"""

import contextlib
import os
import pathlib
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable

from hyperjax import paths

_PARTIAL = ".partial"
_LOCK = ".lock"
_BEAT = 5.0  # seconds between signs of life
_SILENCE = 60.0  # seconds without one, after which a lock is void
_ABANDONED = 24 * 3600.0


class Locks:
  """What this process has locked; use it in `with`, which ends its thread."""

  def __init__(
    self,
    silence: float = _SILENCE,
    place: Callable[[pathlib.Path], pathlib.Path] = lambda folder: folder,
  ):
    """Locks nothing yet.

    Args:
      silence: seconds without a sign of life, after which a lock is void.
      place: where what is to be made will be for all: its lock lies beside it. By
        default that is where it is made.
    """
    self._silence, self._place = silence, place
    self._mutex = threading.Lock()
    # By its lock, the version of it that is one's own.
    self._held: dict[pathlib.Path, str | None] = {}
    # Locks of others: when each was last seen to change, by our own clock.
    self._seen: dict[pathlib.Path, tuple[str, float]] = {}
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._beat, daemon=True)

  def take(self, folder: pathlib.Path) -> bool:
    """Locks a folder that is to be made, unless another process has it."""
    lock = _lock_of(self._place(folder))
    lock.parent.mkdir(parents=True, exist_ok=True)
    void = self._void(lock)
    if void is not None and paths.is_bucket(lock):
      is_taken = paths.exchanged(lock, _content(), void)
    else:
      if void is not None:
        lock.unlink(missing_ok=True)
      is_taken = paths.created(lock, _content())
    if is_taken:
      with self._mutex:
        self._held[lock] = paths.stamp(lock)
    return is_taken

  def release(self, folder: pathlib.Path) -> None:
    lock = _lock_of(self._place(folder))
    with self._mutex:
      is_held = self._held.pop(lock, None) is not None
    if is_held:
      with contextlib.suppress(OSError):  # others find it void soon
        lock.unlink(missing_ok=True)

  def __enter__(self) -> "Locks":
    self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._ended.set()
    self._thread.join()
    for lock in list(self._held):
      with contextlib.suppress(OSError):  # others find it void soon
        lock.unlink(missing_ok=True)

  def _beat(self) -> None:
    while not self._ended.wait(_BEAT):
      with self._mutex:
        held = list(self._held.items())
      for lock, version in held:
        # Released meanwhile, or taken over: both are in order. A store that fails
        # for a while is for what is made to notice.
        with contextlib.suppress(OSError):
          self._touch(lock, version)

  def _touch(self, lock: pathlib.Path, version: str | None) -> None:
    if not paths.is_bucket(lock):
      os.utime(lock)
    elif paths.exchanged(lock, _content(), str(version)):
      version = paths.stamp(lock)
      with self._mutex:
        if lock in self._held:
          self._held[lock] = version

  def _void(self, lock: pathlib.Path) -> str | None:
    """The version of a lock whose process is dead, or has been silent for long.

    Changes are timed by our own clock, so that clocks need not agree.
    """
    changed = paths.stamp(lock)
    try:
      owner = lock.read_text().partition(" ")[0]
    except FileNotFoundError:
      return None
    if changed is None or _is_dead(owner):
      return changed
    now = time.monotonic()
    last, since = self._seen.get(lock, (None, now))
    if changed != last:
      since = now
    self._seen[lock] = changed, since
    return changed if now - since > self._silence else None


def temporary_folder(parent: pathlib.Path) -> pathlib.Path:
  """A new folder to fill and rename; others see when its process is dead."""
  # Not tempfile's, which is for its owner alone, whatever the umask says.
  folder = parent / f".{_owner()}-{uuid.uuid4().hex[:8]}{_PARTIAL}"
  folder.mkdir()
  return folder


def remove_abandoned(parent: pathlib.Path) -> None:
  """Removes temporary folders of processes that were killed.

  Those of other machines only after a day without a change in them.
  """
  for partial in parent.glob(f".*{_PARTIAL}"):
    owner = partial.name[1:].rpartition("-")[0]
    if _is_dead(owner) or time.time() - _last_change(partial) > _ABANDONED:
      shutil.rmtree(partial, ignore_errors=True)


def _last_change(folder: pathlib.Path) -> float:
  """Of a folder's files; now, where it vanishes meanwhile."""
  try:
    paths = [folder, *folder.iterdir()]
    return max(path.stat().st_mtime for path in paths)
  except FileNotFoundError:
    return time.time()


def _lock_of(folder: pathlib.Path) -> pathlib.Path:
  return folder.parent / f".{folder.name}{_LOCK}"


def _content() -> bytes:
  """Of a lock: whose it is, and never the same, so that stores see it change."""
  return f"{_owner()} {uuid.uuid4().hex}".encode()


def _owner() -> str:
  return f"{socket.gethostname()}-{os.getpid()}"


def _is_dead(owner: str) -> bool:
  """Whether it is a process of this machine that is no more."""
  host, _, number = owner.rpartition("-")
  if host != socket.gethostname() or not number.isdigit():
    return False
  try:
    os.kill(int(number), 0)
  except ProcessLookupError:
    return True
  except PermissionError:
    pass  # another user's
  return False
