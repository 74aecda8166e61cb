"""What is said of a command that takes its time: that it works, or compiles.

Lines go to standard error, unless `HYPERJAX_WAITING` is "off". JAX tells when it has
lowered a program and when that is compiled; between the two it is compiling.
"""

import os
import sys
import threading
import time
from typing import Any

SETTING = "HYPERJAX_WAITING"
_FIRST, _AGAIN = 2.0, 30.0  # seconds until something is said, and said again
_LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_COMPILED = "/jax/core/compile/backend_compile_duration"

_compiling: list[
  float
] = []  # since when, in this process; empty where it does not
_listeners: list[Any] = []  # of this process: JAX keeps them for good


class Waiting:
  """Within it the command's long silences are broken."""

  def __init__(self, command: str, says_work: bool):
    """Says nothing yet.

    Args:
      command: its name.
      says_work: whether to say that it works, where a person watches; else
        only that it compiles.
    """
    self._command = command
    self._says_work = says_work and sys.stderr.isatty()
    self._stop = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)

  def __enter__(self) -> "Waiting":
    self._start = time.monotonic()
    if os.environ.get(SETTING) != "off":
      self._thread.start()
    return self

  def __exit__(self, *_: object) -> None:
    self._stop.set()
    if self._thread.ident is not None:
      self._thread.join()

  def _watch(self) -> None:
    next_word = self._start + _FIRST
    spoken_of = None  # a compilation, by its begin
    while not self._stop.wait(0.2):
      _listen()
      now = time.monotonic()
      began = _compiling[0] if _compiling else None
      is_new = began != spoken_of
      if began is not None and is_new and now - began >= _FIRST:
        spoken_of = began
        self._say("compiling")
      elif self._says_work and now >= next_word:
        self._say("working")
      else:
        continue
      next_word = now + _AGAIN

  def _say(self, what: str) -> None:
    seconds = int(time.monotonic() - self._start)
    passed = f"{seconds // 60}:{seconds % 60:02d}"
    line = f"hyperjax {self._command}: {what} ... ({passed})"
    if bars := sys.modules.get("tqdm"):
      bars.tqdm.write(line, file=sys.stderr)  # above a bar, if there is one
    else:
      print(line, file=sys.stderr, flush=True)


def _listen() -> None:
  """Asks JAX to tell, once the command has imported it."""
  module = sys.modules.get("jax.monitoring")
  register = getattr(module, "register_event_duration_secs_listener", None)
  if register is not None and not _listeners:
    _listeners.append(_told)
    register(_told)


def _told(event: str, *_: Any, **__: Any) -> None:
  if event == _LOWERED:
    _compiling[:] = [time.monotonic()]
  elif event == _COMPILED:
    _compiling.clear()
