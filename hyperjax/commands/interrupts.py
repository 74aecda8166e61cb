"""Ctrl-C ends a command, also where it comes while Python can raise nothing.

Within what runs at a collection of garbage, such as JAX's own part of it, Python says
of an exception that it is ignored, and goes on.
"""

import _thread
import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

_LATER = 0.05  # seconds, until which that has ended


@contextlib.contextmanager
def kept() -> Iterator[None]:
  """Within it, an interrupt that was ignored comes again."""
  before = sys.unraisablehook
  timers: list[threading.Timer] = []

  def hook(told: Any) -> None:
    if not issubclass(told.exc_type, KeyboardInterrupt):
      before(told)
      return
    timer = threading.Timer(_LATER, _thread.interrupt_main)
    timer.daemon = True
    timers.append(timer)
    timer.start()

  sys.unraisablehook = hook
  try:
    yield
  finally:
    sys.unraisablehook = before
    for timer in timers:
      timer.cancel()
