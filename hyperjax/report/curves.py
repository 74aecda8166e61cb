"""Learning: loss and scores against steps."""

import re
from collections.abc import Iterable, Sequence

from hyperjax import metrics
from hyperjax.evaluation import columns
from hyperjax.report import beginnings, plots, words
from hyperjax.report.document import Gap, Part, Section
from hyperjax.report.run_files import Run

_MOST_LINES = 8
Curve = list[tuple[float, float]]


def learning(runs: Sequence[Run]) -> Section:
  """Loss of all runs in one picture, then each evaluation's scores."""
  parts: list[Part] = []
  for run in runs:
    if not run.lines:
      parts.append(
        Gap(f"{run.name}: no {metrics.METRICS}, so no learning curve.")
      )
  own = [run for run in runs if run.lines]
  parts += _losses(own)
  for evaluation, metric in _scored(own):
    parts.append(_scores(own, evaluation, metric))
  for name in _held_out(own):
    points = {run.name: curve(run, name) for run in own if curve(run, name)}
    parts.append(
      plots.lines(
        f"{name} while training",
        points,
        "steps",
        name,
        caption="On held-out data.",
        files=_files(run for run in own if run.name in points),
      )
    )
  return Section("Learning", parts)


def _losses(runs: Sequence[Run]) -> list[Part]:
  """A picture for each data that runs were trained on: others do not compare."""
  found: dict[str, list[Run]] = {}
  for run in runs:
    if curve(run, "loss"):
      found.setdefault(words.trained_on(run), []).append(run)
  return [
    plots.lines(
      "Training loss" if len(found) == 1 else f"Training loss on {data}",
      {run.name: curve(run, "loss") for run in own},
      "steps",
      "loss of a target token (nats)",
      caption="The mean over the steps since the line before.",
      files=_files(own),
    )
    for data, own in found.items()
  ]


def curve(run: Run, name: str) -> Curve:
  """A number of `metrics.jsonl` against steps."""
  return [(line["step"], line[name]) for line in run.lines if name in line]


def _keys(runs: Iterable[Run]) -> dict[str, None]:
  """The names of all numbers, each once."""
  return dict.fromkeys(
    key for run in runs for line in run.lines for key in line
  )


def _scored(runs: Sequence[Run]) -> dict[tuple[str, str], None]:
  """Evaluations with controls that ran while training, with their metrics."""
  parts = [key.split("/") for key in _keys(runs)]
  return dict.fromkeys(
    (x[0], x[2]) for x in parts if len(x) == 3 and x[1] in columns.LABELS
  )


def _held_out(runs: Sequence[Run]) -> list[str]:
  """Losses on held-out data, such as "training_eval/loss"."""
  side_by_side = {name for run in runs for name in beginnings.task_curves(run)}
  return [
    key
    for key in _keys(runs)
    if re.fullmatch("[^/]+/loss", key) and key.split("/")[0] not in side_by_side
  ]


def _scores(runs: Sequence[Run], evaluation: str, metric: str) -> Part:
  """A line for each run and column; with many runs for own demonstrations."""
  found: dict[str, Curve] = {}
  for run in runs:
    for column in columns.LABELS:
      points = curve(run, f"{evaluation}/{column}/{metric}")
      if points:
        found[f"{run.name}: {words.answered_from(run, column)}"] = [
          (step, 100 * value) for step, value in points
        ]
  names = [x for x in (run.name for run in runs) if _any_of(x, found)]
  if len(names) == 1:
    found = {x.removeprefix(f"{names[0]}: "): y for x, y in found.items()}
  elif len(found) > _MOST_LINES:
    own = {
      f"{run.name}: {words.answered_from(run, columns.RIGHT)}" for run in runs
    }
    found = {name: x for name, x in found.items() if name in own}
  return plots.lines(
    f"{evaluation}: {words.metric(metric)} while training",
    found,
    "steps",
    words.metric(metric),
    caption="Means over answers.",
    files=_files(run for run in runs if run.name in names),
    is_percent=True,
  )


def _any_of(name: str, found: Iterable[str]) -> bool:
  return any(x.startswith(f"{name}: ") for x in found)


def _files(runs: Iterable[Run]) -> list[str]:
  return [x for run in runs for x in run.sources(metrics.METRICS)]
