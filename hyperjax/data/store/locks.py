"""Which of several processes makes what, and what dead ones have left.

Processes, on one machine or on several that share a disk, may make the same
things. A lock keeps them from making one thing twice. It only spares work:
what is made appears whole, by a rename, whoever comes first.
"""

import contextlib
import os
import pathlib
import shutil
import socket
import threading
import time
import uuid

_PARTIAL = ".partial"
_LOCK = ".lock"
_BEAT = 5.0  # seconds between signs of life
_SILENCE = 60.0  # seconds without one, after which a lock is void
_ABANDONED = 24 * 3600.0


class Locks:
  """What this process has locked; use it in `with`, which ends its thread."""

  def __init__(self, silence: float = _SILENCE):
    self._silence = silence
    self._mutex = threading.Lock()
    self._held: set[pathlib.Path] = set()
    # Locks of others: when each was last seen to change, by our own clock.
    self._seen: dict[pathlib.Path, tuple[int, float]] = {}
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._beat, daemon=True)

  def take(self, folder: pathlib.Path) -> bool:
    """Locks a folder that is to be made, unless another process has it."""
    lock = _lock_of(folder)
    lock.parent.mkdir(parents=True, exist_ok=True)
    if self._is_void(lock):
      lock.unlink(missing_ok=True)
    try:
      handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
      return False
    with os.fdopen(handle, "w") as file:
      file.write(_owner())
    with self._mutex:
      self._held.add(lock)
    return True

  def release(self, folder: pathlib.Path) -> None:
    lock = _lock_of(folder)
    with self._mutex:
      self._held.discard(lock)
    lock.unlink(missing_ok=True)

  def __enter__(self) -> "Locks":
    self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._ended.set()
    self._thread.join()
    for lock in list(self._held):
      lock.unlink(missing_ok=True)

  def _beat(self) -> None:
    while not self._ended.wait(_BEAT):
      with self._mutex:
        held = list(self._held)
      for lock in held:
        # Released meanwhile, or taken over: both are in order.
        with contextlib.suppress(FileNotFoundError):
          os.utime(lock)

  def _is_void(self, lock: pathlib.Path) -> bool:
    """Whether its process is dead, or has given no sign of life for long.

    Changes are timed by our own clock, so that clocks need not agree.
    """
    try:
      changed, owner = lock.stat().st_mtime_ns, lock.read_text()
    except FileNotFoundError:
      return False
    if _is_dead(owner):
      return True
    now = time.monotonic()
    last, since = self._seen.get(lock, (None, now))
    if changed != last:
      since = now
    self._seen[lock] = changed, since
    return now - since > self._silence


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
