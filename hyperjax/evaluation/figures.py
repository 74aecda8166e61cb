"""A benchmark's own figures of an evaluation's answers.

The definitions are those of `hyperjax score`, for the same numbers whoever made
the predictions.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from hyperjax import checks
from hyperjax.evaluation.official import metaicl, p3, sni
from hyperjax.scores import official_report
from hyperjax.scores.results import Answer


class Figures(Protocol):
  """How one benchmark counts."""

  def of(
    self, answers: Sequence[Answer], control: str
  ) -> official_report.Report:
    """Figures of what was answered under a control.

    Raises:
      ValueError: the answers lack what the benchmark counts by.
    """
    ...


@dataclasses.dataclass(frozen=True)
class SuperNaturalInstructions:
  """ROUGE-L and exact match overall, by category and by task."""

  def of(
    self, answers: Sequence[Answer], control: str
  ) -> official_report.Report:
    predictions, references = {}, {}
    for answer in answers:
      key = f"{answer.task}, row {answer.row}, draw {answer.draw}"
      predictions[key] = answer.predictions[control]
      references[key] = sni.Reference(
        answer.references, answer.task, answer.category
      )
    return sni.score_predictions(predictions, references)


class Targets(Protocol):
  """The data set, which knows the targets of unseen domains."""

  def unseen_domain_tasks(self) -> Sequence[str]: ...


@dataclasses.dataclass(frozen=True)
class MetaICL:
  """Macro-F1 or accuracy, over tasks and draws of demonstrations (seeds)."""

  data_set: Targets
  seeds: Sequence[checks.Seed]  # of the draws, in their order

  def __post_init__(self):
    checks.fields(self)

  def of(
    self, answers: Sequence[Answer], control: str
  ) -> official_report.Report:
    runs: dict[tuple[str, str], metaicl.Run] = {}
    for answer in answers:
      if answer.task_type is None:
        raise ValueError(
          f"{answer.task}, row {answer.row}: no task_type says whether macro-F1 "
          "or accuracy counts"
        )
      key = (answer.task, str(self.seeds[answer.draw]))
      run = runs.setdefault(key, metaicl.Run(answer.task, answer.task_type))
      truths: Any = answer.references
      run.predictions.append(answer.predictions[control])
      run.truths.append(truths[0] if len(truths) == 1 else truths)
    tasks = {task for task, _ in runs}
    unseen = [x for x in self.data_set.unseen_domain_tasks() if x in tasks]
    return metaicl.score_runs(runs, unseen=unseen)


@dataclasses.dataclass(frozen=True)
class P3:
  """Accuracy of ranked choices by template, data set, and over data sets."""

  prefix: str = "p3_"  # of seqio's names

  def __post_init__(self):
    checks.fields(self)

  def of(
    self, answers: Sequence[Answer], control: str
  ) -> official_report.Report:
    tasks: dict[str, dict[int, dict[int, p3.Choice]]] = {}
    for answer in answers:
      where = f"{answer.task}, row {answer.row}"
      if control not in answer.rankings or answer.is_correct is None:
        raise ValueError(
          f"{where}: its choices were not ranked (FewShotEvaluation.decoder), or "
          "which of them are correct is not known"
        )
      examples = tasks.setdefault(answer.task.removeprefix(self.prefix), {})
      ranking = answer.rankings[control]
      examples[len(examples)] = {
        i: p3.Choice(where, is_correct, score, answer.weight, length)
        for i, (is_correct, score, length) in enumerate(
          zip(
            answer.is_correct,
            ranking["log_likelihoods"],
            ranking["num_tokens"],
            strict=True,
          )
        )
      }
    return p3.score_tasks(tasks)
