"""Answers to targets, their scores, and the files that hold both."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperjax import paths
from hyperjax.scores import (
  columns,
  intervals,
  official_report,
  text_metrics,
)
from hyperjax.scores.columns import AGAINST_OTHER, OTHER, RIGHT
from hyperjax.scores.ranking import Ranking

if TYPE_CHECKING:
  from hyperjax.data.store.store import Task

_WIDTH = 24  # of a score with its interval


@dataclasses.dataclass
class Answer:
  """One target with what was answered under each control."""

  task: str
  row: int
  draw: int  # of demonstrations
  input: str
  target: str
  references: list[str]  # every right answer
  demonstrations: list[list[str]]  # [input, output] each
  other_task: str | None = None
  other_references: list[str] | None = None  # the other task's, same input
  predictions: dict[str, str] = dataclasses.field(default_factory=dict)
  category: str | None = None
  task_type: str | None = None  # MetaICL's
  choices: list[str] | None = None
  is_correct: list[bool] | None = None  # of each choice, where more may be
  weight: float = 1.0
  instruction: str | None = None  # where a model has read it
  # What stands for the target where labels are replaced, and is right then.
  relabelled: str | None = None
  drift: float | None = None  # of its adapter, nats a token of unrelated text
  # Of each control where choices were ranked: `ranking.Ranking` as JSON.
  rankings: dict[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def agrees_with_other(self) -> bool:
    """Whether the other task has the same answer for this input."""
    theirs = self.other_references
    return bool(theirs) and text_metrics.equal(theirs[0], self.references) > 0

  def references_under(self, control: str) -> list[str]:
    """Every answer that is right under a control.

    A choice that was ranked stands there in the task's own words.
    """
    is_replaced = columns.base(control) == columns.RELABELLED
    if not is_replaced or self.relabelled is None or control in self.rankings:
      return self.references
    return [self.relabelled]


@dataclasses.dataclass(frozen=True)
class Scored:
  """One answer in one column of the table, by every metric."""

  answer: Answer
  column: str
  values: dict[str, float]


def scored(answers: Sequence[Answer], metrics: Sequence[str]) -> list[Scored]:
  """Every answer under each control, by each metric.

  Under "other" only targets count whose answer differs from the other task's,
  where that is known; `AGAINST_OTHER` scores those by the other's answer.
  """
  found = []
  for answer in answers:
    for control, prediction in answer.predictions.items():
      if control == OTHER and answer.agrees_with_other:
        continue
      right = [(control, answer.references_under(control))]
      if control == OTHER and answer.other_references is not None:
        right.append((AGAINST_OTHER, answer.other_references))
      for column, references in right:
        values = {
          name: text_metrics.METRICS[name](prediction, references)
          for name in metrics
        }
        found.append(Scored(answer, column, values))
  return found


def summarize(found: Sequence[Scored]) -> dict[str, dict[str, float]]:
  """Mean of each metric in each column, and over how many answers."""
  summary = {}
  for column, own in _by(found, lambda one: one.column).items():
    summary[column] = {"targets": len(own)} | {
      name: float(np.mean([one.values[name] for one in own]))
      for name in own[0].values
    }
  return summary


def with_intervals(found: Sequence[Scored]) -> dict[str, Any]:
  """Means over tasks of each column, and of what the right ones gain over it.

  Both with their intervals. A gain is over the same targets and draws, so it is
  far surer than two means apart. Where labels are replaced the right ones are
  those with demonstrations whose labels are replaced alike.
  """
  right = {
    (one.column, *_target(one)): one
    for one in found
    if one.column == columns.base(one.column)
  }
  means: dict[str, Any] = {}
  gains: dict[str, Any] = {}
  for column, own in _by(found, lambda one: one.column).items():
    for name in own[0].values:
      values = [(one.answer, one.values[name]) for one in own]
      means.setdefault(column, {})[name] = interval(values)
      base = columns.base(column)
      held = [(one, right.get((base, *_target(one)))) for one in own]
      paired = [
        (one.answer, before.values[name] - one.values[name])
        for one, before in held
        if before is not None
      ]
      if column not in (base, AGAINST_OTHER) and paired:
        gains.setdefault(column, {})[name] = interval(paired)
  return {"intervals": means, "gains": gains}


def _drift(answers: Sequence[Answer]) -> dict[str, Any]:
  """How far adapters move the T5 on unrelated text, where that was measured."""
  moved = [(own, own.drift) for own in answers if own.drift is not None]
  return {"drift": interval(moved)} if moved else {}


def interval(values: Sequence[tuple[Answer, float]]) -> dict[str, Any]:
  """Of the mean over tasks and draws, from a value for each answer."""
  draws: dict[str, dict[int, list[float]]] = {}
  for answer, value in values:
    draws.setdefault(answer.task, {}).setdefault(answer.draw, []).append(value)
  means = {
    task: [float(np.mean(own)) for own in by_draw.values()]
    for task, by_draw in draws.items()
  }
  return dataclasses.asdict(intervals.bootstrap(means))


def _target(one: Scored) -> tuple[str, int, int]:
  return one.answer.task, one.answer.row, one.answer.draw


def rank_accuracy(answers: Sequence[Answer]) -> dict[str, dict[str, float]]:
  """Accuracy of ranked choices under each control, by either score."""
  ways = {"by_sum": False, "per_token": True}
  right: dict[str, dict[str, list[float]]] = {}
  for answer in answers:
    for control, found in answer.rankings.items():
      assert answer.choices  # they have been ranked
      own = right.setdefault(control, {name: [] for name in ways})
      for name, per_token in ways.items():
        chosen = answer.choices[Ranking(**found).best(per_token)]
        own[name].append(text_metrics.equal(chosen, answer.references))
  return {
    control: {name: float(np.mean(values)) for name, values in own.items()}
    for control, own in right.items()
  }


def score_by_seqio(
  answers: Sequence[Answer], tasks: Mapping[str, "Task"]
) -> dict[str, dict[str, dict[str, float]]]:
  """By task and control, the metrics that seqio tasks were registered with."""
  scores: dict[str, dict[str, dict[str, float]]] = {}
  for name, own in _grouped(answers, "task").items():
    scoring = tasks[name].scoring
    if scoring is None:
      continue
    records = [tasks[name].rows.record(answer.row) for answer in own]
    scores[name] = {
      control: scoring.score(
        [answer.predictions[control] for answer in own],
        [answer.target for answer in own],
        records,
      )
      for control in own[0].predictions
      if columns.base(control) == columns.RIGHT  # with labels of its own
    }
  return scores


def write(
  folder: pathlib.Path,
  name: str,
  metrics: Sequence[str],
  answers: Sequence[Answer],
  tasks: "Sequence[Task]",
  facts: Mapping[str, Any],
  own_figures: Callable[[Sequence[Answer]], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
  """Writes an evaluation's predictions and scores; returns the scores.

  With `own_figures` those of a benchmark under each control, too. Predictions are
  on the disk before anything is computed of them.

  `NAME-predictions.jsonl` has a line for each target with every control's
  answer, `NAME-results.json` the scores overall, by category and by task.
  """
  folder.mkdir(parents=True, exist_ok=True)
  lines = [
    json.dumps(dataclasses.asdict(answer), ensure_ascii=False) + "\n"
    for answer in answers
  ]
  paths.replace(folder / f"{name}-predictions.jsonl", "".join(lines))
  by_task = _grouped(answers, "task")
  found = scored(answers, metrics)
  by_category = _by(found, lambda one: one.answer.category)
  results = {
    "name": name,
    **facts,
    "num_tasks": len(by_task),
    "metrics": list(metrics),
    "scores": summarize(found),
    **with_intervals(found),
    **_drift(answers),
    "tasks": {
      task: summarize(own)
      for task, own in _by(found, lambda one: one.answer.task).items()
    },
  }
  if by_category:
    results["categories"] = {
      category: summarize(own) for category, own in by_category.items()
    }
  if any(answer.rankings for answer in answers):
    results["rank_accuracy"] = rank_accuracy(answers)
    for task, own in by_task.items():
      if any(answer.rankings for answer in own):
        results["tasks"][task]["rank_accuracy"] = rank_accuracy(own)
  if own_figures is not None:
    results["official"] = {
      control: figures.content()
      for control, figures in own_figures(answers).items()
    }
  by_seqio = score_by_seqio(answers, {task.name: task for task in tasks})
  if by_seqio:
    results["seqio_metrics"] = by_seqio
  content = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
  paths.replace(folder / f"{name}-results.json", content)
  return results


def table(results: Mapping[str, Any]) -> str:
  """Scores of an evaluation as lines of text."""
  labels = {
    **results["conditions"],
    AGAINST_OTHER: "  ... scored by that task",
  }
  names = results["metrics"]
  head = "".join(f"{name:>{_WIDTH}}" for name in names)
  lines = [
    f"{results['name']}: {results['num_tasks']} tasks, step {results['step']}",
    f"  {'answered from':32}{head}{'targets':>10}",
  ]
  for column, label in labels.items():
    if column in results["scores"]:
      values = results["scores"][column]
      bounds = results["intervals"][column]
      shown = "".join(
        f"{100 * values[name]:.1f} {_bounds(bounds[name])}".rjust(_WIDTH)
        for name in names
      )
      lines.append(f"  {label:32}{shown}{values['targets']:10}")
  lines.append("  [ ]: 95% interval of the mean over tasks and draws")
  if "drift" in results:
    found = results["drift"]
    low, high = found["low"], found["high"]
    lines.append(
      f"  drift on unrelated text: {found['mean']:.4f} nats a token "
      f"[{low:.4f}, {high:.4f}]"
    )
  if RIGHT in results.get("official", {}):
    lines += ["", official_report.headline(results["official"][RIGHT])]
  return "\n".join(lines)


def _bounds(interval: Mapping[str, Any]) -> str:
  low, high = 100 * interval["low"], 100 * interval["high"]
  return f"[{low:5.1f}, {high:5.1f}]"


def _by(
  found: Sequence[Scored], key: Callable[[Scored], str | None]
) -> dict[str, list[Scored]]:
  """In groups, sorted by their names; what has none is left out."""
  groups: dict[str, list[Scored]] = {}
  for one in found:
    name = key(one)
    if name is not None:
      groups.setdefault(name, []).append(one)
  return dict(sorted(groups.items()))


def _grouped(answers: Sequence[Answer], field: str) -> dict[str, list[Answer]]:
  """Answers by task or category, sorted; those without one are left out."""
  groups: dict[str, list[Answer]] = {}
  for answer in answers:
    if getattr(answer, field) is not None:
      groups.setdefault(getattr(answer, field), []).append(answer)
  return dict(sorted(groups.items()))
