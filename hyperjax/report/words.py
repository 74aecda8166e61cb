"""Runs, settings and numbers as words that anyone understands."""

import pathlib
from collections.abc import Mapping
from typing import Any

from hyperjax.artifacts.run_record import DataRecord, ProblemRecord
from hyperjax.evaluation import columns
from hyperjax.report.folders import Beginning
from hyperjax.report.run_files import Result, Run

METRICS = {
  "equal": "answers exactly right (%)",
  "exact_match": "exact match (%)",
  "rouge_l": "ROUGE-L (%)",
}
UNKNOWN = "not recorded"


def metric(name: str) -> str:
  return METRICS.get(name, name)


def main_metric(result: Result) -> str:
  """The one that is read first: ROUGE-L where answers are free text."""
  names = result.content["metrics"]
  return "rouge_l" if "rouge_l" in names else names[0]


def count(number: float) -> str:
  """Such as 12,345, 783.2 million or 1.52 trillion."""
  for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
    if number >= size:
      return f"{number / size:,.4g} {name}"
  return f"{number:,.0f}"


def counted(number: int, noun: str) -> str:
  """Such as "1 task" and "2 tasks"."""
  return f"{number:,} {noun}" + ("" if number == 1 else "s")


def problem(
  run: Run | None, content: Mapping[str, Any] | None = None
) -> ProblemRecord:
  """What was trained; of a result whose run is gone no more than its kind."""
  if run is not None and run.record is not None:
    return run.record.problem
  return ProblemRecord((content or {}).get("problem", ""))


def trained(run: Run | None, content: Mapping[str, Any] | None = None) -> str:
  """What was trained, as a title."""
  own, named = problem(run, content), adapter(run)
  if own.writes_adapters:
    with_t5 = " with its T5" if own.trains_jointly else ""
    return f"hypermodel{with_t5} that writes {named or 'adapters'}"
  if own.trains_adapters:
    if own.num_tasks > 1:
      return f"{named or 'an adapter'} for each of {own.num_tasks} tasks"
    return f"{named or 'an adapter'}, shared by all tasks"
  if own.fine_tunes_t5:
    if own.reads_demonstrations:
      return "whole T5, demonstrations in its input (in-context)"
    return "whole T5, without demonstrations"
  if own.trains_t5_alone:
    return "T5 itself"
  return own.kind or UNKNOWN


def adapter(run: Run | None) -> str:
  """The kind and size of a run's adapters; "" where it has none."""
  spec = problem(run).adapters
  if spec is None:
    return ""
  if "rank" in spec.fields:
    return f"LoRA of rank {spec.fields['rank']}"
  if "length" in spec.fields:
    return f"prefixes of {spec.fields['length']}"
  return spec.kind.removesuffix("Spec")


def begins_with(run: Run) -> str:
  """What a run's adapters begin with; where it is gone, the name of its folder."""
  if run.begins_with is not None:
    return run.begins_with.value
  if run.record is None:
    return UNKNOWN
  path = run.record.initial_checkpoint
  if path is None:
    return Beginning.T5.value
  return f"{pathlib.PurePath(path).name} (no longer there)"


def begun(run: Run) -> str:
  """What a training run began with, for a table of runs."""
  own = problem(run)
  if run.begins_with is Beginning.HYPERMODEL and own.writes_adapters:
    return _hypermodel(run)
  if run.begins_with is Beginning.T5 and not own.trains_adapters:
    return "a T5"
  return begins_with(run)


def _hypermodel(run: Run) -> str:
  return (
    "a hyperpretrained hypermodel" if run.is_hyperpretrained else "a hypermodel"
  )


def role(run: Run | None, content: Mapping[str, Any] | None = None) -> str:
  """What a run is beside a hypermodel, to follow its name; "" if one itself."""
  own = problem(run, content)
  if own.trains_adapters:
    return "one adapter trained for all tasks"
  if own.fine_tunes_t5:
    if own.reads_demonstrations is None:
      return "a T5 trained whole"
    how = "demonstrations in its input"
    if not own.reads_demonstrations:
      how = "without demonstrations"
    return f"a T5 trained whole, {how}"
  if own.writes_adapters and own.trains_jointly:
    return "a hypermodel trained with its T5"
  return ""


def answered_from(run: Run, column: str) -> str:
  """What a run's answers of a column are given from."""
  own = problem(run)
  if column == columns.RIGHT and own.trains_adapters:
    return "the trained adapter"
  reads = own.reads_demonstrations
  if column == columns.RIGHT and own.fine_tunes_t5 and not reads:
    return "the input alone"
  return columns.label(column)


def reads(result: Result) -> str:
  """What a result's own answers are given from."""
  return columns.label(columns.RIGHT, result.content.get("conditions"))


def trained_on(run: Run | None) -> str:
  data = data_of(run)
  return (data and data.mixture) or UNKNOWN


def data_of(run: Run | None) -> DataRecord | None:
  """What a run was trained on, as far as it says."""
  return run.record.data if run is not None and run.record is not None else None


def scored_on(result: Result) -> str:
  """The targets, their split and number."""
  content, targets = result.content, result.settings.get("targets")
  named = content["name"]
  if targets:
    named = f"{targets['mixture_or_task']}, {targets['split']}"
  tasks = content.get("num_tasks", len(content["tasks"]))
  return f"{named}: {counted(tasks, 'task')}"


def demonstrations(result: Result) -> str:
  """How many, and how often drawn."""
  settings = result.settings
  if "num_demonstrations" not in settings:
    return UNKNOWN
  shown = counted(settings["num_demonstrations"], "demonstration")
  draws = settings.get("draws", 1)
  shown += f", {counted(draws, 'draw')}"
  readers = settings.get("instruction_readers")
  return shown + (
    f"; instruction read by {' and '.join(readers)}" if readers else ""
  )
