"""A process that makes stores for another: `python -m hyperjax.data.store.worker`.

It imports what its jobs need and nothing else, and never runs the user's own
script again, as multiprocessing's processes do. It ends with the process that
started it, however that ends.
"""

import contextlib
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from multiprocessing import connection
from typing import Any

from hyperjax.data.store.job import Job


class Worker:
  """A process and the line to it."""

  def __init__(self):
    self._line, theirs = connection.Pipe()
    path = [entry or os.getcwd() for entry in sys.path]
    with theirs:
      self._process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(theirs.fileno())],
        stdin=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
      )

  def make(self, job: Job) -> int:
    """Has a job done; returns how many tokens the store has.

    Raises:
      ChildProcessError: the process died.
      Exception: what the job raised there.
    """
    try:
      self._line.send(job)
      is_done, result = self._line.recv()
    except (EOFError, OSError):
      raise ChildProcessError(
        f"the process that stored {job.folder.name} of {job.info['task']!r} "
        f"ended with status {self._process.wait()} (killed for lack of memory, "
        "perhaps: set SeqioTasks.num_processes to fewer)"
      ) from None
    if not is_done:
      raise result
    return result

  def kill(self) -> None:
    self._process.kill()
    self._process.wait()


def serve(line: Any) -> None:
  """Does jobs until the other end of the line is closed."""
  received: queue.SimpleQueue[bytes] = queue.SimpleQueue()

  def receive() -> None:
    with contextlib.suppress(EOFError, OSError):
      while True:
        received.put(line.recv_bytes())
    # Also in the middle of a job: nobody is left to want it.
    os._exit(1)

  threading.Thread(target=receive, daemon=True).start()
  while True:
    content = received.get()
    try:
      answer = True, pickle.loads(content).make()
    except Exception as error:
      answer = False, _portable(error)
    line.send(answer)


def _portable(error: Exception) -> Exception:
  """An error that can be sent; those of programs with where they come from."""
  if not isinstance(error, (ValueError, OSError)):
    error.add_note(traceback.format_exc())
  error.__cause__ = error.__traceback__ = None
  try:
    pickle.loads(pickle.dumps(error))
  except Exception:
    return RuntimeError(traceback.format_exc())
  return error


def main() -> None:
  # Ctrl-C reaches all processes of a terminal; the one in charge ends us.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
  serve(connection.Connection(int(sys.argv[1])))


if __name__ == "__main__":
  main()
