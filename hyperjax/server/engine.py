"""One thread that owns the devices, and the queue of what it is asked.

Rows of whichever adapters wait in one queue, until a batch is full or the first has
waited long enough; while a batch runs, the next gathers. Adapters that are to be written
wait in another, and are written together too. Of what is waiting neither keeps the other
from its turn.
"""

import collections
import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from hyperjax.models import decoding
from hyperjax.server.jobs import (
  Answered,
  Full,
  Job,
  Late,
  Oversized,
  Ran,
  Stopping,
)
from hyperjax.server.options import Limits
from hyperjax.server.programs import Asked, Found, Programs
from hyperjax.serving.broken_rows import NotFinite

_log = logging.getLogger(__name__)
_PART = 4  # tokens between looks at a batch in which somebody looks
MOST_WRITTEN = 16  # adapters that are written together at most


@dataclasses.dataclass(frozen=True, eq=False)
class _Row:
  job: Job
  number: int

  @property
  def asked(self) -> Asked:
    return self.job.rows[self.number]

  @property
  def is_open(self) -> bool:
    return not self.job.future.done()


class Engine:
  """Answers jobs and makes calls on one thread, from `start` until `stop`."""

  def __init__(
    self,
    programs: Programs,
    write: Callable[[Sequence[Any]], Sequence[Any]],
    limits: Limits,
    on_batch: Callable[[Ran], None] = lambda _: None,
    on_failed: Callable[[BaseException], None] = lambda _: None,
  ):
    """Describes an engine.

    Args:
      programs: which its thread alone uses, `prepared` aside.
      write: adapters from some that `Model.fit` gave.
      limits: of what waits.
      on_batch: hears of every batch.
      on_failed: hears what has ended the thread before `stop`.
    """
    self._programs, self._write = programs, write
    self.limits, self._on_batch = limits, on_batch
    self._on_failed = on_failed
    self._rows: collections.deque[_Row] = collections.deque()
    self._writes: collections.deque[tuple[Any, futures.Future]] = (
      collections.deque()
    )
    self._calls: collections.deque[tuple[Callable[[], Any], futures.Future]] = (
      collections.deque()
    )
    self._changed = threading.Condition()
    self._is_stopping = False
    self._thread = threading.Thread(target=self._work, name="engine")

  def start(self) -> None:
    self._thread.start()

  def stop(self) -> None:
    """Returns once all that was taken is answered."""
    with self._changed:
      self._is_stopping = True
      self._changed.notify_all()
    if self._thread.ident is not None:
      self._thread.join()

  @property
  def num_waiting(self) -> int:
    """Rows."""
    return len(self._rows)

  def submit(self, job: Job) -> "futures.Future[list[Answered]]":
    """Takes a job.

    Raises:
      Full, Oversized, Stopping: it is not taken.
    """
    with self._changed:
      self._check_open()
      if len(job.rows) > self.limits.queue:
        raise Oversized(
          f"{len(job.rows)} answers are asked at once, and {self.limits.queue} "
          "may wait: ask fewer at once"
        )
      if len(self._rows) + len(job.rows) > self.limits.queue:
        raise Full(
          f"{len(self._rows)} prompts are waiting, and {self.limits.queue} may: "
          "try again later"
        )
      was_empty = not self._rows
      self._rows.extend(_Row(job, i) for i in range(len(job.rows)))
      # Else the thread is at work, or waits for its time: each wake costs it some.
      if was_empty or self._is_full:
        self._changed.notify()
    return job.future

  def write(self, fitted: Any) -> "futures.Future[Any]":
    """Takes examples, of which an adapter will be written.

    Raises:
      Full, Stopping: they are not taken.
    """
    with self._changed:
      self._check_open()
      if len(self._writes) >= self.limits.writes:
        raise Full(
          f"{len(self._writes)} adapters are waiting to be written, and "
          f"{self.limits.writes} may: try again later"
        )
      future: futures.Future[Any] = futures.Future()
      self._writes.append((fitted, future))
      self._changed.notify()
    return future

  def call(self, function: Callable[[], Any]) -> "futures.Future[Any]":
    """Has something done by the thread that owns the devices."""
    with self._changed:
      self._check_open()
      future: futures.Future[Any] = futures.Future()
      self._calls.append((function, future))
      self._changed.notify()
    return future

  def _check_open(self) -> None:
    if self._is_stopping:
      raise Stopping("this server is stopping and takes nothing more")

  def _work(self) -> None:
    try:
      while self._await_work():
        self._turn()
    except BaseException as error:
      _log.exception("the engine has ended")
      with self._changed:
        self._is_stopping = True
        for row in self._rows:
          row.job.fail(error)
        for _, future in [*self._writes, *self._calls]:
          with contextlib.suppress(futures.InvalidStateError):
            future.set_exception(error)
      self._on_failed(error)

  def _turn(self) -> None:
    """One of what each queue has: neither keeps another from its turn."""
    for function, future in _taken(self._calls, 1):
      _settle([future], lambda function=function: [function()])
    if some := _taken(self._writes, MOST_WRITTEN):
      _settle(
        [future for _, future in some],
        lambda some=some: self._write([fitted for fitted, _ in some]),
      )
    with self._changed:
      rows = self._take()
    if rows:
      try:
        self._answer(rows)
      except BaseException as error:
        for row in rows:
          row.job.fail(error)
        raise

  def _await_work(self) -> bool:
    """Whether there is more to do; returns when a batch is worth while."""
    with self._changed:
      while True:
        if self._calls or self._writes:
          return True
        if self._rows:
          first = self._rows[0]
          left = first.job.since + self.limits.wait - time.monotonic()
          if left <= 0 or self._is_full or self._is_stopping:
            return True
          self._changed.wait(left)
        elif self._is_stopping:
          return False
        else:
          self._changed.wait()

  @property
  def _is_full(self) -> bool:
    """Whether a whole batch waits."""
    length = self._length(self._rows[0])
    return len(self._rows) >= self._programs.shapes.most_rows(length)

  def _length(self, row: _Row) -> int:
    return self._programs.shapes.length_of(len(row.asked.tokens))

  def _take(self) -> list[_Row]:
    """The next batch: the first row, others of its length, then shorter ones.

    Shorter ones only where rows would else be filled with nothing.
    """
    now = time.monotonic()
    waiting = []
    for row in self._rows:
      if not row.is_open:
        continue
      if now - row.job.since > self.limits.timeout:
        row.job.fail(
          Late(
            f"it has waited for {self.limits.timeout:g} seconds: there is more to "
            "do than can be done"
          )
        )
        continue
      waiting.append(row)
    if not waiting:
      self._rows.clear()
      return []
    length = self._length(waiting[0])
    most = self._programs.shapes.most_rows(length)
    some = [row for row in waiting if self._length(row) == length][:most]
    room = self._programs.shapes.rows_of(len(some), length) - len(some)
    shorter = [row for row in waiting if self._length(row) < length]
    some += shorter[:room]
    taken = set(some)
    self._rows = collections.deque(x for x in waiting if x not in taken)
    return some

  def _answer(self, rows: list[_Row]) -> None:
    began = time.monotonic()
    try:
      found = self._decode(rows)
    except Exception as error:
      _log.warning("a batch of %d rows failed: %s", len(rows), error)
      for row in rows:
        row.job.fail(error)
      return
    tokens = 0
    for index, row in enumerate(rows):
      answered = self._answered(row.asked, found, index)
      tokens += len(answered.tokens)
      if np.isfinite(answered.log_probs).all():
        row.job.answer(row.number, answered)
      else:
        row.job.fail(NotFinite("decoding", [row.number], len(row.job.rows)))
    length = self._programs.shapes.length_of(
      max(len(x.asked.tokens) for x in rows)
    )
    filled = self._programs.shapes.rows_of(len(rows), length)
    waited = [began - row.job.since for row in rows]
    seconds = time.monotonic() - began
    self._on_batch(Ran(len(rows), filled, length, tokens, waited, seconds))

  def _decode(self, rows: list[_Row]) -> Found:
    """What all rows came to; looks at those that are watched between parts."""
    programs, most = self._programs, self._programs.most_tokens
    running = programs.start([row.asked for row in rows])
    if not any(row.job.watch for row in rows):
      return programs.advance(running, len(rows), most)[1]
    is_enough = np.zeros(len(rows), bool)
    until = 0
    while True:
      until = min(until + _PART, most)
      running, found = programs.advance(running, len(rows), until)
      for index, row in enumerate(rows):
        if not is_enough[index]:
          is_enough[index] = self._has_enough(row, found, index)
      is_done = found.is_done | is_enough
      if is_done.all() or until >= most:
        return found
      if (is_enough & ~found.is_done).any():
        running = programs.ended(running, is_done.tolist())

  def _answered(self, asked: Asked, found: Found, index: int) -> Answered:
    config = self._programs.backbone.config
    tokens = decoding.written(config, found.tokens[index, : asked.limit])
    top = None
    if asked.tells_top and found.top is not None:
      ids, values = (x[index, : len(tokens)].tolist() for x in found.top)
      top = [list(zip(*x, strict=True)) for x in zip(ids, values, strict=True)]
    return Answered(
      tokens,
      found.log_probs[index, : len(tokens)].tolist(),
      top,
      bool(tokens) and tokens[-1] in config.eos_ids,
    )

  def _has_enough(self, row: _Row, found: Found, index: int) -> bool:
    if not row.is_open:
      return True
    if row.job.watch is None:
      return False
    try:
      return row.job.watch(row.number, self._answered(row.asked, found, index))
    except Exception as error:
      row.job.fail(error)
      return True


def _taken(waiting: collections.deque, most: int) -> list[Any]:
  """The first of what waits, without what was cancelled."""
  found = []
  while waiting and len(found) < most:
    one = waiting.popleft()
    if one[1].set_running_or_notify_cancel():
      found.append(one)
  return found


def _settle(
  waiting: Sequence[futures.Future], make: Callable[[], Sequence[Any]]
) -> None:
  """Gives each future its own of what is made, or all of them the error."""
  try:
    for future, result in zip(waiting, make(), strict=True):
      future.set_result(result)
  except Exception as error:
    for future in waiting:
      if not future.done():
        future.set_exception(error)
