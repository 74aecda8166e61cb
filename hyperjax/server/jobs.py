"""What an engine is asked, how much may wait, and what comes of it."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent import futures

from hyperjax.server.programs import Asked


class Refused(Exception):  # noqa: N818 - a state, not a fault
  """What is not taken, or was given up; the message says why."""


class Full(Refused):
  """More is waiting than may."""


class Oversized(Refused):
  """It asks for more at once than may ever wait."""


class Late(Refused):
  """It waited for longer than it may."""


class Stopping(Refused):
  """The server takes nothing more."""


@dataclasses.dataclass(frozen=True)
class Answered:
  """What a row was answered."""

  tokens: list[int]  # without padding; the last is the end, if it came
  log_probs: list[float]  # of each token
  # Of each position the likeliest tokens with theirs, where they were asked for.
  top: list[list[tuple[int, float]]] | None
  has_ended: bool  # by an end of its own, rather than the limit


class Job:
  """Rows of one request: all are answered, or none is.

  `future` has a list of `Answered`. Cancelled, it leaves the queue, or its batch as soon
  as somebody looks.
  """

  def __init__(
    self,
    rows: Sequence[Asked],
    watch: Callable[[int, Answered], bool] | None = None,
  ):
    """Describes a job.

    Args:
      rows: at least one.
      watch: hears from the engine's thread of each row's tokens as they come, by the
        row's number, and says whether it has seen enough.
    """
    self.rows, self.watch = rows, watch
    self.future: futures.Future[list[Answered]] = futures.Future()
    self.found: list[Answered | None] = [None] * len(rows)
    self.since = time.monotonic()

  def fail(self, error: BaseException) -> None:
    """Does nothing where it has failed, or was cancelled."""
    with contextlib.suppress(futures.InvalidStateError):
      self.future.set_exception(error)

  def answer(self, number: int, answered: Answered) -> None:
    self.found[number] = answered
    every = [one for one in self.found if one is not None]
    if len(every) == len(self.found):
      with contextlib.suppress(futures.InvalidStateError):  # cancelled
        self.future.set_result(every)


@dataclasses.dataclass(frozen=True)
class Ran:
  """What a batch was, for whoever counts."""

  rows: int
  filled: int  # rows of the program that ran
  length: int  # tokens of each
  tokens: int  # decoded
  waited: list[float]  # seconds of each row
  seconds: float
