"""Tasks answered in groups: adapters written once, rows in batches that fit."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from hyperjax import batch
from hyperjax.adapters import Adapters
from hyperjax.evaluation import (
  advice,
  answering,
  batching,
  drift,
  questions,
  targets,
  timing,
)
from hyperjax.evaluation.answered import Answered, Found
from hyperjax.evaluation.asked import Asked
from hyperjax.evaluation.batching import Shape
from hyperjax.evaluation.progress import Progress
from hyperjax.evaluation.targets import Target
from hyperjax.models import decoding, forward
from hyperjax.models.problems import Problem
from hyperjax.scores import columns
from hyperjax.scores.ranking import Ranking
from hyperjax.sharding import Layout

# Fields of `Asked` that change what is answered together, and no answer.
SETTINGS = (
  "rows_per_context",
  "contexts_per_batch",
  "tokens_per_batch",
  "least_length",
)
# Batches' worth of tokens that make a group: of more, a larger part of what is
# answered is lost with a kill; of fewer, more batches are the last and not full.
_BATCHES = 4

# By task, draw and row, what was found under each control, as JSON.
ByTarget = dict[tuple[int, int, int], dict[str, Any]]


class Groups:
  """Answers the questions of an evaluation, group by group."""

  def __init__(
    self,
    evaluation: Asked,
    asked: questions.Questions,
    answerers: answering.Answerers,
    problem: Problem,
    layout: Layout,
  ):
    """Answers nothing yet."""
    self._evaluation, self._questions = evaluation, asked
    self._answerers, self._problem = answerers, problem
    self._layout, self._lengths = layout, asked.lengths
    self._pad_id = problem.backbone.pad_id
    self._budget = batching.Budget(
      evaluation.tokens_per_batch, layout.data_parallel
    )
    self._adapted = self._budget.under(getattr(problem, "adapters", None))
    self._drift = drift.Drift(
      *(evaluation, asked.tasks, answerers.predictor, layout),
      problem.backbone.pad_id,
    )
    self._compiled: set[Any] = set()
    self._progress = Progress(evaluation.name, 0, 0, is_shown=False)
    self._stopwatch = timing.Stopwatch()

  @property
  def facts(self) -> dict[str, str]:
    """What decides answers besides questions: hashes, as JSON values."""
    texts = self._drift.texts
    found = hashlib.sha256(b" ".join(texts)).hexdigest()
    return {"unrelated_text": found} if texts else {}

  def run(
    self,
    params: Any,
    frozen: Any,
    answered: Answered | None,
    progress: Progress,
    stopwatch: timing.Stopwatch,
    asks_losses: bool = False,
  ) -> ByTarget:
    """What was found for every target under each control.

    A text where it is decoded, a `Ranking` as a dictionary where choices are
    ranked; with `asks_losses` the loss and the tokens of the target itself.
    """
    self._stopwatch, self._progress = stopwatch, progress
    found: ByTarget = {}
    done = 0
    if answered is not None:
      done = answered.num_tasks
      for task, before in enumerate(answered.found):
        found |= {(task, draw, row): each for draw, row, each in before}
    if done == len(self._questions.tasks):
      return found
    by_control = self._by_control(params, frozen)
    for tasks in self._tasks():
      # A group of which some tasks are done is answered again as a whole, so that
      # the others are as they would have been.
      new = [task for task in tasks if task >= done]
      if not new:
        continue
      own: ByTarget = {}
      if before := [each for key, each in found.items() if key[0] in tasks]:
        progress.again(sum(len(x.keys() - {columns.DRIFT}) for x in before))
      for units in self._units(tasks):
        self._answer(own, units, by_control, asks_losses)
      found |= {key: each for key, each in own.items() if key[0] in new}
      progress.add(0, len(new))
      if answered is not None:
        answered.add(_of_task(own, task) for task in new)
    return found

  def _tasks(self) -> Iterator[range]:
    """Tasks whose rows are answered together."""
    sizes = [(0, 0)] * len(self._questions.tasks)
    for unit in self._questions.units:
      contexts, tokens = sizes[unit.task]
      own = self._questions.num_tokens(unit)
      sizes[unit.task] = contexts + 1, tokens + own
    most = self._layout.padded(self._evaluation.contexts_per_batch)
    return batching.groups(sizes, most, _BATCHES * self._budget.total)

  def _units(self, tasks: range) -> Iterator[list[questions.Unit]]:
    """Units whose adapters are written together, all ranked or all decoded."""
    for is_ranked in (True, False):
      own = [
        unit
        for unit in self._questions.units
        if unit.task in tasks and unit.is_ranked == is_ranked and len(unit.rows)
      ]
      for first in range(0, len(own), self._num_contexts):
        yield own[first : first + self._num_contexts]

  @property
  def _num_contexts(self) -> int:
    """Whose demonstrations are read together at most."""
    most = self._layout.padded(self._evaluation.contexts_per_batch)
    return self._budget.contexts(self._lengths.read_tokens, most)

  def _by_control(
    self, params: Any, frozen: Any
  ) -> dict[str, answering.Answering]:
    """What answers under each control."""
    means = {
      control: self._mean(columns.MEANS[control], params, frozen)
      for control in self._questions.controls
      if control in columns.MEANS
    }
    return {
      control: self._answerers.of(control, params, frozen, means.get(control))
      for control in self._questions.controls
    }

  def _mean(self, control: str, params: Any, frozen: Any) -> Adapters:
    """Of the adapters of all tasks and draws that are asked under a control."""
    units = {
      (unit.task, unit.draw): unit
      for unit in self._questions.units
      if len(self._questions.rows(unit, control))
    }
    mean, contexts = answering.Mean(), list(units.values())
    for first in range(0, len(contexts), self._num_contexts):
      some = contexts[first : first + self._num_contexts]
      shown = self._shown(some, control)
      counts = (np.arange(len(shown)) < len(some)).astype(np.float32)
      with advice.of_contexts():
        self._answerers.add(mean, params, frozen, shown, counts)
    return mean.value

  def _shown(self, units: Sequence[questions.Unit], control: str) -> np.ndarray:
    """Demonstrations of a power of two of contexts; the last one is repeated."""
    read = [self._questions.shown(unit, control) for unit in units]
    size = self._layout.padded(batch.power_of_two(len(read)))
    longest = max(len(ids) for own in read for ids in batch.sequences(own))
    lengths = dataclasses.replace(
      self._lengths,
      demonstrations=batching.padded(
        longest,
        self._evaluation.least_length,
        self._lengths.demonstrations,
      ),
    )
    filled = [*read, *read[-1:] * (size - len(read))]
    return batch.pad_demonstrations(filled, lengths, self._pad_id)

  def _answer(
    self,
    found: ByTarget,
    units: Sequence[questions.Unit],
    by_control: dict[str, answering.Answering],
    asks_losses: bool,
  ) -> None:
    """Adds what units are answered under each control, adapters written once."""
    for control, own in by_control.items():
      read = targets.read(self._questions, units, asks_losses, control)
      if not read:
        continue
      shown = None
      if own.has_own_adapters:
        shown = self._shown(units, control)
      with self._stopwatch.lap(control, 0), advice.of_contexts():
        written = jax.block_until_ready(own.write(shown))
      if control == columns.RIGHT and self._drift and not asks_losses:
        self._add_drift(found, units, own, written)
      given = read
      if self._are_joined(control):
        demonstrations = [self._questions.shown(x, control) for x in units]
        given = targets.in_front(demonstrations, read)
      padding = self._lengths, self._evaluation.least_length, own.num_beams
      rows = [
        batching.Row(x.context, i, targets.shape(x, *padding))
        for i, x in enumerate(given)
      ]
      budget = self._budget_of(control)
      for some in batching.together(rows, budget, own.has_own_adapters):
        values = self._ask(own, control, written, given, some)
        for target, value in values:
          key = target.unit.task, target.unit.draw, target.row
          if asks_losses:
            value = [-value["log_likelihoods"][0], value["num_tokens"][0]]
          found.setdefault(key, {})[control] = value

  def _add_drift(
    self,
    found: ByTarget,
    units: Sequence[questions.Unit],
    own: answering.Answering,
    written: Adapters,
  ) -> None:
    """To each target that of the adapters with which it is answered."""
    if not self._problem.has_adapters:
      return
    count = drift.contexts(written, self._layout)
    by_context = self._drift.of(own.backbone, written, count).tolist()
    for context, unit in enumerate(units):
      value = by_context[context if own.has_own_adapters else 0]
      for row in unit.rows.tolist():
        key = unit.task, unit.draw, row
        found.setdefault(key, {})[columns.DRIFT] = value

  def _budget_of(self, control: str) -> batching.Budget:
    is_plain = control in (columns.NONE, columns.IN_INPUT)
    return self._budget if is_plain else self._adapted

  def _are_joined(self, control: str) -> bool:
    return answering.reads_in_input(self._problem, control)

  def _ask(
    self,
    own: answering.Answering,
    control: str,
    written: Adapters,
    given: Sequence[Target],
    some: batching.Together,
  ) -> Iterator[tuple[Target, Any]]:
    """What a batch is answered, with the target of each."""
    filled, shape = [given[row.number] for row in some.rows], some.shape
    budget = self._budget_of(control)
    with (
      self._timed(control, some, filled[0]),
      advice.of_rows(budget, shape, self._are_joined(control)),
    ):
      setting = own.setting(
        batch.pad([x.inputs for x in filled], shape.input_length, self._pad_id),
        written,
        np.asarray(some.contexts, np.int32),
      )
      values = self._values(own, setting, filled, shape)
    self._progress.add(len(some.places))
    for place in some.places:
      yield filled[place], values[place]

  def _values(
    self,
    own: answering.Answering,
    setting: forward.Setting,
    filled: Sequence[Target],
    shape: Shape,
  ) -> list[Any]:
    if filled[0].outputs is None:
      numbers = np.asarray([x.number for x in filled], np.uint32)
      tokens = own.decode(
        setting,
        shape.output_length,
        self._evaluation.seed,
        numbers.astype(np.int32),
      )
      config = self._problem.backbone
      return [
        self._questions.decode(decoding.written(config, ids)) for ids in tokens
      ]
    outputs = [x.outputs or [] for x in filled]
    padded = [
      ids
      for each in outputs
      for ids in [*each, *[[]] * (shape.outputs - len(each))]
    ]
    sums = own.log_likelihood(
      setting, batch.pad(padded, shape.output_length, self._pad_id)
    )
    sums_BA = sums.reshape(len(filled), shape.outputs)
    return [
      dataclasses.asdict(
        Ranking(found[: len(each)].tolist(), [len(ids) for ids in each])
      )
      for found, each in zip(sums_BA, outputs, strict=True)
    ]

  @contextlib.contextmanager
  def _timed(
    self, control: str, some: batching.Together, first: Target
  ) -> Iterator[None]:
    """Within it a batch is answered, and perhaps compiled for."""
    program = (
      first.outputs is None,
      some.shape,
      len(some.rows),
      len(some.contexts),
      control in (columns.NONE, columns.IN_INPUT),
      control in columns.MEANS,
    )
    with contextlib.ExitStack() as stack:
      if program not in self._compiled:
        self._compiled.add(program)
        length = f"{some.shape.input_length:,} tokens"
        what = f"{len(some.rows):,} rows of {length}"
        stack.enter_context(self._progress.compiling(what))
      stack.enter_context(self._stopwatch.lap(control, len(some.places)))
      yield


def _of_task(found: ByTarget, task: int) -> Found:
  return [
    (draw, row, own)
    for (of, draw, row), own in sorted(found.items())
    if of == task
  ]
