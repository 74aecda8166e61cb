"""The demo's table, picture and results.json, from the files of its runs.

python -m hyperjax.report.demo runs/demo_prefix --adapter prefix
"""

import argparse
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax import checks, metrics, paths
from hyperjax.data import files
from hyperjax.scores import columns

_GROUPS = {"unseen": "rules never trained on", "seen": "rules trained on"}
_CONTROLS = {
  columns.RIGHT: "right demonstrations",
  columns.OTHER: "demonstrations of another rule",
  columns.NONE: "no adapter",
}
_AGAINST = "other_against_other_rule"
_METRIC = "equal"


def main(arguments: Sequence[str] | None = None) -> None:
  """Writes results.json and accuracy.png into the demo's folder."""
  parser = argparse.ArgumentParser(description="The demo's table and picture.")
  parser.add_argument("folder", type=pathlib.Path)
  parser.add_argument("--adapter", required=True)
  checks.add_option(parser, "--seed", checks.Seed, "of the runs", default=0)
  checks.add_option(
    parser, "--seconds", checks.Weight, "that they took", required=True
  )
  options = parser.parse_args(arguments)
  run = options.folder / "multitask"
  folder = run / "inference_eval"
  results = {
    group: files.read_json(folder / f"{group}-results.json")
    for group in _GROUPS
  }
  summary = {
    "adapter": options.adapter,
    "seed": options.seed,
    "rules_held_out": results["unseen"]["num_tasks"],
    "targets": results["unseen"]["scores"][columns.RIGHT]["targets"],
    "seconds": options.seconds,
    "exact_match": {
      group: _exact_match(found["scores"]) for group, found in results.items()
    },
  }
  path = options.folder / "results.json"
  paths.replace(path, json.dumps(summary, indent=1) + "\n")
  lines = metrics.read(run / metrics.METRICS)
  _draw(lines, options.folder / "accuracy.png", options.adapter)
  print(_examples(folder / "unseen-predictions.jsonl", 3))
  print(_table(summary))
  print(f"in {options.folder}: results.json, accuracy.png")


def _draw(
  lines: Sequence[Mapping[str, Any]], path: pathlib.Path, adapter: str
) -> None:
  """Accuracy against training, on seen and unseen rules, as a PNG."""
  import matplotlib  # slow to import

  matplotlib.use("agg")
  from matplotlib import pyplot

  styles = {
    columns.RIGHT: {"color": "#0072b2", "marker": "o", "linestyle": "-"},
    columns.OTHER: {"color": "#d55e00", "marker": "s", "linestyle": "--"},
    columns.NONE: {"color": "#444444", "marker": "x", "linestyle": ":"},
  }
  figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.8), sharey=True)
  for axis, (group, title) in zip(axes, _GROUPS.items(), strict=True):
    for control, label in _CONTROLS.items():
      name = f"{group}/{control}/{_METRIC}"
      points = [(line["step"], line[name]) for line in lines if name in line]
      steps, values = zip(*points, strict=True)
      percent = [100 * value for value in values]
      axis.plot(
        steps, percent, label=label, markerfacecolor="white", **styles[control]
      )
    axis.set_title(title.capitalize(), fontsize=11)
    axis.set_xlabel("steps of multi-task fine-tuning")
    axis.set_ylim(-4, 104)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
  axes[0].set_ylabel("answers exactly right (%)")
  handles, labels = axes[0].get_legend_handles_labels()
  figure.suptitle(f"Adapters written by a hypermodel ({adapter})", fontsize=12)
  figure.legend(
    handles, labels, loc="lower center", ncols=len(labels), frameon=False
  )
  figure.tight_layout(rect=(0, 0.07, 1, 1))
  figure.savefig(path, dpi=150)
  pyplot.close(figure)


def _exact_match(scores: Mapping[str, Any]) -> dict[str, float]:
  shown = {control: control for control in _CONTROLS}
  shown[_AGAINST] = columns.AGAINST_OTHER
  return {name: scores[column][_METRIC] for name, column in shown.items()}


def _examples(path: pathlib.Path, count: int) -> str:
  """Some answers in full, of tasks far apart and of different rows."""
  answers = [answer for _, answer in files.read_json_lines(path)]
  lines = [""]
  for answer in answers[:: len(answers) // count + 1][:count]:
    lines += [
      f"A rule never trained on ({answer['task']}), its demonstrations:",
      *(
        f"    {before:32} -> {after}"
        for before, after in answer["demonstrations"]
      ),
      f"  input    {answer['input']}",
      f"  answer   {answer['predictions'][columns.RIGHT]}",
      f"  target   {answer['references'][0]}",
      "",
    ]
  return "\n".join(lines)


def _table(summary: Mapping[str, Any]) -> str:
  rows = {
    "right demonstrations": columns.RIGHT,
    "no adapter": columns.NONE,
    "demonstrations of another rule": columns.OTHER,
    "  ... scored by that other rule": _AGAINST,
  }
  lines = [
    f"Answers exactly right (%), {summary['targets']} targets of "
    f"{summary['rules_held_out']} held-out rules, {summary['adapter']}",
    f"{'adapter written from':34}{'unseen rules':>14}{'seen rules':>14}",
  ]
  for label, control in rows.items():
    found = [100 * summary["exact_match"][group][control] for group in _GROUPS]
    lines.append(f"{label:34}" + "".join(f"{x:14.1f}" for x in found))
  return "\n".join([*lines, f"computed in {summary['seconds']:.0f} seconds"])


if __name__ == "__main__":
  main()
