"""Where a run stands, and what of its devices it uses."""

import dataclasses
import functools
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from hyperjax import metrics
from hyperjax.batch import PAD_ID, Batch
from hyperjax.memory import capacity, sheets
from hyperjax.models import flops, problems


@dataclasses.dataclass(frozen=True)
class Costs:
  """What a step's arithmetic is held against.

  Attributes:
    problem: whose updates take the operations that are counted; None for none.
    peak: operations a second that a device can do, as its data sheet says.
    pad_id: which tokens are padding.
  """

  problem: problems.Problem | None = None
  peak: float | None = None
  pad_id: int = PAD_ID

  @classmethod
  def of(cls, problem: problems.Problem) -> "Costs":
    """On this process's devices; none of a problem of one's own without a T5."""
    if not hasattr(problem, "backbone"):
      return cls()
    sheet = sheets.of_device(jax.local_devices()[0])
    peak = None if sheet is None else sheet.peak(problem.backbone.dtype)
    return cls(problem, peak, problem.backbone.pad_id)

  def operations(self, batch: Batch) -> int:
    """That an update needs for a batch, or for a microbatch of it, with padding.

    What is computed again in the backward pass is not counted, as is the custom
    for model flops utilization (Chowdhery et al., 2022, appendix B).
    """
    if self.problem is None:
      return 0
    contexts, read = batch.num_contexts, batch.demonstrations
    sizes = flops.Sizes(
      *(1, len(batch.encoder_input_tokens) // contexts),
      *(0 if read is None else read.shape[-1],),
      *(batch.encoder_input_tokens.shape[1],),
      *(batch.decoder_target_tokens.shape[1],),
      *(1 if read is None or read.ndim == 2 else read.shape[1],),
    )
    return contexts * _of_context(self.problem, sizes)


@functools.lru_cache(maxsize=256)
def _of_context(problem: problems.Problem, sizes: flops.Sizes) -> int:
  return flops.of_context(problem, sizes)


class Progress:
  """Step, loss, speed and time left: a bar on a terminal, lines in a log."""

  def __init__(self, first: int, last: int, costs: Costs = Costs()):
    import tqdm

    self._last, self._costs = last, costs
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

  def count(self, batch: Batch | Sequence[Batch]) -> None:
    """Counts the tokens of this process's part, with padding and without."""
    for each in [batch] if isinstance(batch, Batch) else batch:
      parts = [each.encoder_input_tokens, each.decoder_target_tokens]
      if each.demonstrations is not None:
        parts.append(each.demonstrations)
      own = sum(int(np.sum(x != self._costs.pad_id)) for x in parts)
      self._tokens += own * jax.process_count()
      self._padded += sum(x.size for x in parts) * jax.process_count()
      self._operations += self._costs.operations(each) * jax.process_count()
    if not self._bar.disable:
      self._bar.update()

  def restart(self, step: int) -> None:
    """Takes the time from here, leaving out what came before."""
    self._start, self._step = time.monotonic(), step
    self._tokens, self._padded, self._operations = 0, 0, 0
    self._waited = 0.0

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
        f"step {step:>{digits}}/{self._last}  {facts}  {metrics.clock(left)} left"
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
    if self._operations:
      speed = self._operations / seconds / jax.device_count()
      found["model_flops_per_second"] = speed
      if self._costs.peak is not None:
        found["model_flops_utilization"] = speed / self._costs.peak
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
