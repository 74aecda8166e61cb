"""Batches, steps, hooks: the training loop on the host."""

import contextlib
import dataclasses
import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from hyperjax import checkpoints, checks, metrics
from hyperjax.batch import Batch
from hyperjax.memory import capacity
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
  """

  log: checks.Count
  save: checks.Count
  evaluate: checks.Count | None = None
  profile: Annotated[Sequence[int], checks.Span(0)] | None = None

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

  def __init__(self, step: int):
    super().__init__(f"stopped after step {step}; the checkpoint is saved")
    self.step = step


def train(
  trainer: Trainer,
  state: TrainState,
  batches: Iterable[tuple[Batch, int]],
  *,
  num_steps: int,
  periods: Periods,
  saver: checkpoints.Checkpoints,
  log: metrics.Log,
  hooks: Sequence[Hook] = (),
  pending: Mapping[str, Any] | None = None,
  trace: Trace = NO_TRACE,
) -> TrainState:
  """Trains until `num_steps` updates are done in all.

  Metrics are on the disk before their step's checkpoint: a restart lacks none.

  Args:
    trainer: of the state.
    state: to begin with; its buffers are given away.
    batches: with the position in the data after each.
    num_steps: of the whole run, those before `state` counted.
    periods: of logging, saving, evaluating.
    saver: where checkpoints go.
    log: where metrics go.
    hooks: evaluated every `periods.evaluate` steps, and at step 0.
    pending: metrics of steps before `state` that are in no line yet.
    trace: of some steps.

  Raises:
    FloatingPointError: a loss or a gradient was NaN or infinite.
    Stopped: SIGTERM or SIGINT came; the state is saved.
  """
  step = int(state.step)
  unwritten, progress = _Unwritten(pending, saver), _Progress(step, num_steps)
  if step == 0 and periods.evaluate:
    _evaluate(step, state, hooks, log, progress)
  with _StopSignal() as stop, contextlib.closing(progress), trace:
    for batch, position in progress.timed(batches):
      if step >= num_steps:
        break
      progress.count(batch)
      batch = trainer.layout.place_own(batch)
      state, values = trace.step(step, trainer.train_step, state, batch)
      step += 1
      unwritten.add(step, position, values)
      is_last = step == num_steps
      if is_last or step % periods.log == 0:
        rate = float(trainer.learning_rate(step - 1))
        _write(step, unwritten.take() | {"learning_rate": rate}, log, progress)
      if periods.evaluate and (is_last or step % periods.evaluate == 0):
        _evaluate(step, state, hooks, log, progress)
      is_stopping = stop.is_asked(step)
      if is_last or is_stopping or step % periods.save == 0:
        saver.save(state, unwritten.facts(position, state))
      if is_stopping and not is_last:
        saver.wait()
        raise Stopped(step)
  saver.wait()
  return state


def _write(
  step: int, line: dict[str, float], log: metrics.Log, progress: "_Progress"
) -> None:
  """Writes a line of metrics, and how fast its steps were."""
  log.write(step, line)
  log.write_timing(step, progress.lap(step, line))


def _evaluate(
  step: int,
  state: TrainState,
  hooks: Sequence[Hook],
  log: metrics.Log,
  progress: "_Progress",
) -> None:
  """Runs all evaluations; their time is nobody's step's."""
  for hook in hooks:
    values = hook.run(state)
    log.write(step, values)
    progress.show(f"step {step}  " + _listed(values))
  progress.restart(step)


class _Unwritten:
  """Metrics of steps that are in no line yet; on the device until asked for."""

  def __init__(
    self, sums: Mapping[str, Any] | None, saver: checkpoints.Checkpoints
  ):
    self._window, self._saver = metrics.Window(sums), saver
    self._waiting: list[tuple[int, int, Any]] = []  # step, position, metrics

  def add(self, step: int, position: int, values: Any) -> None:
    self._waiting.append((step, position, values))

  def take(self) -> dict[str, float]:
    """Their means, for a line that is written now."""
    self._collect()
    means, self._window = self._window.means(), metrics.Window()
    return means

  def facts(self, position: int, state: TrainState) -> checkpoints.Facts:
    """Their sums and where the run stands, for a checkpoint."""
    self._collect()
    key = checkpoints.key_data(state.key)
    return checkpoints.Facts(position, self._window.as_json(), key)

  def _collect(self) -> None:
    for step, position, values in self._waiting:
      values = jax.device_get(values)
      for name in ("loss", "gradient_norm"):
        # With a bad gradient the parameters are lost, whatever the loss was.
        if not math.isfinite(values[name][0]):
          raise FloatingPointError(
            f"step {step}: the {name} is {values[name][0]}. The batch ends at "
            f"context {position} of the data; the last good checkpoint is of "
            f"step {self._saver.latest()}"
          )
      self._window.add(values)
    self._waiting.clear()


class _StopSignal:
  """Notes SIGTERM and the first SIGINT; a second SIGINT ends at once.

  Saving takes all processes. Where there are several, JAX's own preemption
  service has SIGTERM, and names a step at which all of them stop.
  """

  def __init__(self):
    self._asked = False
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
    _log.warning("stopping after this step, saving first")

  def __exit__(self, *_: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)


class _Progress:
  """Step, loss, speed and time left: a bar on a terminal, lines in a log."""

  def __init__(self, first: int, last: int):
    import tqdm

    self._last = last
    self._is_shown = jax.process_index() == 0
    # tqdm disables itself (None) where standard error is not a terminal.
    self._bar = tqdm.tqdm(
      total=last,
      initial=first,
      unit="step",
      disable=None if self._is_shown else True,
      file=sys.stderr,
      # Without its own rate, which is the last few steps'; ours is in the postfix.
      bar_format="{l_bar}{bar:8}| {n_fmt}/{total_fmt} "
      "[{elapsed}<{remaining}{postfix}]",
    )
    self._is_compiling = True
    self.restart(first)

  def timed(self, batches: Iterable[Any]) -> Iterator[Any]:
    """The same; how long they were waited for is counted."""
    iterator, end = iter(batches), object()
    while True:
      start = time.monotonic()
      batch = next(iterator, end)
      self._waited += time.monotonic() - start
      if batch is end:
        return
      yield batch

  def count(self, batch: Batch) -> None:
    """Counts the tokens of this process's part, with padding and without."""
    parts = (
      batch.demonstrations,
      batch.encoder_input_tokens,
      batch.decoder_target_tokens,
    )
    own = sum(int(np.count_nonzero(x)) for x in parts if x is not None)
    self._tokens += own * jax.process_count()
    padded = sum(x.size for x in parts if x is not None)
    self._padded += padded * jax.process_count()
    if not self._bar.disable:
      self._bar.update()

  def restart(self, step: int) -> None:
    """Takes the time from here, leaving out what came before."""
    self._start, self._step = time.monotonic(), step
    self._tokens, self._padded, self._waited = 0, 0, 0.0

  def lap(self, step: int, line: Mapping[str, float]) -> dict[str, float]:
    """Shows where the run stands; returns the speed since the last lap."""
    seconds = max(1e-9, time.monotonic() - self._start)
    steps = step - self._step
    rate, tokens = steps / seconds, self._tokens / seconds
    left = (self._last - step) / rate
    facts = (
      f"loss {line['loss']:.4f}  lr {line['learning_rate']:.2e}  "
      f"{rate:.2f} steps/s  {tokens:,.0f} tokens/s"
    )
    if self._is_compiling:
      facts += " (with compilation)"
      self._is_compiling = False
    if self._bar.disable:
      digits = len(str(self._last))
      self.show(
        f"step {step:>{digits}}/{self._last}  {facts}  {_clock(left)} left"
      )
    else:
      self._bar.set_postfix_str(facts)
    found = {
      "seconds": seconds,
      "steps_per_second": rate,
      "tokens_per_second": tokens,
      "padded_tokens_per_second": self._padded / seconds,
      "data_wait_seconds": self._waited,
    }
    used = capacity.most_used(jax.local_devices())
    if used is not None:
      found["device_memory_bytes"] = used
    self.restart(step)
    return found

  def show(self, text: str) -> None:
    if not self._bar.disable:
      self._bar.write(text)
    elif self._is_shown:
      print(text, flush=True)

  def close(self) -> None:
    self._bar.close()


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{seconds:02}"


def _listed(values: Mapping[str, float], most: int = 8) -> str:
  """The first few; parts, as "loss/task" of "loss", are only counted."""
  whole = [name for name in values if name.rpartition("/")[0] not in values]
  shown = [f"{name} {values[name]:.4g}" for name in whole[:most]]
  if len(values) > len(shown):
    shown.append(f"and {len(values) - len(shown)} more")
  return "  ".join(shown)
