"""Evaluation on tasks from demonstrations, with controls.

Generated adapters can ignore what they were made from. So besides the right
demonstrations the same targets are decoded without any adapter, and with the
demonstrations of another task: a hypermodel that reads its input does badly
then, and right by the other task wherever that task's own answer is known.
"""

import dataclasses
from typing import Any

import numpy as np

from hyperjax.evaluation import answering, groups, questions, rank, timing
from hyperjax.evaluation.answered import Answered
from hyperjax.evaluation.asked import Asked
from hyperjax.evaluation.progress import Progress
from hyperjax.models import decoding
from hyperjax.models.problems import Problem
from hyperjax.scores.columns import DRIFT
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
    if problem.num_tasks > 1:
      raise ValueError(
        f"evaluation {evaluation.name!r}: {problem.num_tasks} tasks with an "
        "adapter each are scored by curves.TaskCurves"
      )
    self._questions = questions.Questions(evaluation, problem)
    self.tasks = self._questions.tasks
    decoder, vocabulary = evaluation.decoder, self._questions.vocabulary
    if isinstance(decoder, rank.Rank):
      # Where it is None every row is ranked.
      decoder = decoder.free_form or decoding.Greedy
    answerers = answering.Answerers(
      problem,
      layout,
      decoder,
      None if vocabulary is None else vocabulary.size,
    )
    self._groups = groups.Groups(
      evaluation, self._questions, answerers, problem, layout
    )

  def settings(self) -> dict[str, Any]:
    """All that decides the answers besides the weights, as JSON values."""
    asked = self.evaluation.describe()["settings"]
    return {
      name: value
      for name, value in asked.items()
      if name not in groups.SETTINGS  # they change nothing but rounding
    } | {"data": self._questions.digest(), **self._groups.facts}

  def run(
    self,
    params: Any,
    frozen: Any,
    answered: Answered | None = None,
    is_shown: bool = False,
  ) -> list[Answer]:
    """Every target's answers, in the order of tasks, draws and rows.

    Args:
      params: trained ones.
      frozen: the others.
      answered: where tasks are kept as they are answered, and those that were.
      is_shown: whether it says where it stands.

    Raises:
      OutOfMemory: rows of `tokens_per_batch` do not fit; it says how many do.
    """
    asked = self._questions
    found = self._run(params, frozen, answered, is_shown, asks_losses=False)
    answers = []
    for unit in asked.units:
      for row in unit.rows.tolist():
        answer = asked.answer(unit, row)
        for control, own in found.get((unit.task, unit.draw, row), {}).items():
          if control == DRIFT:
            answer.drift = own
          else:
            self._put(answer, control, own)
        answers.append(((unit.task, unit.draw, row), answer))
    return [answer for _, answer in sorted(answers, key=lambda x: x[0])]

  def target_losses(
    self,
    params: Any,
    frozen: Any,
    answered: Answered | None = None,
    is_shown: bool = False,
  ) -> dict[str, dict[str, float]]:
    """Under each control, each task's mean loss of a target token.

    Arguments and errors are those of `run`.
    """
    found = self._run(params, frozen, answered, is_shown, asks_losses=True)
    sums: dict[tuple[str, str], np.ndarray] = {}
    for (task, _, _), own in sorted(found.items()):
      for control, pair in own.items():
        key = control, self.tasks[task].name
        sums[key] = sums.get(key, 0) + np.asarray(pair)
    means: dict[str, dict[str, float]] = {
      control: {} for control in self._questions.controls
    }
    for (control, task), (loss, weight) in sums.items():
      means[control][task] = float(loss / weight)
    return means

  def _run(
    self,
    params: Any,
    frozen: Any,
    answered: Answered | None,
    is_shown: bool,
    asks_losses: bool,
  ) -> groups.ByTarget:
    done = 0 if answered is None else answered.num_tasks
    rows = [0] * len(self.tasks)
    asked = self._questions
    for unit in asked.units:
      own = (len(asked.rows(unit, control)) for control in asked.controls)
      rows[unit.task] += sum(own)
    name = self.evaluation.name
    if asks_losses:
      name += ", losses"
    progress = Progress(
      name, len(rows), sum(rows), done, sum(rows[:done]), is_shown
    )
    stopwatch = timing.Stopwatch()
    if not asks_losses:
      self.stopwatch = stopwatch
    with progress:
      return self._groups.run(
        params, frozen, answered, progress, stopwatch, asks_losses
      )

  def _put(self, answer: Answer, control: str, found: Any) -> None:
    """What was decoded, or the likelihoods of its choices."""
    if isinstance(found, str):
      answer.predictions[control] = found
      return
    decoder, ranking = self.evaluation.decoder, Ranking(**found)
    assert isinstance(decoder, rank.Rank)  # there is a ranking
    assert answer.choices
    answer.predictions[control] = answer.choices[
      ranking.best(decoder.per_token)
    ]
    answer.rankings[control] = dict(found)
