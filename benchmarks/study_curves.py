"""A picture of the study's adapters trained further: held-out loss against steps.

python -m benchmarks.study_curves runs/study_sni/prefix --out=docs/sni_study.png
"""

import argparse
import pathlib
from collections.abc import Mapping, Sequence

from hyperjax.evaluation import curves, intervals

ByTask = Mapping[str, curves.Curve]

# Run folder -> label, line style; told apart without colour.
BEGINNINGS = {
  "peft_random": ("random values", ":"),
  "peft_shared": ("a shared adapter", "--"),
  "peft_hypermodel": ("what the hypermodel writes", "-"),
}


def main(arguments: Sequence[str] | None = None) -> None:
  """Draws the mean over tasks of each run of the study."""
  parser = argparse.ArgumentParser(description="The study's picture.")
  parser.add_argument("study", type=pathlib.Path)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  options = parser.parse_args(arguments)
  found = {name: read(options.study / name) for name in BEGINNINGS}
  rows = table(found)
  draw({name: mean(by_task) for name, by_task in found.items()}, options.out)
  print(f"{options.out}\n\n{rows}")


def read(run: pathlib.Path) -> ByTask:
  """The held-out loss of each task of a run.

  Raises:
    ValueError: the run has none.
  """
  by_task = curves.read(run, "held_out")
  if not by_task:
    raise ValueError(f"{run}: metrics.jsonl has no held_out/loss of any task")
  return by_task


def mean(by_task: ByTask) -> curves.Curve:
  """The mean over tasks at each step."""
  at_steps = zip(*(curve.values for curve in by_task.values()), strict=True)
  means = [sum(values) / len(values) for values in at_steps]
  return curves.Curve(next(iter(by_task.values())).steps, means)


def table(found: Mapping[str, ByTask]) -> str:
  """First and last losses, and how much higher than the hypermodel's.

  The difference is taken task by task, so that tasks that are hard for all add
  nothing to its interval.

  Raises:
    ValueError: the runs were not looked at at the same steps.
  """
  looks = {name: list(mean(by_task).steps) for name, by_task in found.items()}
  for name, steps in looks.items():
    if steps != looks["peft_hypermodel"]:
      raise ValueError(
        f"{name} was looked at at steps {steps}, peft_hypermodel at "
        f"{looks['peft_hypermodel']}: is one of them still in training?"
      )
  lines = [
    "| begins with | first loss | higher | last loss | higher |",
    "|---|---|---|---|---|",
  ]
  written = found["peft_hypermodel"]
  for name, by_task in found.items():
    cells = [BEGINNINGS[name][0]]
    for at in (0, -1):
      own = {task: curve.values[at] for task, curve in by_task.items()}
      higher = {task: own[task] - written[task].values[at] for task in own}
      cells.append(_interval(own))
      cells.append("" if by_task is written else _interval(higher))
    lines.append(f"| {' | '.join(cells)} |")
  return "\n".join(lines)


def _interval(values: Mapping[str, float]) -> str:
  found = intervals.bootstrap({task: [x] for task, x in values.items()})
  return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def draw(found: Mapping[str, curves.Curve], path: pathlib.Path) -> None:
  """One line for each beginning, as a PNG."""
  import matplotlib  # slow to import

  matplotlib.use("agg")
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(5.5, 3))
  for name, curve in found.items():
    label, style = BEGINNINGS[name]
    axes.plot(curve.steps, curve.values, style, color="black", label=label)
  axes.set_xlabel("steps of training on a task's Positive Examples")
  axes.set_ylabel("loss of a target token (nats)")
  axes.set_title("Unseen tasks, by what an adapter begins with", fontsize=10)
  axes.legend(frameon=False, fontsize=8)
  axes.grid(alpha=0.3)
  axes.spines[["top", "right"]].set_visible(False)
  figure.tight_layout()
  partial = path.with_suffix(".partial.png")
  figure.savefig(partial, dpi=130)
  partial.replace(path)
  pyplot.close(figure)


if __name__ == "__main__":
  main()
