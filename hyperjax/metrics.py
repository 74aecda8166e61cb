"""Metrics on the host: sums until they are written, then lines of JSON.

`metrics.jsonl` holds only numbers that the seed and the data determine, so that
a run killed and restarted writes the very same file. How fast it went is in
`timings.jsonl`. TensorBoard events repeat both.
"""

import contextlib
import json
import logging
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from hyperjax import paths
from hyperjax.checks import disk
from hyperjax.data import files, json_text

METRICS, TIMINGS = "metrics.jsonl", "timings.jsonl"
PERIOD = 60.0  # seconds after which what is new is brought into a bucket

_log = logging.getLogger(__name__)


class Window:
  """Sums and weights of steps since the last line, in float64."""

  def __init__(self, sums: Mapping[str, Any] | None = None):
    self._sums = {name: tuple(pair) for name, pair in (sums or {}).items()}

  def add(self, metrics: Mapping[str, Any]) -> None:
    for name, (total, weight) in metrics.items():
      before = self._sums.get(name, (0.0, 0.0))
      self._sums[name] = (before[0] + float(total), before[1] + float(weight))

  def means(self) -> dict[str, float]:
    """Sum over weight of each metric; 0 where nothing was weighed."""
    return {
      name: total / weight if weight else 0.0
      for name, (total, weight) in self._sums.items()
    }

  def as_json(self) -> dict[str, list[float]]:
    """JSON whose floats read back as they are."""
    return {name: list(pair) for name, pair in self._sums.items()}


class Log(Protocol):
  """Where the numbers of a run go."""

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Adds a line of metrics."""
    ...

  def write_timing(self, step: int, values: Mapping[str, float]) -> None:
    """Adds a line that says how fast it went."""
    ...

  def close(self) -> None: ...

  def sync(self) -> None:
    """Brings all of it to where others see it."""
    ...


class NoLog:
  """For all processes but the first, which alone writes the run folder."""

  def write(self, step: int, values: Mapping[str, float]) -> None:
    del step, values

  def write_timing(self, step: int, values: Mapping[str, float]) -> None:
    del step, values

  def close(self) -> None:
    pass

  def sync(self) -> None:
    pass


class RunLog:
  """The metric files and TensorBoard events of a run folder.

  Opened at the step a run continues from, it first cuts whatever lies after,
  also from the events, which are written anew from the lines that stay.

  A bucket's objects do not grow: there the files are of this machine, and replace
  those of the bucket every minute, before each checkpoint and at the end.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    restored_step: int | None,
    fence: paths.Fence = paths.NO_FENCE,
  ):
    """Opens the files, as long as `fence` lets it; so are lines added later."""
    from tensorboardX import event_file_writer  # slow, only to train

    fence.check()
    folder.mkdir(parents=True, exist_ok=True)
    self._folder, self._local, self._fence = folder, folder, fence
    if paths.is_bucket(folder):
      self._local = pathlib.Path(tempfile.mkdtemp(prefix="hyperjax-"))
    self._sent: dict[str, int] = {}  # bytes of each file that are in the bucket
    self._synced = time.monotonic()
    self._files = {}
    kept: list[dict[str, Any]] = []
    for name in (METRICS, TIMINGS):
      lines = _lines_until(folder / name, restored_step)
      own = self._local / name
      paths.replace(own, "".join(json.dumps(line) + "\n" for line in lines))
      self._files[name] = own.open("a")
      kept += lines
    for events in folder.glob("events.out.tfevents.*"):
      events.unlink()
    # Written here and not in a thread, where an error would be nobody's.
    self._events = event_file_writer.EventsWriter(str(self._local / "events"))
    for line in sorted(kept, key=lambda line: line["step"]):
      self._add_events(line)
    self.sync()

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Adds a line of metrics, on the disk before this returns."""
    self._append(METRICS, {"step": step, **values})
    with self._naming("TensorBoard events"):
      self._events.flush()
    if time.monotonic() - self._synced > PERIOD:
      try:
        self.sync()
      except OSError as error:
        self._synced = time.monotonic()
        _log.warning("%s; it is tried again", error)

  def write_timing(self, step: int, values: Mapping[str, float]) -> None:
    self._append(TIMINGS, {"step": step, **values})

  def close(self) -> None:
    for file in (*self._files.values(), self._events):
      with contextlib.suppress(OSError):  # met when the line was written
        file.close()
    if self._local is not self._folder:
      try:
        self.sync()
      except (OSError, ValueError) as error:
        # Also of a folder that is another's.
        _log.warning("%s; what lacks there is lost", error)
      shutil.rmtree(self._local, ignore_errors=True)

  def sync(self) -> None:
    """Brings what is written into the bucket, where the run's folder is in one.

    Raises:
      OSError: the store does not take it.
      ValueError: the folder is another run's by now.
    """
    if self._local is self._folder:
      return
    self._fence.check()
    for path in sorted(self._local.iterdir()):
      content = path.read_bytes()
      if len(content) != self._sent.get(path.name):
        with self._naming(path.name):
          paths.replace(self._folder / path.name, content)
        self._sent[path.name] = len(content)
    self._synced = time.monotonic()

  def _append(self, name: str, line: dict[str, Any]) -> None:
    self._fence.check_lapsed()
    file = self._files[name]
    with self._naming(name):
      file.write(json.dumps(line) + "\n")
      file.flush()
      os.fsync(file.fileno())
    self._add_events(line)

  def _add_events(self, line: Mapping[str, Any]) -> None:
    from tensorboardX import summary
    from tensorboardX.proto import event_pb2

    for name, value in line.items():
      if name != "step":
        event = event_pb2.Event(  # pyright: ignore[reportAttributeAccessIssue]: protobuf makes it
          wall_time=time.time(),
          step=line["step"],
          summary=summary.scalar(name, value),
        )
        with self._naming("TensorBoard events"):
          self._events.write_event(event)

  @contextlib.contextmanager
  def _naming(self, name: str) -> Iterator[None]:
    """Says which file could not be written, why, and what to do."""
    try:
      yield
    except paths.StoreFailed:
      raise  # it says all that is to be said
    except OSError as error:
      raise disk.not_written(self._folder / name, error) from error


def clock(seconds: float) -> str:
  """Hours, minutes and seconds, as progress is told: "1:02:05"."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{seconds:02}"


def read(path: pathlib.Path) -> list[dict[str, Any]]:
  """The whole lines of a metric file; a last one cut short is left out.

  Raises:
    ValueError: another line is no JSON object of numbers with a "step".
  """
  if not path.is_file():
    return []
  lines = []
  texts = path.read_bytes().split(b"\n")[:-1]
  for number, text in enumerate(texts, 1):
    where = f"{path}, line {number}"
    try:
      line = json_text.parsed(where, text)
    except ValueError:
      if number == len(texts):  # what a machine that failed left of it
        break
      raise
    files.whole_field(line, "step", where)
    for name, value in line.items():
      if type(value) not in (int, float):
        raise ValueError(
          f"{where}: {name!r:.80} must be a number, got {json_text.shown(value)}"
        )
    lines.append(line)
  return lines


def _lines_until(path: pathlib.Path, step: int | None) -> list[dict[str, Any]]:
  if step is None:
    return []
  return [line for line in read(path) if line["step"] <= step]
