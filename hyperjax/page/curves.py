"""Learning: loss and scores against steps, and against demonstrations."""

import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

from hyperjax import metrics
from hyperjax.evaluation import columns
from hyperjax.page import findings, plots, words
from hyperjax.page.document import Cell, Gap, Number, Part, Section, Table
from hyperjax.page.sources import CONFIG, Result, Run

_MOST_LINES = 8
Curve = list[tuple[float, float]]


def by_demonstrations(group: Sequence[Result]) -> list[Part]:
  """Scores against the number of demonstrations, where results differ in it."""
  points: dict[str, list[Result]] = {}
  for result in group:
    has_right = columns.RIGHT in result.content["scores"]
    if has_right and "num_demonstrations" in result.settings:
      run = result.run.name if result.run else result.name
      points.setdefault(run, []).append(result)
  numbers = {_number(x) for own in points.values() for x in own}
  if len(numbers) < 2:
    return []
  metric = words.main_metric(group[0])
  series, bounds = {}, {}
  rows: list[list[Cell]] = []
  for name, own in points.items():
    own = sorted(own, key=_number)
    scores = [findings.score(x.content, columns.RIGHT, metric) for x in own]
    series[name] = [
      (_number(x), found.value) for x, found in zip(own, scores, strict=True)
    ]
    bounds[name] = scores
    rows += [
      [name, Number(_number(x), str(_number(x))), found, x.path]
      for x, found in zip(own, scores, strict=True)
    ]
  files = [x.path for own in points.values() for x in own]
  name = ", ".join(dict.fromkeys(x.evaluation for x in group))
  title = f"{name}: {words.metric(metric)} against demonstrations"
  caption = "Means over tasks. Whiskers and [ ]: their 95% intervals."
  return [
    plots.lines(
      title,
      series,
      "demonstrations",
      words.metric(metric),
      caption=caption,
      files=files,
      bounds=bounds,
      is_percent=True,
    ),
    Table(
      title,
      ("Run", "Demonstrations", words.metric(metric), "From"),
      rows,
      caption,
      files,
    ),
  ]


def _number(result: Result) -> int:
  return result.settings["num_demonstrations"]


def learning(runs: Sequence[Run]) -> Section:
  """Loss of all runs in one picture, then each evaluation's scores."""
  parts: list[Part] = []
  for run in runs:
    if not run.lines:
      parts.append(
        Gap(f"{run.name}: no {metrics.METRICS}, so no learning curve.")
      )
  own = [run for run in runs if run.lines]
  losses = {run.name: curve(run, "loss") for run in own}
  losses = {name: points for name, points in losses.items() if points}
  if losses:
    parts.append(
      plots.lines(
        "Training loss",
        losses,
        "steps",
        "loss of a target token (nats)",
        caption="The mean over the steps since the line before.",
        files=_files(own),
      )
    )
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
  side_by_side = {name for run in runs for name in task_curves(run)}
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


def task_curves(run: Run) -> dict[str, dict[str, Curve]]:
  """Of tasks trained side by side: evaluation -> task -> held-out loss."""
  found: dict[str, dict[str, Curve]] = {}
  for line in run.lines:
    for key, value in line.items():
      parts = key.split("/", 2)
      if len(parts) == 3 and parts[1] == "loss":
        own = found.setdefault(parts[0], {}).setdefault(parts[2], [])
        own.append((line["step"], value))
  return found


def further(runs: Sequence[Run]) -> Section | None:
  """Adapters trained further, by what they began with."""
  found: dict[str, list[Run]] = {}
  for run in runs:
    for evaluation in task_curves(run):
      found.setdefault(evaluation, []).append(run)
  if not found:
    return None
  parts: list[Part] = []
  for evaluation, own in found.items():
    parts += _further(evaluation, own)
  return Section("Adapters trained further, by what they begin with", parts)


def _further(evaluation: str, runs: Sequence[Run]) -> list[Part]:
  means = {
    run.name: curve(run, f"{evaluation}/loss")
    for run in runs
    if curve(run, f"{evaluation}/loss")
  }
  if not means:
    return [Gap(f"{evaluation}: no mean loss over tasks is recorded.")]
  begins = {run.name: begins_with(run) for run in runs}
  files = _files(runs)
  shown = {f"{name}: {begins[name]}": points for name, points in means.items()}
  parts: list[Part] = [
    plots.lines(
      f"{evaluation}: mean loss over tasks",
      shown,
      "steps",
      "loss of a target token (nats)",
      caption="On rows that no adapter is trained on.",
      files=files,
    )
  ]
  levels = {name: points[-1][1] for name, points in means.items()}
  rows: list[list[Cell]] = []
  for run in runs:
    if run.name not in means:
      continue
    points = means[run.name]
    rows.append(
      [
        run.name,
        begins[run.name],
        Number(points[0][1], f"{points[0][1]:.4f}"),
        Number(points[-1][1], f"{points[-1][1]:.4f}"),
        *(_steps(points, level) for level in levels.values()),
      ]
    )
  parts.append(
    Table(
      f"{evaluation}: steps until the mean loss is as low",
      (
        "Run",
        "Begins with",
        "First loss",
        "Last loss",
        *(f"Steps to {x:.4f}, where {name} ends" for name, x in levels.items()),
      ),
      rows,
      "The first evaluation with a mean loss over tasks that is no higher; a "
      "dash: never.",
      [*files, *(x for run in runs for x in run.sources(CONFIG))],
    )
  )
  return parts


def steps_to(points: Curve, level: float) -> float | None:
  """The first step at which a loss is no higher than `level`."""
  return next((step for step, value in points if value <= level), None)


def _steps(points: Curve, level: float) -> Cell:
  found = steps_to(points, level)
  return None if found is None else Number(found, f"{found:,}")


_BEGINNINGS: Mapping[str, str] = {
  "HyperTuning": "what a hypermodel writes",
  "AdapterFineTuning": "a shared adapter",
  "adapter folder": "an adapter folder",
  "LanguageModel": "random values",
  "FullFineTuning": "random values",
  "T5": "random values",
}


def begins_with(run: Run) -> str:
  """What a run's adapters begin with; where it is gone, the name of its folder."""
  if run.begins_with:
    return _BEGINNINGS.get(run.begins_with, run.begins_with)
  path = run.macros.get("INITIAL_CHECKPOINT_PATH", words.UNKNOWN)
  return "random values" if path == "None" else pathlib.PurePath(path).name


def _files(runs: Iterable[Run]) -> list[str]:
  return [x for run in runs for x in run.sources(metrics.METRICS)]
