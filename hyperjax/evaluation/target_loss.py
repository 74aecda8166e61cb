"""Loss of the targets of unseen tasks under each control, with intervals.

Greedy answers of a small model hide what it has learnt: while its likeliest answer
is the same for every task, what it thinks of the right one may already differ.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperjax.data import files
from hyperjax.evaluation import few_shot
from hyperjax.evaluation.asked import Asked
from hyperjax.evaluation.restored import Restored
from hyperjax.scores import columns, intervals

ByTask = Mapping[str, float]


class Losses(few_shot.Evaluator):
  """An evaluation's targets, scored in place of being answered."""

  def of(self, params: Any, frozen: Any) -> Mapping[str, ByTask]:
    """Under each control, each task's mean loss of a target token."""
    sums: dict[tuple[str, str], np.ndarray] = {}
    by_control = self._by_control(params, frozen)
    for units in self._batches():
      for control, own in by_control.items():
        asked = self._batch(units, control)
        targets_BT = np.asarray(asked.decoder_target_tokens)
        likelihoods_B = own.log_likelihood(asked, targets_BT)
        weights_B = (targets_BT > 0).sum(axis=1)
        size = self.evaluation.rows_per_context
        for i, unit in enumerate(units):
          key = control, self.tasks[unit.task].name
          rows = slice(i * size, i * size + len(unit.rows))
          pair = np.array([-likelihoods_B[rows].sum(), weights_B[rows].sum()])
          sums[key] = sums.get(key, 0) + pair
    means: dict[str, dict[str, float]] = {control: {} for control in by_control}
    for (control, task), (loss, weight) in sums.items():
      means[control][task] = float(loss / weight)
    return means


def describe(means: Mapping[str, ByTask]) -> dict[str, Any]:
  """Means over tasks with intervals, and of how much lower the loss is with
  right demonstrations, task by task.
  """
  right = means[columns.RIGHT]
  described = {}
  for control, own in means.items():
    gains = {task: own[task] - loss for task, loss in right.items()}
    described[control] = {
      "loss": _interval(own),
      "higher_than_right": _interval(gains),
      "tasks": dict(own),
    }
  return described


def _interval(by_task: ByTask) -> dict[str, Any]:
  scores = {task: [value] for task, value in by_task.items()}
  return dataclasses.asdict(intervals.bootstrap(scores))


def table(described: Mapping[str, Any]) -> str:
  """A line for each control, as Markdown."""
  lines = [
    "| answered from | loss | higher than with its own |",
    "|---|---|---|",
  ]
  for control, found in described.items():
    cells = [
      f"{x['mean']:.3f} [{x['low']:.3f}, {x['high']:.3f}]"
      for x in (found["loss"], found["higher_than_right"])
    ]
    if control == columns.RIGHT:
      cells[1] = ""
    lines.append(f"| {control} | {' | '.join(cells)} |")
  return "\n".join(lines)


def of(evaluation: Asked, found: Restored) -> dict[str, Any]:
  """`describe` of what an evaluation's targets have under each control."""
  losses = Losses(evaluation, found.trainer.problem, found.trainer.layout)
  return describe(losses.of(found.params, found.frozen))


def write(
  folder: pathlib.Path, name: str, described: Mapping[str, Any]
) -> None:
  """Writes NAME-loss.json, and prints its table."""
  path = folder / f"{name}-loss.json"
  files.replace(path, json.dumps(described, indent=1) + "\n")
  print(f"{path}\n\n{table(described)}", flush=True)
