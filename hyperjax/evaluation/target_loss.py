"""Loss of the targets of unseen tasks under each control, with intervals.

Greedy answers of a small model hide what it has learnt: while its likeliest answer
is the same for every task, what it thinks of the right one may already differ.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from hyperjax import paths
from hyperjax.scores import columns, intervals

ByTask = Mapping[str, float]


def describe(means: Mapping[str, ByTask]) -> dict[str, Any]:
  """Means over tasks with intervals, and of how much lower the loss is with
  right demonstrations, task by task.
  """
  described = {}
  for control, own in means.items():
    right = means.get(columns.base(control), own)
    gains = {task: own[task] - right[task] for task in own if task in right}
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
    if control == columns.base(control):
      cells[1] = ""
    lines.append(f"| {control} | {' | '.join(cells)} |")
  return "\n".join(lines)


def write(
  folder: pathlib.Path, name: str, described: Mapping[str, Any]
) -> None:
  """Writes NAME-loss.json, and prints its table."""
  path = folder / f"{name}-loss.json"
  paths.replace(path, json.dumps(described, indent=1) + "\n")
  print(f"{path}\n\n{table(described)}", flush=True)
