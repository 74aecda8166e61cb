"""A run folder is written by one run at a time; `lease.json` says by which.

Who holds it touches it every ten seconds. One that was not touched for most of a
minute, or whose process is dead on this machine, is taken over. Times are those of
the folder's own file system, or of the bucket's store, so that clocks of machines
need not agree.

A process that was held up (stopped, or its machine suspended) while another took its
folder may go on with anything. So it asks before it writes: always before what others
read, a checkpoint above all; and before each step and line of metrics as soon as its
last sign of life is so old that another may have come.
"""

import contextlib
import logging
import os
import pathlib
import tempfile
import threading
import time
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from hyperjax import checkpoints, paths
from hyperjax.artifacts import lease_holder
from hyperjax.artifacts.lease_holder import Holder, clocks, elapsed
from hyperjax.checks import disk

FILE = "lease.json"
BEAT = 10.0  # seconds between signs of life
SILENCE = 45.0  # seconds without one, after which a lease is void
_MOST = 2048  # bytes of a refusal that other processes are told
# Of the silence, after which one asks whether the folder is still one's own.
_LAPSE = 2 / 3
# Seconds in which others that take over too show themselves.
_SETTLING, _SETTLING_FAR = 0.2, 1.0
# How long one waits for others of this machine: who is stopped just then has it on.
_TRIES, _PAUSE = 20, 0.05  # seconds

_log = logging.getLogger(__name__)
_own: list["Lease"] = []  # what this process holds


class Held(checkpoints.Refused):
  """Another run has the folder."""


class Lease:
  """What this process holds of a folder; use it in `with`."""

  def __init__(
    self, folder: pathlib.Path, beat: float = BEAT, silence: float = SILENCE
  ):
    self._folder, self._beat, self._silence = folder, beat, silence
    self._path, self._is_in_bucket = folder / FILE, paths.is_bucket(folder)
    self._own = Holder.own()
    self._beaten = clocks()  # when the last sign of life was begun
    self._is_lost = False  # another has the folder
    self._mutex = threading.Lock()  # one thread gives a sign of life at a time
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
    self._thread.start()
    _own.append(self)
    return self

  def check(self) -> None:
    """Refuses to go on where another run has taken the folder meanwhile.

    Raises:
      Held: it has.
      OSError: who has it cannot be told, and this process was silent for long.
    """
    if self._has_lapsed():
      self._renew()
      return
    try:
      holder = lease_holder.read(self._path)
    except FileNotFoundError:
      raise self._lost() from None
    except OSError:  # who has it is not to be read
      return
    if holder is not None and holder.token != self._own.token:
      raise self._lost()

  def check_lapsed(self) -> None:
    """As `check`, where another may have come; a file or none is looked at.

    In a bucket nothing is asked, since a run there writes nothing at its steps;
    what its own thread has met in the meantime is raised.
    """
    if self._is_lost or (self._has_lapsed() and not self._is_in_bucket):
      with contextlib.suppress(OSError):  # for the run's own writes to notice
        self.check()

  def _renew(self) -> None:
    """Gives a sign of life, if the folder is still one's own.

    Raises:
      Held: it is not.
      OSError: it cannot be told.
    """
    with self._mutex, _alone(self._folder):
      begun, stamp = clocks(), paths.stamp(self._path)
      holder = None if stamp is None else lease_holder.read(self._path)
      if holder is not None:
        is_own = holder.token == self._own.token and self._touched(stamp)
      elif self._was_silent() or (stamp is None and not self._ended.is_set()):
        # One that is gone may have been another's, whatever clocks say: they stand
        # while a host has stopped the machine.
        is_own = False
      else:
        return  # somebody has written something into it
      if not is_own:
        raise self._lost()
      self._beaten = begun

  def _touched(self, stamp: str | None) -> bool:
    """Writes one's own lease again; whether it was the one with this stamp."""
    if not self._is_in_bucket:
      os.utime(self._path)
      return True
    # The store alone knows who was first.
    return paths.exchanged(self._path, self._own.content(), str(stamp))

  def _lost(self) -> Held:
    """What to raise where the folder is another's, or may have been."""
    self._is_lost, holder = True, self._holder()
    silent = f"this process gave no sign of life for {self._silence:g} seconds"
    if holder is not None and holder.token != self._own.token:
      return Held(
        f"{self._folder} was taken over by {holder}, since {silent}; nothing "
        "more is written"
      )
    why = f"{silent} or more, and " if self._was_silent() else ""
    return Held(
      f"{self._folder} may have been another run's meanwhile: {why}its {FILE} is "
      "gone; nothing more is written"
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
    with contextlib.suppress(OSError), _alone(self._folder):
      holder = self._holder()
      if holder is not None and holder.token == self._own.token:
        self._path.unlink()

  def _create(self) -> bool:
    """Writes the lease unless there is one."""
    return paths.created(self._path, self._own.content())

  def _take_over(self) -> None:
    """Replaces a lease that is void."""
    stamp = paths.stamp(self._path) if self._is_in_bucket else None
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
    if not self._is_in_bucket:
      paths.replace(self._path, self._own.content())
    elif stamp is None or not paths.exchanged(
      self._path, self._own.content(), stamp
    ):
      raise Held(
        f"{self._folder} is in use by {self._holder() or 'another process'}, "
        "which has taken it just now"
      )

  def _keep(self) -> None:
    """Touches the lease until the end, as long as it is one's own."""
    while not self._ended.wait(self._beat):
      # A disk that fails for a while is for the run's own writes to notice.
      with contextlib.suppress(OSError, Held):
        self._renew()

  def _has_lapsed(self) -> bool:
    """Whether a sign of life is due at once: before anybody takes the folder."""
    return elapsed(self._beaten) > self._silence * _LAPSE

  def _was_silent(self) -> bool:
    """Whether another run may have had the folder, and given it back."""
    return elapsed(self._beaten) > self._silence

  def _holder(self) -> Holder | None:
    """Who has the folder; None where nobody has, or who is not to be read."""
    with contextlib.suppress(OSError):
      return lease_holder.read(self._path)
    return None

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
def held(folder: pathlib.Path) -> Iterator[paths.Fence]:
  """Holds a folder for all processes of a run; yields the first one's lease.

  Raises:
    Held: another run has it.
    OSError: it cannot be written.
  """
  refusal: Exception | None = None
  with contextlib.ExitStack() as stack:
    fence: paths.Fence = paths.NO_FENCE
    if jax.process_index() == 0:
      try:
        fence = stack.enter_context(Lease(folder, BEAT, SILENCE))
      except Held as error:
        refusal = error
      except paths.StoreFailed as error:  # it says all that is to be said
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
    yield fence


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
    for _ in range(_TRIES):
      try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        break
      except BlockingIOError:
        time.sleep(_PAUSE)
      except OSError:  # a file system without locks
        break
    yield
  finally:
    os.close(handle)
