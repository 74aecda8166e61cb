"""Batches, steps, hooks: the training loop on the host."""

import contextlib
import dataclasses
import logging
import signal
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Protocol

import jax
from jax.experimental import multihost_utils

from hyperjax import checkpoints, checks, metrics, watching
from hyperjax.data import feed
from hyperjax.trace import NO_TRACE, Trace
from hyperjax.train_state import TrainState
from hyperjax.trainer import Trainer

_log = logging.getLogger(__name__)


class Hook(Protocol):
  """An evaluation ready to run on a state."""

  def run(self, state: TrainState) -> Mapping[str, float]: ...


@dataclasses.dataclass(frozen=True)
class Periods:
  """After how many steps each thing happens; all happen at the last step.

  `profile` is the step that a trace begins before, and the one that it ends before.
  With `save_minutes` a checkpoint is also saved once so much time has passed since
  the last; of several processes at the next line of metrics, where they agree.
  """

  log: checks.Count
  save: checks.Count
  evaluate: checks.Count | None = None
  profile: Annotated[Sequence[int], checks.Span(0)] | None = None
  save_minutes: checks.Positive | None = None

  def __post_init__(self):
    checks.fields(self)

  def check(self, steps: int, evaluations: Sequence[Any]) -> None:
    """Refuses what a run of so many steps, with these evaluations, cannot do.

    Raises:
      ValueError: as it says.
    """
    if self.evaluate and not evaluations:
      raise ValueError(
        f"Periods.evaluate (EVAL_PERIOD) is {self.evaluate}, but "
        "Train.evaluations is empty: there is nothing to evaluate"
      )
    start, stop = self.profile or (0, 1)
    if not start < stop <= steps:
      raise ValueError(
        f"Periods.profile (--profile) is {start}:{stop}; it must be START:STOP "
        f"with START < STOP, and STOP no more than TRAIN_STEPS, {steps}"
      )


class Stopped(Exception):  # noqa: N818 - an outcome, not an error
  """The run was asked to stop, and has saved."""

  def __init__(self, step: int, status: int = 143):
    super().__init__(f"stopped after step {step}; the checkpoint is saved")
    self.step, self.status = step, status


def train(
  trainer: Trainer,
  state: TrainState,
  batches: Iterable[feed.Fed],
  *,
  num_steps: int,
  periods: Periods,
  saver: checkpoints.Checkpoints,
  log: metrics.Log,
  hooks: Sequence[Hook] = (),
  pending: Mapping[str, Any] | None = None,
  watch: watching.Watch = watching.Watch(),
  trace: Trace = NO_TRACE,
) -> TrainState:
  """Trains until `num_steps` updates are done in all.

  Metrics are on the disk before their step's checkpoint: a restart lacks none.

  Args:
    trainer: of the state.
    state: to begin with; its buffers are given away.
    batches: whole or in microbatches, with the position in the data after each.
    num_steps: of the whole run, those before `state` counted.
    periods: of logging, saving, evaluating.
    saver: where checkpoints go.
    log: where metrics go.
    hooks: evaluated every `periods.evaluate` steps, and at step 0.
    pending: metrics of steps before `state` that are in no line yet.
    watch: what is looked at besides.
    trace: of some steps.

  Raises:
    FloatingPointError: a loss or a gradient was NaN or infinite, or too many
      batches in a row were left out for it; or an evaluation's figure was.
    ValueError: no evaluation gives `watch.best_by`.
    checkpoints.SaveFailed: a checkpoint cannot be written.
    Stopped: SIGTERM or SIGINT came; the state is saved.
  """
  training = _Training(
    *(trainer, num_steps, periods, saver, log, hooks, watch, trace),
    unwritten=watching.Unwritten(pending, saver, watch),
    progress=watching.Progress(
      int(state.step), num_steps, watching.Costs.of(trainer.problem)
    ),
    clock=watching.SaveClock(periods.save_minutes),
  )
  return training.run(state, batches)


@dataclasses.dataclass(frozen=True)
class _Training:
  """What `train` is given, and what it counts with."""

  trainer: Trainer
  num_steps: int
  periods: Periods
  saver: checkpoints.Checkpoints
  log: metrics.Log
  hooks: Sequence[Hook]
  watch: watching.Watch
  trace: Trace
  unwritten: watching.Unwritten
  progress: watching.Progress
  clock: watching.SaveClock

  def run(self, state: TrainState, batches: Iterable[feed.Fed]) -> TrainState:
    """Takes steps until all are done, or the run is asked to stop."""
    step, place = int(state.step), self.trainer.layout.place_own
    if step == 0 and self.periods.evaluate:
      self._figure(step, state)
    with _StopSignal() as stop, contextlib.closing(self.progress), self.trace:
      for batch, position in self.progress.timed(batches):
        if step >= self.num_steps:
          break
        self.watch.at_step(step + 1)
        self.progress.count(batch)
        state, values = self.trace.step(
          step, self.trainer.train_step, state, place(batch)
        )
        step += 1
        self.unwritten.add(step, position, values)
        if self._is_due(step, self.periods.log):
          self._write_line(step)
        figure = None
        if self._is_due(step, self.periods.evaluate):
          figure = self._figure(step, state)
        is_stopping = stop.is_asked(step)
        if is_stopping or self._is_to_save(step, figure):
          facts = self.unwritten.facts(position, state, figure)
          self.saver.save(state, facts)
          self.clock.restart()
        self.saver.check()
        if is_stopping and step < self.num_steps:
          self.saver.wait()
          raise Stopped(step, stop.status)
      self.saver.wait()  # a signal that comes now must not end it
    return state

  def _is_due(self, step: int, period: int | None) -> bool:
    """Whether what happens so often does after a step; all does after the last."""
    is_last = step == self.num_steps
    return period is not None and (is_last or step % period == 0)

  def _is_to_save(self, step: int, figure: float | None) -> bool:
    is_by_time = self.clock.is_due(self._is_due(step, self.periods.log))
    is_best = figure is not None and self.saver.is_best(figure)
    return is_by_time or is_best or self._is_due(step, self.periods.save)

  def _write_line(self, step: int) -> None:
    rate = float(self.trainer.learning_rate(step - 1))
    line = self.unwritten.take() | {"learning_rate": rate}
    self.log.write(step, line)
    self.log.write_timing(step, self.progress.lap(step, line))

  def _figure(self, step: int, state: TrainState) -> float | None:
    """Runs all evaluations, whose time is nobody's step's.

    Returns:
      The figure by which the best checkpoint is kept, where one is.
    """
    found: dict[str, float] = {}
    for hook in self.hooks:
      values = hook.run(state)
      watching.check_figures(step, values)
      self.log.write(step, values)
      self.progress.show(f"step {step}  " + watching.listed(values))
      found |= values
    self.progress.restart(step)
    return watching.figure_of(found, self.watch)


class _StopSignal:
  """Notes SIGTERM and the first SIGINT; a second SIGINT ends at once.

  Saving takes all processes. Where there are several, JAX's own preemption
  service has SIGTERM, and names a step at which all of them stop.
  """

  def __init__(self):
    self._asked = False
    self.status = 143  # of the program that ends so, as shells say SIGTERM
    self._before: dict[int, Any] = {}

  def __enter__(self) -> "_StopSignal":
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and jax.process_count() == 1:
      for number in (signal.SIGTERM, signal.SIGINT):
        self._before[number] = signal.signal(number, self._note)
    return self

  def is_asked(self, step: int) -> bool:
    """Whether to stop after this step; the same in all processes."""
    if jax.process_count() == 1:
      return self._asked
    return multihost_utils.reached_preemption_sync_point(step)

  def _note(self, number: int, frame: Any) -> None:
    del frame
    if self._asked and number == signal.SIGINT:
      raise KeyboardInterrupt
    self._asked = True
    self.status = 128 + number
    _log.warning("stopping after this step, saving first")

  def __exit__(self, *_: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)
