"""Broken batches, figures, the clock."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from hyperjax import checkpoints, checks, metrics
from hyperjax.train_state import SKIPPED, TrainState

_log = logging.getLogger(__name__)

# What a loss or a gradient that is not finite does.
STOP, SKIP = "stop", "skip"
OnNan = Annotated[str, checks.OneOf((STOP, SKIP))]


@dataclasses.dataclass(frozen=True)
class Watch:
  """What is looked at besides, while steps are taken.

  Attributes:
    tasks: names of the tasks in the batch that ends at a position.
    max_skipped: batches left out in a row before the run stops.
    best_by: the figure of an evaluation by which the best checkpoint is kept.
    at_step: told of each step before it is taken.
  """

  tasks: Callable[[int], Sequence[str]] = lambda position: ()
  max_skipped: int = 10
  best_by: str | None = None
  at_step: Callable[[int], None] = lambda step: None


def check_figures(step: int, values: Mapping[str, float]) -> None:
  """Refuses figures of an evaluation that are no numbers.

  Raises:
    FloatingPointError: names the first.
  """
  for name, value in values.items():
    if not math.isfinite(value):
      raise FloatingPointError(f"step {step}: the evaluation {name} is {value}")


def figure_of(found: Mapping[str, float], watch: Watch) -> float | None:
  """The figure by which the best checkpoint is kept, where one is."""
  if watch.best_by is None:
    return None
  if watch.best_by not in found:
    raise ValueError(
      f"Kept.best_by is {watch.best_by!r}, which no evaluation gives; they "
      f"give {listed(found, 20) or 'nothing'}"
    )
  return float(found[watch.best_by])


class SaveClock:
  """When a checkpoint is due by the time that has passed since the last."""

  def __init__(self, minutes: float | None):
    self._seconds = None if minutes is None else 60 * minutes
    self.restart()

  def restart(self) -> None:
    self._start = time.monotonic()

  def is_due(self, is_line: bool) -> bool:
    """Whether it is; the same in all processes, which ask at lines alone."""
    if self._seconds is None:
      return False
    is_due = time.monotonic() - self._start >= self._seconds
    if jax.process_count() == 1:
      return is_due
    if not is_line:
      return False
    return bool(multihost_utils.broadcast_one_to_all(np.int32(is_due)))


class Unwritten:
  """Metrics of steps that are in no line yet; on the device until asked for."""

  def __init__(
    self,
    sums: Mapping[str, Any] | None,
    saver: checkpoints.Checkpoints,
    watch: Watch,
  ):
    self._window, self._saver = metrics.Window(sums), saver
    self._watch, self._num_skipped = watch, 0  # in a row
    self._waiting: list[tuple[int, int, Any]] = []  # step, position, metrics

  def add(self, step: int, position: int, values: Any) -> None:
    """Adds a step's metrics; `position` is that of the data after it."""
    self._waiting.append((step, position, values))

  def take(self) -> dict[str, float]:
    """Their means, for a line that is written now."""
    self._collect()
    means, self._window = self._window.means(), metrics.Window()
    return means

  def facts(
    self, position: int, state: TrainState, figure: float | None
  ) -> checkpoints.Facts:
    """Their sums and where the run stands, for a checkpoint."""
    self._collect()
    key = checkpoints.key_data(state.key)
    return checkpoints.Facts(
      *(position, self._window.as_json(), key, figure), self._watch.best_by
    )

  def _collect(self) -> None:
    for step, position, values in self._waiting:
      values = jax.device_get(values)
      if SKIPPED in values:
        self._count_skipped(step, position, bool(values[SKIPPED][0]))
      for name in ("loss", "gradient_norm"):
        # With a bad gradient the parameters are lost, whatever the loss was.
        if not math.isfinite(values[name][0]):
          self._refuse(
            step, position, f"the {name} is {values[name][0]}. The batch"
          )
      self._window.add(values)
    self._waiting.clear()

  def _count_skipped(self, step: int, position: int, is_skipped: bool) -> None:
    """Says that a batch was left out; stops where too many were in a row."""
    self._num_skipped = self._num_skipped + 1 if is_skipped else 0
    if is_skipped:
      _log.warning(
        "step %d: a loss or gradient is not finite; the batch is left out (%s)",
        step,
        self._tasks(position),
      )
    if self._num_skipped >= self._watch.max_skipped:
      self._refuse(
        step,
        position,
        f"{self._num_skipped} batches in a row had a loss or gradient that is "
        "not finite (Train.max_skipped). The last",
      )

  def _tasks(self, position: int) -> str:
    names = list(self._watch.tasks(position))
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"tasks: {', '.join(names[:8])}{more}" if names else "no task known"

  def _refuse(self, step: int, position: int, what: str) -> None:
    self._saver.wait()
    last = self._saver.latest()
    kept = "no checkpoint was saved before"
    if last is not None:
      kept = f"the last good checkpoint is of step {last}"
    raise FloatingPointError(
      f"step {step}: {what} ends at context {position} of the data "
      f"({self._tasks(position)}); {kept}"
    )


def listed(values: Mapping[str, float], most: int = 8) -> str:
  """The first few; parts, as "loss/task" of "loss", are only counted."""
  whole = [name for name in values if name.rpartition("/")[0] not in values]
  shown = [f"{name} {values[name]:.4g}" for name in whole[:most]]
  if len(values) > len(shown):
    shown.append(f"and {len(values) - len(shown)} more")
  return "  ".join(shown)
