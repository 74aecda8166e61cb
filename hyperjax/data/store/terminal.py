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
_END = (
  1.0  # seconds for what is on its way; other processes may hold the pipe open
)


@contextlib.contextmanager
def silence() -> Iterator[None]:
  """Keeps from the terminal what is written meanwhile, unless it fails."""
  sys.stderr.flush()
  terminal = os.dup(2)
  with tempfile.TemporaryFile() as written:
    os.dup2(written.fileno(), 2)
    try:
      yield
    except BaseException:
      written.seek(0)
      os.write(terminal, written.read())
      raise
    finally:
      os.dup2(terminal, 2)
      os.close(terminal)


@contextlib.contextmanager
def without_notes() -> Iterator[None]:
  """Keeps notes of C++ libraries from the terminal; all else is there at once.

  Processes that are started meanwhile are heard likewise. With `-v` nothing is kept.
  """
  if logging.getLogger().isEnabledFor(logging.INFO):
    yield
    return
  sys.stderr.flush()
  terminal = os.dup(2)
  source, end = os.pipe()
  os.dup2(end, 2)
  os.close(end)
  reader = threading.Thread(
    target=_pass_on, args=(source, os.dup(terminal)), daemon=True
  )
  reader.start()
  try:
    yield
  finally:
    sys.stderr.flush()
    os.dup2(terminal, 2)  # this process's end of the pipe is closed with it
    os.close(terminal)
    reader.join(_END)


def _pass_on(source: int, terminal: int) -> None:
  with open(source, "rb") as lines, open(terminal, "wb", buffering=0) as out:
    for line in lines:
      if not _NOTE.match(line):
        with contextlib.suppress(OSError):  # nobody listens any more
          out.write(line)
