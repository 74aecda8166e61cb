"""What training and answering cost: parameters, arithmetic, measured seconds."""

from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax.evaluation import columns
from hyperjax.report import words
from hyperjax.report.document import Cell, Gap, Number, Part, Section, Table
from hyperjax.report.run_files import MODEL_INFO, Result, Run


def section(runs: Sequence[Run], results: Sequence[Result]) -> Section:
  parts: list[Part] = [_parameters(runs, results)]
  parts += _arithmetic(results)
  parts += _seconds(results)
  return Section("What it costs", parts)


def _parameters(runs: Sequence[Run], results: Sequence[Result]) -> Part:
  """Trained, frozen, and in the adapter of one task."""
  found: dict[str, Mapping[str, Any]] = {}
  files: dict[str, list[str]] = {}
  for run in runs:
    if run.parameters:
      found[run.name] = run.parameters
      files[run.name] = run.sources(MODEL_INFO)
  for result in results:
    cost = result.content.get("cost")
    name = result.run.name if result.run else result.name
    if cost and "adapter" not in found.get(name, {}):
      found[name] = {
        "trained": cost["trained_parameters"],
        "frozen": cost["frozen_parameters"],
        "adapter": cost.get("adapter_parameters"),
      }
      files[name] = [result.path]
  if not found:
    return Gap(
      f"No {MODEL_INFO} and no results say how many parameters it has."
    )
  rows: list[list[Cell]] = [
    [name, *(_count(own.get(x)) for x in ("trained", "frozen", "adapter"))]
    for name, own in found.items()
  ]
  return Table(
    "Parameters",
    ("Run", "Trained", "Frozen", "In one task's adapter"),
    rows,
    "Numbers, not bytes. A dash: none, or not recorded.",
    [x for own in files.values() for x in own],
  )


def _count(number: int | None) -> Cell:
  return None if number is None else Number(number, words.count(number))


def _arithmetic(results: Sequence[Result]) -> list[Part]:
  """Matrix-product flops of a query, by how the task is told."""
  rows: dict[tuple[str, str], list[Cell]] = {}
  files: list[str] = []
  for result in results:
    flops = result.content.get("cost", {}).get("flops_per_target")
    if not flops:
      continue
    lengths = result.settings.get("feature_lengths", {})
    shown = ", ".join(f"{value:,} {name}" for name, value in lengths.items())
    in_input, adapter = (
      flops.get(x) for x in ("demonstrations_in_input", "with_adapter")
    )
    name = result.run.name if result.run else result.name
    row: list[Cell] = [
      name,
      shown or words.UNKNOWN,
      *(
        _count(flops.get(x))
        for x in (
          "with_adapter",
          "demonstrations_in_input",
          "input_alone",
          "writing_adapter",
        )
      ),
      Number(in_input / adapter, f"{in_input / adapter:.2f}")
      if adapter and in_input
      else None,
    ]
    if (name, shown) not in rows:
      files.append(result.path)
      rows[name, shown] = row
  if not rows:
    return [Gap("No results say how much arithmetic an answer takes.")]
  return [
    Table(
      "Arithmetic of one query (matrix-product flops)",
      (
        "Run",
        "Tokens",
        "With an adapter",
        "Demonstrations in the input",
        "Input alone",
        "Writing the adapter, once for a task",
        "In the input, times with an adapter",
      ),
      [*rows.values()],
      "By formula, for one forward pass over features of full length; real "
      "targets are shorter.",
      files,
    )
  ]


def _seconds(results: Sequence[Result]) -> list[Part]:
  """Measured seconds of a target, by what it was answered from."""
  rows: list[list[Cell]] = []
  files: list[str] = []
  for result in results:
    timings = result.timings
    if timings is None:
      continue
    found = timings["controls"]
    files += filter(None, [result.timings_path])
    machine = f"{timings['devices']} x {timings['device_kind']}"
    for column in columns.ordered(found):
      seconds, targets = (
        found[column][x] for x in ("seconds_per_target", "targets")
      )
      rows.append(
        [
          result.name,
          result.evaluation,
          columns.label(column, result.content.get("conditions")),
          Number(seconds, f"{seconds:.3g}"),
          Number(targets, f"{targets:,}"),
          machine,
        ]
      )
  lacking = [x for x in results if not (x.timings or {}).get("controls")]
  parts: list[Part] = []
  if rows:
    shared = {
      x.settings["rows_per_context"]
      for x in results
      if "rows_per_context" in x.settings
    }
    among = f" ({', '.join(map(str, sorted(shared)))})" if shared else ""
    parts.append(
      Table(
        "Measured seconds for one target",
        (
          "Run",
          "Evaluation",
          "Answered from",
          "Seconds",
          "Targets timed",
          "Machine",
        ),
        rows,
        "From token ids to answers, the making of the batch included. Batches "
        "that compiled a program are left out. One pass of a hypermodel serves "
        f"all targets of a context{among}. Other work on the machine shows.",
        files,
        is_folded=len(rows) > 30,
      )
    )
  if lacking:
    names = ", ".join(f"{x.name} ({x.evaluation})" for x in lacking)
    parts.append(Gap(f"No measured seconds for {names}."))
  return parts
