"""What training and answering cost: parameters, arithmetic, measured seconds."""

from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax.report import document, words
from hyperjax.report.document import Cell, Gap, Number, Part, Section, Table
from hyperjax.report.run_files import MODEL_INFO, Result, Run

_FLOPS = {
  "with_adapter": "With an adapter",
  "demonstrations_in_input": "Demonstrations in the input",
  "input_alone": "Input alone",
  "writing_adapter": "Writing the adapter, once for a task",
}
_MOST_ROWS = 30  # more are folded


def section(runs: Sequence[Run], results: Sequence[Result]) -> Section:
  parts = [_parameters(runs, results), _arithmetic(results)]
  return Section("What it costs", [*parts, *_seconds(results)])


def _parameters(runs: Sequence[Run], results: Sequence[Result]) -> Part:
  """Trained, frozen, and in the adapter of one task."""
  found: dict[str, Mapping[str, Any]] = {}
  files: dict[str, list[str]] = {}
  for run in runs:
    if run.parameters:
      found[run.name] = run.parameters
      files[run.name] = run.sources(MODEL_INFO)
  for result in results:
    cost, name = result.content.get("cost"), result.run_name
    if cost and "adapter" not in found.get(name, {}):
      kinds = ("trained", "frozen", "adapter")
      found[name] = {x: cost.get(f"{x}_parameters") for x in kinds}
      files[name] = [result.path]
  if not found:
    return Gap(
      f"No {MODEL_INFO} and no results say how many parameters it has."
    )
  return document.cross(
    "Parameters",
    "Run",
    found.items(),
    [
      ("Trained", "trained"),
      ("Frozen", "frozen"),
      ("In one task's adapter", "adapter"),
    ],
    lambda own, kind: _count(own.get(kind)),
    "Numbers, not bytes. A dash: none, or not recorded.",
    [x for own in files.values() for x in own],
  )


def _count(number: int | None) -> Cell:
  return None if number is None else Number(number, words.count(number))


def _arithmetic(results: Sequence[Result]) -> Part:
  """Matrix-product flops of a query, by how the task is told."""
  rows: dict[tuple[str, str], list[Cell]] = {}
  files: list[str] = []
  for result in results:
    flops = result.content.get("cost", {}).get("flops_per_target")
    lengths = result.settings.get("feature_lengths", {})
    shown = ", ".join(f"{value:,} {name}" for name, value in lengths.items())
    key = result.run_name, shown or words.UNKNOWN
    if flops and key not in rows:
      adapter, in_input = map(flops.get, [*_FLOPS][:2])
      ratio = in_input / adapter if adapter and in_input else None
      times = None if ratio is None else Number(ratio, f"{ratio:.2f}")
      rows[key] = [*key, *(_count(flops.get(x)) for x in _FLOPS), times]
      files.append(result.path)
  if not rows:
    return Gap("No results say how much arithmetic an answer takes.")
  last = "In the input, times with an adapter"
  return Table(
    "Arithmetic of one query (matrix-product flops)",
    ("Run", "Tokens", *_FLOPS.values(), last),
    [*rows.values()],
    "By formula, for one forward pass over features of full length; real "
    "targets are shorter.",
    files,
  )


def _seconds(results: Sequence[Result]) -> list[Part]:
  """Measured seconds of a target, by what it was answered from."""
  rows: list[list[Cell]] = []
  for result in results:
    timings = result.timings or {"controls": {}}
    for label, column in result.labelled(timings["controls"]):
      own = timings["controls"][column]
      seconds, targets = own["seconds_per_target"], own["targets"]
      rows.append(
        [
          result.name,
          result.evaluation,
          label,
          Number(seconds, f"{seconds:.3g}"),
          document.whole(targets),
          f"{timings['devices']} x {timings['device_kind']}",
        ]
      )
  parts: list[Part] = []
  if rows:
    sizes = [x.settings.get("rows_per_context") for x in results]
    shared = ", ".join(map(str, sorted({x for x in sizes if x is not None})))
    among = f" ({shared})" if shared else ""
    head = ("Run", "Evaluation", "Answered from")
    parts.append(
      Table(
        "Measured seconds for one target",
        (*head, "Seconds", "Targets timed", "Machine"),
        rows,
        "From token ids to answers, the making of the batch included. Batches "
        "that compiled a program are left out. One pass of a hypermodel serves "
        f"all targets of a context{among}. Other work on the machine shows.",
        [x.timings_path for x in results if x.timings_path],
        is_folded=len(rows) > _MOST_ROWS,
      )
    )
  lacking = [x for x in results if not (x.timings or {}).get("controls")]
  if lacking:
    names = ", ".join(f"{x.name} ({x.evaluation})" for x in lacking)
    parts.append(Gap(f"No measured seconds for {names}."))
  return parts
