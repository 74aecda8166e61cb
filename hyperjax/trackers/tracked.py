"""A run's log, told to trackers too."""

import logging
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hyperjax import metrics
from hyperjax.data import files

RUNS = "trackers.json"
_log = logging.getLogger(__name__)


class Tracker(Protocol):
  """A service that shows the numbers of runs; what it is, not yet opened."""

  @property
  def service(self) -> str:
    """A name for messages, and for the run's entry in trackers.json."""
    ...

  def open(
    self, folder: pathlib.Path, identity: str | None, facts: Mapping[str, Any]
  ) -> tuple[str, metrics.Log]:
    """Begins a run there, or goes on with one.

    Args:
      folder: of the run here.
      identity: of the run there, if it was begun before.
      facts: of the run, as run.json has them.

    Returns:
      The run's identity there, and what takes its numbers.

    Raises:
      ValueError: the package is not installed, or the service refuses; says what
        to do.
    """
    ...


def tracked(
  own: metrics.Log,
  trackers: Sequence[Tracker],
  folder: pathlib.Path,
  facts: Mapping[str, Any],
) -> metrics.Log:
  """A log that is told to trackers too, if there are any: see `Tracked`."""
  return Tracked(own, trackers, folder, facts) if trackers else own


class Tracked:
  """A log that repeats everything to trackers, which may fail without harm.

  The run folder's own files come first. A tracker that fails is told of once, and
  left out from there: training is not stopped for it.
  """

  def __init__(
    self,
    own: metrics.Log,
    trackers: Sequence[Tracker],
    folder: pathlib.Path,
    facts: Mapping[str, Any],
  ):
    self._own = own
    self._others: dict[str, metrics.Log] = {}
    try:
      known = _known(folder / RUNS)
      for tracker in trackers:
        name = tracker.service
        known[name], log = tracker.open(folder, known.get(name), facts)
        self._others[name] = log
        # At once: a run killed now goes on with the same one.
        files.write_json(folder / RUNS, known)
    except BaseException:
      self.close()
      raise

  def write(self, step: int, values: Mapping[str, float]) -> None:
    self._own.write(step, values)
    self._tell(lambda log: log.write(step, values))

  def write_timing(self, step: int, values: Mapping[str, float]) -> None:
    self._own.write_timing(step, values)
    self._tell(lambda log: log.write_timing(step, values))

  def sync(self) -> None:
    self._own.sync()

  def close(self) -> None:
    self._own.close()
    self._tell(lambda log: log.close())

  def _tell(self, what: Callable[[metrics.Log], None]) -> None:
    for name, log in list(self._others.items()):
      try:
        what(log)
      except Exception as error:
        del self._others[name]
        _log.warning("%s is left out from here: %s", name, error)


def _known(path: pathlib.Path) -> dict[str, str]:
  """Identities of the run in services, by their names."""
  if not path.is_file():
    return {}
  found = files.read_json(path)
  if not all(isinstance(x, str) for x in found.values()):
    raise ValueError(f"{path} must hold names of trackers and runs' identities")
  return found
