"""Runs, settings and numbers as words that anyone understands."""

import pathlib

from hyperjax.artifacts.typed_json import Tagged
from hyperjax.report.folders import Beginning
from hyperjax.report.run_files import Result, Run
from hyperjax.scores import columns

_METRICS = {
  "equal": "answers exactly right (%)",
  "exact_match": "exact match (%)",
  "rouge_l": "ROUGE-L (%)",
}
UNKNOWN = "not recorded"
_KINDS = {"Ia3Spec": "IA3"}  # of adapters, where no size is told


def metric(name: str) -> str:
  return _METRICS.get(name, name)


def count(number: float) -> str:
  """Such as 12,345, 783.2 million or 1.52 trillion."""
  for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
    if number >= size:
      return f"{number / size:,.4g} {name}"
  return f"{number:,.0f}"


def counted(number: int, noun: str) -> str:
  """Such as "1 task" and "2 tasks"."""
  return f"{number:,} {noun}" + ("" if number == 1 else "s")


def trained(run: Run) -> str:
  """What was trained, as a title."""
  own, named = run.problem, adapter(run)
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
  return "T5 itself" if own.trains_t5_alone else own.kind or UNKNOWN


def adapter(run: Run | None) -> str:
  """The kind and size of a run's adapters; "" where it has none."""
  spec = run.problem.adapters if run else None
  return _described(spec) if spec is not None else ""


def _described(spec: Tagged) -> str:
  if "parts" in spec.fields:
    return " and ".join(map(_described, spec.fields["parts"]))
  if "rank" in spec.fields:
    return f"LoRA of rank {spec.fields['rank']}"
  if "ranks" in spec.fields:
    ranks = sorted(spec.fields["ranks"].values())
    to = f" to {ranks[-1]}" if ranks[-1] > ranks[0] else ""
    return (
      f"LoRA of rank{'s' if to else ''} {ranks[0]}{to} at {len(ranks)} places"
    )
  if spec.kind == "MemorySpec":
    return f"memory of {spec.fields['length']}"
  if "length" in spec.fields:
    return f"prefixes of {spec.fields['length']}"
  return _KINDS.get(spec.kind, spec.kind.removesuffix("Spec"))


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
  own = run.problem
  if run.begins_with is Beginning.HYPERMODEL and own.writes_adapters:
    kind = "hyperpretrained " if run.is_hyperpretrained else ""
    return f"a {kind}hypermodel"
  if run.begins_with is Beginning.T5 and not own.trains_adapters:
    return "a T5"
  return begins_with(run)


def role(result: Result) -> str:
  """What a run is beside a hypermodel, to follow its name; "" if one itself."""
  own = result.problem
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
  own = run.problem
  if column == columns.RIGHT and own.trains_adapters:
    return "the trained adapter"
  reads = own.reads_demonstrations
  if column == columns.RIGHT and own.fine_tunes_t5 and not reads:
    return "the input alone"
  return columns.label(column)


def trained_on(run: Run) -> str:
  return (run.data and run.data.mixture) or UNKNOWN


def scored_on(result: Result) -> str:
  """The targets, their split and number."""
  named, targets = result.evaluation, result.settings.get("targets")
  if targets:
    named = f"{targets['mixture_or_task']}, {targets['split']}"
  return f"{named}: {counted(result.num_tasks, 'task')}"


def demonstrations(result: Result) -> str:
  """How many, and how often drawn."""
  if result.num_demonstrations is None:
    return UNKNOWN
  shown = [
    counted(result.num_demonstrations, "demonstration"),
    counted(result.settings.get("draws", 1), "draw"),
  ]
  readers = result.settings.get("instruction_readers")
  read = f"; instruction read by {' and '.join(readers)}" if readers else ""
  return ", ".join(shown) + read
