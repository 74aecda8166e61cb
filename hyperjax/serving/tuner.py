"""Written adapters trained further, by back-propagation, on their task's examples.

With eight examples or more a quarter is held out first: an adapter written without
them is trained on the others, and after how many steps those held out are likeliest
is the number of steps. The adapter that is kept was written from all of them, and
is trained on all of them, for as many. So what is scored, before and after, is that
of the others: nothing says more of the one that is kept. With fewer examples it is
trained for all steps, and the scores are of what it was trained on.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from hyperjax import adapters, optimizers
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.batch import Batch, Context, Lengths, assemble, power_of_two, trim
from hyperjax.memory import program
from hyperjax.models import problems
from hyperjax.scores import text_metrics
from hyperjax.serving import asking, held_out, selection
from hyperjax.serving import given as giving
from hyperjax.serving.examples import Example, Pool
from hyperjax.serving.tuning import FURTHER, Scores, Tuned, Tuning
from hyperjax.train_state import TrainState
from hyperjax.trainer import Trainer

if TYPE_CHECKING:
  from hyperjax.serving.model import Model

LEAST_HELD_OUT = 8  # examples, from which on some are held out
_PARTS = 4  # of which one is
_LOOKS = 20  # at what is held out, evenly spaced
_PATIENCE = 5  # looks without a better one, after which training ends
_DIGITS = 6


class Task(NamedTuple):
  """Examples, and the adapter that was written from those that fit."""

  pool: Pool
  written: Adapter


def tune(
  model: "Model",
  given: giving.GivenExamples,
  how: Tuning,
  instruction: str | None = None,
) -> Adapter:
  """The adapter that a hypermodel writes from examples, trained further on them.

  Args:
    model: whose hypermodel and T5.
    given: as for `Model.adapt`.
    how: it is trained.
    instruction: as for `Model.adapt`.

  Raises:
    ValueError: as for `Model.adapt` and `further`.
  """
  if not isinstance(how, Tuning):
    raise ValueError(
      f"how must be a Tuning, such as Tuning(steps=50); got {how!r:.80}"
    )
  pool = model.pool(giving.as_examples(given), instruction)
  [adapter] = model.write([pool.fit()])
  return further(model, [Task(pool, adapter)], how)[0][0]


def further(
  model: "Model",
  tasks: Sequence[Task],
  how: Tuning,
  select: str = selection.FIRST,
) -> list[tuple[Adapter, Tuned]]:
  """The adapters of some tasks, trained further; their origins say how.

  Args:
    model: that wrote them.
    tasks: whose examples, also those that did not fit, they are trained on.
    how: they are trained.
    select: as for `selection.choose`, of what is written without some examples.

  Raises:
    ValueError: there are no examples, or the loss is no longer finite.
    OutOfMemory: a step does not fit.
  """
  for task in tasks:
    if not task.pool.examples:
      raise ValueError("--steps trains on examples, and there are none")
  spec = model.run.problem.adapters
  trainer = Trainer(
    problems.AdapterFineTuning(model.backbone.config, spec),
    optimizers.AdamW(optimizers.Constant(how.rate(spec))),
    model.backbone.layout,
  )
  return [_Tuner(model, trainer, x, how, select).run() for x in tasks]


class _Tuner:
  """Of one task: all its programs are of one shape."""

  def __init__(
    self, model: "Model", trainer: Trainer, task: Task, how: Tuning, select: str
  ):
    self._model, self._trainer = model, trainer
    self._task, self._how, self._select = task, how, select
    self._rate = how.rate(model.run.problem.adapters)
    self._read = {x: self._ids(x) for x in task.pool.examples}
    inputs, targets = zip(*self._read.values(), strict=True)
    longest = [power_of_two(max(map(len, x))) for x in (inputs, targets)]
    self._lengths = Lengths(
      min(longest[0], model.lengths.inputs),
      min(longest[1], model.lengths.targets),
    )
    self._rows = 0

  def run(self) -> tuple[Adapter, Tuned]:
    pool, how, start = self._task.pool, self._how, self._task.written
    rest, judges = pool.examples, pool.examples
    part = None
    if len(pool.examples) >= LEAST_HELD_OUT:
      part = next(iter(held_out.parts(pool, most=_PARTS)), None)
    if part is not None:
      rest, judges = [pool.examples[row] for row in part.others], part.held
      offer = selection.Offer(pool, part.others)
      read = selection.choose(self._model, [offer], self._select)
      [start] = selection.write(self._model, read)
    self._rows = self._trainer.layout.padded(min(len(rest), how.batch_size))
    curve = self._train(start, rest, how.steps, judges)
    best = curve[-1] if part is None else min(curve, key=lambda x: x.loss)
    tuned = Tuned(
      *(best.step, how.steps, self._rate, self._rows, how.seed, how.metric),
      *(len(pool.examples), 0 if part is None else len(judges)),
      tuple((x.step, x.loss) for x in curve),
      before=self._scores(start, judges),
      after=self._scores(best.of(start), judges),
    )
    kept = best
    if part is not None:  # the same with all examples
      kept = self._train(self._task.written, pool.examples, best.step)[-1]
    return _told(kept.of(self._task.written), tuned), tuned

  def _train(
    self,
    start: Adapter,
    given: Sequence[Example],
    steps: int,
    judges: Sequence[Example] | None = None,
  ) -> "list[_Look]":
    """Looks at an adapter as it is trained on examples, the first before it is.

    Of `judges` the loss is looked at, and training ends where that has got no better
    for a while, unless they are what is trained on. Without, there is but the last.
    """
    if not steps:
      return [_Look(0, math.nan, start.arrays)]
    apart = steps if judges is None else max(1, steps // _LOOKS)
    looks, is_judged = [], judges is not None and judges is not given
    params = {"adapters": adapters.as_params(start.arrays)}
    with (
      self._model.backbone.lent() as lent,
      program.advising(
        f"training an adapter further, {self._rows} examples at a time",
        "leave --steps out, or give shorter examples",
      ),
    ):
      given_params = (params, {"backbone": lent.params})
      state = self._trainer.init(self._how.seed, given_params)
      for step in range(steps + 1):
        if step in (0, steps) or step % apart == 0:
          looks.append(self._look(step, state, start, judges or given))
        if step == steps or (is_judged and _is_over(looks)):
          break
        state, _ = self._trainer.train_step(
          state, self._placed(self._batch(given, step))
        )
      lent.params = state.frozen["backbone"]
    return looks

  def _look(
    self,
    step: int,
    state: TrainState,
    start: Adapter,
    judges: Sequence[Example],
  ) -> "_Look":
    total, weight = 0.0, 0.0
    for first in range(0, len(judges), self._rows):
      batch = self._rows_of(judges[first : first + self._rows])
      found = self._trainer.eval_step(state, self._placed(batch))["loss"]
      total, weight = total + float(found[0]), weight + float(found[1])
    loss = total / weight
    if not math.isfinite(loss):
      raise ValueError(
        f"after {step} steps at --learning_rate {self._rate:g} the loss of examples "
        f"is {loss}: a lower rate is needed"
      )
    like = jax.tree.map(lambda x: x.dtype, start.arrays)
    own = adapters.from_params(state.params["adapters"], start.arrays)
    arrays = jax.tree.map(
      lambda x, dtype: np.asarray(x).astype(dtype), jax.device_get(own), like
    )
    return _Look(step, loss, arrays)

  def _ids(self, example: Example) -> tuple[np.ndarray, np.ndarray]:
    """Its input as the T5 reads it, and its output, neither padded."""
    own, model = self._task.written, self._model
    target = np.asarray(model.encode(example.output), np.int32)
    eos_id = int(target[-1])
    return (
      model.read(example.input, own).ids,
      trim(target, model.lengths.targets, eos_id),
    )

  def _batch(self, given: Sequence[Example], step: int) -> Batch:
    """The examples of a step: each once in an epoch, in an order of its own."""
    some = []
    for count in range(step * self._rows, (step + 1) * self._rows):
      epoch, position = divmod(count, len(given))
      order = _order(self._how.seed, epoch, len(given))
      some.append(given[order[position]])
    return self._rows_of(some)

  def _rows_of(self, some: Sequence[Example]) -> Batch:
    """Examples as rows; those that are lacking are there and weigh nothing."""
    filled = [*some, *[some[-1]] * (self._rows - len(some))]
    inputs, targets = zip(*(self._read[x] for x in filled), strict=True)
    batch = assemble(
      [Context(inputs, targets)],
      self._lengths,
      self._model.backbone.config.pad_id,
    )
    is_there_B1 = np.arange(self._rows)[:, None] < len(some)
    weights_BT = batch.decoder_loss_weights * is_there_B1
    return dataclasses.replace(batch, decoder_loss_weights=weights_BT)

  def _placed(self, batch: Batch) -> Batch:
    return self._trainer.layout.place(batch)

  def _scores(self, adapter: Adapter, some: Sequence[Example]) -> Scores:
    asked = [asking.Asked(example, adapter) for example in some]
    found = asking.answer(self._model, asked, self._how.batch_size)
    score = text_metrics.METRICS[self._how.metric]
    return Scores(
      round(
        _mean(
          score(x.text, [y.output]) for x, y in zip(found, some, strict=True)
        ),
        _DIGITS,
      ),
      round(_mean(x.log_likelihood for x in found), _DIGITS),
    )


class _Look(NamedTuple):
  """An adapter after some steps, and the loss of those that judge it."""

  step: int
  loss: float  # nats a target token
  arrays: adapters.Adapters

  def of(self, start: Adapter) -> Adapter:
    """The adapter that began as `start`."""
    return dataclasses.replace(start, arrays=self.arrays, encoded=None)


def _is_over(looks: Sequence[_Look]) -> bool:
  """Whether the last few were no better than one before them."""
  best = min(range(len(looks)), key=lambda i: looks[i].loss)
  return len(looks) - 1 - best >= _PATIENCE


def _mean(numbers: Iterable[float]) -> float:
  return float(np.mean(list(numbers)))


@functools.lru_cache(maxsize=8)
def _order(seed: int, epoch: int, count: int) -> list[int]:
  return np.random.default_rng((seed, epoch)).permutation(count).tolist()


def _told(adapter: Adapter, tuned: Tuned) -> Adapter:
  """An adapter whose origin says what became of it."""
  origin = {**adapter.info.origin, FURTHER: tuned.as_json()}
  info = dataclasses.replace(adapter.info, origin=origin)
  return dataclasses.replace(adapter, info=info)
