"""Where an evaluation stands: a bar on a terminal, lines in a log."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

import jax

from hyperjax import metrics

_EVERY = 30.0  # seconds between lines
_LONG = 5.0  # seconds from which on a compilation is spoken of


class Progress:
  """Counts tasks and answers, and shows the counts until it is closed.

  A thread shows them, so that something is said also while one program runs. Of
  several processes the first one speaks.
  """

  def __init__(
    self,
    name: str,
    num_tasks: int,
    num_answers: int,
    tasks_done: int = 0,
    answers_done: int = 0,
    is_shown: bool = True,
  ):
    """Shows nothing yet.

    Args:
      name: of the evaluation.
      num_tasks: in all.
      num_answers: in all, each target's under each control counted.
      tasks_done: that were done before.
      answers_done: that there were before.
      is_shown: or silent.
    """
    self._name = name
    self._num_tasks, self._num_answers = num_tasks, num_answers
    self._tasks, self._answers = tasks_done, answers_done
    self._before = answers_done
    self._is_shown = is_shown and jax.process_index() == 0
    self._compiling: tuple[str, float] | None = None
    self._said: str | None = None  # which compilation was spoken of
    self._stop = threading.Event()
    self._bar = None

  def __enter__(self) -> "Progress":
    self._start = self._last = time.monotonic()
    if self._is_shown:
      import tqdm

      # tqdm disables itself (None) where standard error is not a terminal.
      self._bar = tqdm.tqdm(
        total=self._num_answers,
        initial=self._answers,
        unit="answer",
        desc=self._name,
        disable=None,
        file=sys.stderr,
      )
      if self._bar.disable:
        print(self.line(0.0), flush=True)
      self._thread = threading.Thread(target=self._watch, daemon=True)
      self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._stop.set()
    if self._is_shown:
      self._thread.join()
    if self._bar is not None:
      if self._bar.disable:
        print(self.line(time.monotonic() - self._start), flush=True)
      self._bar.close()

  def add(self, answers: int, tasks: int = 0) -> None:
    """Counts answers that were found, and tasks that are done."""
    self._answers += answers
    self._tasks += tasks
    if self._bar is not None and not self._bar.disable:
      self._bar.set_postfix_str(self._of_tasks(), refresh=False)
      self._bar.update(answers)

  def again(self, answers: int) -> None:
    """Counts answers as not found, that were found before and are asked again."""
    self._before -= answers
    self.add(-answers)

  @contextlib.contextmanager
  def compiling(self, what: str) -> Iterator[None]:
    """Within it a program is compiled, which is for `what`."""
    self._compiling = what, time.monotonic()
    try:
      yield
    finally:
      self._compiling = None

  def line(self, seconds: float) -> str:
    """What is said after so many seconds."""
    found = self._answers - self._before
    said = (
      f"{self._name}: {self._of_tasks()}, {self._answers:,} of "
      f"{self._num_answers:,} answers"
    )
    if found and seconds > 0:
      rate = found / seconds
      left = (self._num_answers - self._answers) / rate
      said += f", {rate:.3g} answers/s, {metrics.clock(left)} left"
    if compiling := self._compiling:
      said += f"; compiling for {compiling[0]}"
    return said

  def _of_tasks(self) -> str:
    return f"{self._tasks} of {self._num_tasks} tasks"

  def _watch(self) -> None:
    while not self._stop.wait(1.0):
      now, compiling = time.monotonic(), self._compiling
      is_slow = (
        compiling is not None
        and now - compiling[1] >= _LONG
        and compiling[0] != self._said
      )
      assert self._bar is not None  # it is shown
      if not self._bar.disable:
        what = self._of_tasks()
        if is_slow and compiling is not None:
          what += f", compiling for {compiling[0]}"
        self._bar.set_postfix_str(what)
      elif is_slow or now - self._last >= _EVERY:
        self._last = now
        print(self.line(now - self._start), flush=True)
        if compiling is not None:
          self._said = compiling[0]
