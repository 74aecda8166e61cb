"""Evaluation on tasks from demonstrations, with controls.

Generated adapters can ignore what they were made from. So besides the right
demonstrations the same targets are decoded without any adapter, and with the
demonstrations of another task: a hypermodel that reads its input does badly
then, and right by the other task wherever that task's own answer is known.
"""

import dataclasses
import functools
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hyperjax import batch
from hyperjax.evaluation import answering, parts, questions, rank, timing
from hyperjax.evaluation.asked import Asked
from hyperjax.models import decoding
from hyperjax.models.problems import Problem
from hyperjax.scores.columns import CONSTANT, RIGHT
from hyperjax.scores.ranking import Ranking
from hyperjax.scores.results import Answer, scored, summarize
from hyperjax.sharding import Layout
from hyperjax.train_state import TrainState
from hyperjax.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class FewShotEvaluation(Asked):
  """What is asked, for a run to answer: its attributes are those of `Asked`."""

  def prepare(self, trainer: Trainer) -> "Hook":
    return Hook(Evaluator(self, trainer.problem, trainer.layout))


class Hook:
  """A `FewShotEvaluation` run on a state while training."""

  def __init__(self, evaluator: "Evaluator"):
    self._evaluator = evaluator

  def run(self, state: TrainState) -> dict[str, float]:
    """Scores by "name/control/metric"."""
    evaluation = self._evaluator.evaluation
    answers = self._evaluator.run(state.params, state.frozen)
    found = summarize(scored(answers, evaluation.metrics))
    return {
      f"{evaluation.name}/{column}/{metric}": scores[metric]
      for column, scores in found.items()
      for metric in evaluation.metrics
    }


class Evaluator:
  """A `FewShotEvaluation` with its data opened and its programs compiled.

  `stopwatch` has how long the answers of the last `run` took.
  """

  def __init__(self, evaluation: Asked, problem: Problem, layout: Layout):
    self.evaluation = evaluation = evaluation.filled(None)
    self.stopwatch = timing.Stopwatch()
    self._layout, self._parts = layout, parts.Parts(evaluation, layout)
    if problem.num_tasks > 1:
      raise ValueError(
        f"evaluation {evaluation.name!r}: {problem.num_tasks} tasks with an "
        "adapter each are scored by curves.TaskCurves"
      )
    if evaluation.contexts_per_batch % layout.data_parallel:
      raise ValueError(
        f"FewShotEvaluation.contexts_per_batch is "
        f"{evaluation.contexts_per_batch}; it must be a multiple of the "
        f"{layout.data_parallel} data-parallel devices"
      )
    self._questions = questions.Questions(evaluation, problem)
    self.tasks = self._questions.tasks
    decoder, vocabulary = evaluation.decoder, self._questions.vocabulary
    if isinstance(decoder, rank.Rank):
      # Where it is None every row is ranked.
      decoder = decoder.free_form or decoding.Greedy
    self._answerers = answering.Answerers(
      problem,
      layout,
      decoder,
      None if vocabulary is None else vocabulary.size,
    )

  def run(self, params: Any, frozen: Any) -> list[Answer]:
    """Every target's answers, in the order of tasks, draws and rows."""
    answers: dict[tuple[int, int, int], Answer] = {}
    self.stopwatch = timing.Stopwatch()
    by_control = self._by_control(params, frozen)
    for units in self._batches():
      for unit in units:
        for row in unit.rows:
          answers[unit.task, unit.draw, int(row)] = self._questions.answer(
            unit, int(row)
          )
      for control, own in by_control.items():
        self._parts.each(
          units, control, functools.partial(self._answer, answers, control, own)
        )
    return [answers[key] for key in sorted(answers)]

  def _answer(
    self,
    answers: Mapping[tuple[int, int, int], Answer],
    control: str,
    own: answering.Answering,
    units: Sequence[questions.Unit],
  ) -> None:
    """What is answered to units under a control, which fit together."""
    num_targets = sum(len(unit.rows) for unit in units)
    asked = self._layout.place(self._whole(units, control))
    if not units[0].is_ranked:
      with self.stopwatch.lap(control, num_targets):
        tokens = own.decode(asked, self.evaluation.seed, self._numbers(units))
      for answer, tokens_T in self._by_answer(answers, units, tokens):
        answer.predictions[control] = self._questions.decode(tokens_T)
      return
    choices, length = self._choices(units), self._questions.lengths.targets
    with self.stopwatch.lap(control, num_targets):
      rankings = own.choose(asked, choices, length)
    for answer, ranking in self._by_answer(answers, units, rankings):
      self._choose(answer, control, ranking)

  def target_losses(
    self, params: Any, frozen: Any
  ) -> dict[str, dict[str, float]]:
    """Under each control, each task's mean loss of a target token."""
    sums: dict[tuple[str, str], np.ndarray] = {}
    by_control = self._by_control(params, frozen)
    for units in self._batches():
      for control, own in by_control.items():
        self._parts.each(
          units, control, functools.partial(self._add, sums, control, own)
        )
    means: dict[str, dict[str, float]] = {control: {} for control in by_control}
    for (control, task), (loss, weight) in sums.items():
      means[control][task] = float(loss / weight)
    return means

  def _add(
    self,
    sums: dict[tuple[str, str], np.ndarray],
    control: str,
    own: answering.Answering,
    units: Sequence[questions.Unit],
  ) -> None:
    """Adds loss and weight of each task's targets among units."""
    whole, size = self._whole(units, control), self._num_rows(units)
    targets_BT = whole.decoder_target_tokens
    likelihoods_B = own.log_likelihood(self._layout.place(whole), targets_BT)
    weights_B = (targets_BT > 0).sum(axis=1)
    for i, unit in enumerate(units):
      key = control, self.tasks[unit.task].name
      rows = slice(i * size, i * size + len(unit.rows))
      pair = np.array([-likelihoods_B[rows].sum(), weights_B[rows].sum()])
      sums[key] = sums.get(key, 0) + pair

  def _batches(self) -> Iterable[list[questions.Unit]]:
    """Units answered together: all of them ranked, or all decoded."""
    size = self.evaluation.contexts_per_batch
    for is_ranked in (True, False):
      own = [x for x in self._questions.units if x.is_ranked == is_ranked]
      for first in range(0, len(own), size):
        yield own[first : first + size]

  def _choose(self, answer: Answer, control: str, ranking: Ranking) -> None:
    decoder = self.evaluation.decoder
    assert isinstance(decoder, rank.Rank)  # there is a ranking
    assert answer.choices
    answer.predictions[control] = answer.choices[
      ranking.best(decoder.per_token)
    ]
    answer.rankings[control] = dataclasses.asdict(ranking)

  def _by_answer(
    self,
    answers: Mapping[tuple[int, int, int], Answer],
    units: Sequence[questions.Unit],
    found: Any,
  ) -> Iterable[tuple[Answer, Any]]:
    """Each unit's answers with what was found for them, padding left out."""
    size = self._num_rows(units)
    for i, unit in enumerate(units):
      own = found[i * size : i * size + len(unit.rows)]
      for row, value in zip(unit.rows, own, strict=True):
        yield answers[unit.task, unit.draw, int(row)], value

  def _by_control(
    self, params: Any, frozen: Any
  ) -> dict[str, answering.Answering]:
    """What answers under each control."""
    asked, constant = self._questions.controls, None
    if CONSTANT in asked:
      units = {(unit.task, unit.draw): unit for unit in self._questions.units}
      mean, size = answering.Mean(), self.evaluation.contexts_per_batch
      contexts = list(units.values())
      for first in range(0, len(contexts), size):
        self._parts.each(
          contexts[first : first + size],
          CONSTANT,
          lambda some: self._answerers.add(mean, params, *self._contexts(some)),
        )
      constant = mean.value
    return {
      control: self._answerers.of(control, params, frozen, constant)
      for control in asked
    }

  def _contexts(
    self, units: Sequence[questions.Unit]
  ) -> tuple[np.ndarray, np.ndarray]:
    """Demonstrations of units, and which of them count."""
    filled = self._filled(units)
    read: list[Any] = [
      self._questions.context(unit, RIGHT).demonstrations for unit in filled
    ]
    padded = batch.pad_demonstrations(read, self._questions.lengths)
    return padded, (np.arange(len(filled)) < len(units)).astype(np.float32)

  def _numbers(self, units: Sequence[questions.Unit]) -> np.ndarray:
    """Of each row's draws, int32 [B]: of its task, draw and row alone."""
    keys = [
      (unit.draw, unit.task, row)
      for unit in self._filled(units)
      for row in self._questions.rows(unit, self._num_rows(units))
    ]
    hashes = [zlib.crc32(np.asarray(key, np.int64).tobytes()) for key in keys]
    return np.asarray(hashes, np.uint32).astype(np.int32)

  def _choices(self, units: Sequence[questions.Unit]) -> list[list[np.ndarray]]:
    """Token ids of the choices of each row, as many for each unit."""
    return [
      self._questions.choice_ids(self.tasks[unit.task], row)
      for unit in self._filled(units)
      for row in self._questions.rows(unit, self._num_rows(units))
    ]

  def _whole(
    self, units: Sequence[questions.Unit], control: str
  ) -> batch.Batch:
    """Units as they are asked under a control, on the host."""
    rows = self._num_rows(units)
    contexts = [
      self._questions.context(unit, control, rows)
      for unit in self._filled(units)
    ]
    return batch.assemble(contexts, self._questions.lengths)

  def _num_rows(self, units: Sequence[questions.Unit]) -> int:
    """Of each unit in a batch: a power of two, or as many as a context holds."""
    longest = max(len(unit.rows) for unit in units)
    return min(batch.power_of_two(longest), self.evaluation.rows_per_context)

  def _filled(self, units: Sequence[questions.Unit]) -> list[questions.Unit]:
    """Units of a batch: a power of two, or as many as it holds.

    The last one is repeated.
    """
    size = self._layout.padded(batch.power_of_two(len(units)))
    size = min(size, self.evaluation.contexts_per_batch)
    return [*units, *[units[-1]] * (size - len(units))]
