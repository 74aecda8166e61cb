"""Learning: loss and scores against steps."""

import re
from collections.abc import Iterable, Sequence

from hyperjax import metrics
from hyperjax.report import beginnings, plots, words
from hyperjax.report.document import Gap, Part, Plot, Section
from hyperjax.report.run_files import Run
from hyperjax.scores import columns

_MOST_LINES = 8
Curve = list[tuple[float, float]]


def section(runs: Sequence[Run]) -> Section:
  """Loss of all runs in one picture, then each evaluation's scores."""
  if not runs:
    gap = "Only evaluations were given, no run folder: no learning curves."
    return Section("Learning", [Gap(gap)])
  parts: list[Part] = [
    Gap(f"{run.name}: no {metrics.METRICS}, so no learning curve.")
    for run in runs
    if not run.lines
  ]
  parts += _losses(runs)
  keys = dict.fromkeys(x for run in runs for line in run.lines for x in line)
  split = [key.split("/") for key in keys]
  # Evaluations with controls that ran while training, with their metrics.
  for evaluation, metric in dict.fromkeys(
    (x[0], x[2]) for x in split if len(x) == 3 and x[1] in columns.LABELS
  ):
    parts.append(_scores(runs, evaluation, metric))
  side_by_side = {name for run in runs for name in beginnings.task_curves(run)}
  for key in keys:
    if re.fullmatch("[^/]+/loss", key) and key[:-5] not in side_by_side:
      title = f"{key} while training"
      parts.append(_losses_of(runs, key, title, key, "On held-out data."))
  return Section("Learning", parts)


def _losses(runs: Sequence[Run]) -> list[Part]:
  """A picture for each data that runs were trained on: others do not compare."""
  found: dict[str, list[Run]] = {}
  for run in runs:
    if _curve(run, "loss"):
      found.setdefault(words.trained_on(run), []).append(run)
  return [
    _losses_of(
      own,
      "loss",
      "Training loss" + ("" if len(found) == 1 else f" on {data}"),
      "loss of a target token (nats)",
      "The mean over the steps since the line before.",
    )
    for data, own in found.items()
  ]


def _losses_of(
  runs: Sequence[Run], key: str, title: str, unit: str, caption: str
) -> Plot:
  points = {run.name: own for run in runs if (own := _curve(run, key))}
  files = _files(run for run in runs if run.name in points)
  return plots.lines(title, points, "steps", unit, caption=caption, files=files)


def _curve(run: Run, name: str) -> Curve:
  """A number of `metrics.jsonl` against steps."""
  return [(line["step"], line[name]) for line in run.lines if name in line]


def _scores(runs: Sequence[Run], evaluation: str, metric: str) -> Plot:
  """A line for each run and column; with many runs for own demonstrations."""
  found: dict[tuple[str, str], Curve] = {}
  for run in runs:
    for column in columns.LABELS:
      points = _curve(run, f"{evaluation}/{column}/{metric}")
      if points:
        percent = [(step, 100 * value) for step, value in points]
        found[run.name, words.answered_from(run, column)] = percent
  names = dict.fromkeys(name for name, _ in found)
  shown = {f"{name}: {label}": own for (name, label), own in found.items()}
  if len(names) == 1:
    shown = {label: own for (_, label), own in found.items()}
  elif len(found) > _MOST_LINES:
    own = (f"{x.name}: {words.answered_from(x, columns.RIGHT)}" for x in runs)
    shown = {name: shown[name] for name in own if name in shown}
  return plots.lines(
    f"{evaluation}: {words.metric(metric)} while training",
    shown,
    "steps",
    words.metric(metric),
    caption="Means over answers.",
    files=_files(run for run in runs if run.name in names),
    is_percent=True,
  )


def _files(runs: Iterable[Run]) -> list[str]:
  return [x for run in runs for x in run.sources(metrics.METRICS)]
