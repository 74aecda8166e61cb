"""What libraries write to the terminal from C++, where no setting of theirs stops it."""

import contextlib
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator

# SentencePiece's, of each tokenizer that a tf.data pipeline makes.
_NOTE = re.compile(rb"\w+\.cc\(\d+\) LOG\(INFO\) ")
# Seconds for what is on its way: other processes may hold the pipe open.
_END = 1.0


@contextlib.contextmanager
def silence() -> Iterator[None]:
  """Keeps from the terminal what is written meanwhile, unless it fails."""
  with tempfile.TemporaryFile() as written, _instead(written.fileno()) as out:
    try:
      yield
    except BaseException:
      written.seek(0)
      os.write(out, written.read())
      raise


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
  """Keeps notes of C++ libraries from the terminal; all else is there at once.

  Processes that are started meanwhile are heard likewise. With `-v` nothing is kept.
  """
  if logging.getLogger().isEnabledFor(logging.INFO):
    yield
    return
  source, end = os.pipe()
  reader = threading.Thread(
    target=_pass_on, args=(source, os.dup(2)), daemon=True
  )
  reader.start()
  try:
    with _instead(end):
      os.close(end)  # what writes to the terminal holds it alone
      yield
  finally:
    reader.join(_END)


@contextlib.contextmanager
def _instead(file: int) -> Iterator[int]:
  """What is written to the terminal goes into a file; yields the terminal."""
  sys.stderr.flush()
  terminal = os.dup(2)
  os.dup2(file, 2)
  try:
    yield terminal
  finally:
    os.dup2(terminal, 2)
    os.close(terminal)


def _pass_on(source: int, terminal: int) -> None:
  with open(source, "rb") as lines, open(terminal, "wb", buffering=0) as out:
    for line in lines:
      if not _NOTE.match(line):
        with contextlib.suppress(OSError):  # nobody listens any more
          out.write(line)
