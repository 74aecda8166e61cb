"""Stores made side by side, in threads and in processes, and shared with others.

A job makes one store, which appears whole. So a build that was killed goes on
with the jobs that lack, and several builds of the same stores, in one process, on
one machine or on several that share a disk or a bucket, divide them among each other.
"""

import dataclasses
import logging
import os
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from hyperjax.data.store import in_bucket, locks, store, terminal
from hyperjax.data.store.job import Job, Stopped

_log = logging.getLogger(__name__)

_THREADS = 4
_HEAD_START = 10.0  # seconds that a build must last to be worth processes
_REPORT_EVERY = 30.0
_POLL = 0.1
# At what other processes are making, on a disk and in a bucket.
_LOOK_AGAIN, _LOOK_AGAIN_FAR = 1.0, 3.0
_MOST_FAILURES = 3  # with so many the build ends at once


def make_all(
  jobs: Sequence[Job],
  num_processes: int | None = None,
  mirror: in_bucket.Mirror | None = None,
) -> None:
  """Makes the stores that are not there yet.

  Args:
    jobs: the stores.
    num_processes: how many work at once on jobs that are portable; by default
      one for each core, once the build has lasted some seconds. 1 is none but
      this.
    mirror: of a bucket, where the stores are to be in the end: what is there is not
      made, each is copied there as soon as it is made, and locks are there too.

  Raises:
    ValueError: as the first job that failed; those that succeed stay.
    OSError: a store cannot be brought into the bucket.
  """
  if mirror is not None and not mirror.is_copy:
    mirror = None
  held = locks.Locks() if mirror is None else locks.Locks(place=mirror.place)
  with held as own, terminal.without_notes():
    _Build(jobs, own, mirror).run(num_processes)
  if mirror is not None:
    mirror.bring(job.folder for job in jobs)


def usable_cores() -> int:
  """The cores that this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


class _Build:
  """Threads that take jobs; some do them, each of the others has a process."""

  def __init__(
    self,
    jobs: Sequence[Job],
    own: locks.Locks,
    mirror: in_bucket.Mirror | None = None,
  ):
    self._locks, self._mirror = own, mirror
    self._look_again = _LOOK_AGAIN if mirror is None else _LOOK_AGAIN_FAR
    self._lock = threading.Lock()
    self._left = [
      dataclasses.replace(job, is_portable=_can_travel(job))
      for job in jobs
      if not self._is_made(job)
    ]
    self._others: list[Job] = []  # locked by other processes
    self._looked = time.monotonic()
    self._under_way = 0
    self._failures: list[BaseException] = []
    self._stop = threading.Event()
    self._has_processes = False
    self._progress = _Progress(len(self._left))
    self._workers: list[Any] = []

  def run(self, num_processes: int | None) -> None:
    most = min(
      usable_cores() if num_processes is None else num_processes,
      sum(job.is_portable for job in self._left),
    )
    begin = _HEAD_START if num_processes is None else 0.0
    threads = self._start_processes(most) if most > 1 and not begin else []
    threads += [
      self._start(self._here)
      for _ in range(min(_THREADS, usable_cores(), len(self._left)))
    ]
    try:
      while any(thread.is_alive() for thread in threads):
        lasted = self._progress.seconds
        if most > 1 and not self._workers and lasted > begin:
          threads += self._start_processes(most)
        self._progress.report()
        self._stop.wait(_POLL)
        if self._stop.is_set():
          break
    finally:
      self._end(threads)
    if self._failures:
      self._raise()

  def _start_processes(self, most: int) -> list[threading.Thread]:
    from hyperjax.data.store import worker  # short builds need none

    with self._lock:
      count = min(most, sum(job.is_portable for job in self._left))
      self._has_processes = count > 1
    if not self._has_processes:
      return []
    self._workers = [worker.Worker() for _ in range(count)]
    return [self._start(process.make, True) for process in self._workers]

  def _start(self, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=self._work, args=arguments, daemon=True)
    thread.start()
    return thread

  def _here(self, job: Job) -> int:
    return job.make(self._stop.is_set)

  def _work(
    self, make: Callable[[Job], int], has_process: bool = False
  ) -> None:
    """Makes jobs until none is left that this thread may take."""
    while not self._stop.is_set():
      try:
        job = self._take(has_process)
      except OSError as error:  # of a bucket, in which locks are
        self._failures.append(error)
        self._stop.set()
        return
      if job is None:
        if not self._is_any_left(has_process):
          return
        self._stop.wait(_POLL)
        continue
      try:
        num_tokens = make(job)
        if self._mirror is not None:
          self._mirror.send([job.folder])
        self._progress.add(num_tokens)
      except Stopped:
        return
      except BaseException as error:  # also of a process that was killed
        self._note(error)
      finally:
        self._locks.release(job.folder)
        with self._lock:
          self._under_way -= 1

  def _take(self, has_process: bool) -> Job | None:
    """A job that is locked from now on, or None if there is none just now."""
    with self._lock:
      now = time.monotonic()
      if self._others and now - self._looked > self._look_again:
        self._left += self._others
        self._others, self._looked = [], now
      for job in list(self._left):
        if not self._is_for(job, has_process):
          continue
        self._left.remove(job)
        # Looked at once more: it may be made until we have locked it.
        is_locked = not self._is_made(job) and self._locks.take(job.folder)
        if self._is_made(job):
          self._progress.add(0)
          if is_locked:
            self._locks.release(job.folder)
        elif is_locked:
          self._under_way += 1
          return job
        else:
          self._others.append(job)
    return None

  def _is_made(self, job: Job) -> bool:
    if self._mirror is not None:
      return self._mirror.is_made(job.folder)
    return store.is_whole(job.folder)

  def _is_any_left(self, has_process: bool) -> bool:
    with self._lock:
      left = [*self._left, *self._others]
      return any(self._is_for(job, has_process) for job in left)

  def _is_for(self, job: Job, has_process: bool) -> bool:
    """What can be done by processes is left to them where there are any."""
    if has_process:
      return job.is_portable
    return not (self._has_processes and job.is_portable)

  def _note(self, error: BaseException) -> None:
    if self._stop.is_set():
      return
    with self._lock:
      self._failures.append(error)
      num_left = len(self._left) + len(self._others) + self._under_way - 1
    is_last = len(self._failures) >= _MOST_FAILURES or not num_left
    if is_last or not isinstance(error, (ValueError, OSError)):
      self._stop.set()
    else:
      _log.warning("%s; the others go on", error)

  def _end(self, threads: Sequence[threading.Thread]) -> None:
    self._stop.set()
    for process in self._workers:
      process.kill()
    for thread in threads:
      thread.join()

  def _raise(self) -> None:
    first, *others = self._failures
    if others:
      names = "; ".join(map(str, others))
      first.add_note(f"{len(others)} more failed: {names}")
    raise first


def _can_travel(job: Job) -> bool:
  """Whether it can be sent to a process that has not run the user's script."""
  if not job.is_portable:
    return False
  try:
    return b"__main__" not in pickle.dumps(job.read)
  except (pickle.PicklingError, AttributeError, TypeError):
    return False


class _Progress:
  """A line now and then for builds that take long."""

  def __init__(self, total: int):
    self._total, self._done, self._tokens = total, 0, 0
    self._begin = self._reported = time.monotonic()
    self._lock = threading.Lock()

  @property
  def seconds(self) -> float:
    return time.monotonic() - self._begin

  def add(self, num_tokens: int) -> None:
    with self._lock:
      self._done += 1
      self._tokens += num_tokens

  def report(self) -> None:
    if time.monotonic() - self._reported < _REPORT_EVERY:
      return
    self._reported = time.monotonic()
    left = ""
    if self._done:
      seconds = self.seconds / self._done * (self._total - self._done)
      left = f", about {_duration(seconds)} left"
    _log.info(
      "storing tokens: %d of %d parts, %s tokens in %s%s",
      self._done,
      self._total,
      f"{self._tokens:,}",
      _duration(self.seconds),
      left,
    )


def _duration(seconds: float) -> str:
  minutes = round(seconds / 60)
  if minutes < 2:
    return f"{seconds:.0f} s"
  return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
