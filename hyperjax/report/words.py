"""Runs, settings and numbers as words that anyone understands."""

import pathlib
from collections.abc import Mapping

from hyperjax.evaluation import columns
from hyperjax.report.run_files import Result, Run

_METRICS = {
  "equal": "answers exactly right (%)",
  "exact_match": "exact match (%)",
  "rouge_l": "ROUGE-L (%)",
}
UNKNOWN = "not recorded"


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
  kind, own, settings = run.problem, adapter(run), run.configuration
  if kind == "HyperTuning":
    with_t5 = " with its T5" if settings.get("train_backbone") else ""
    return f"hypermodel{with_t5} that writes {own or 'adapters'}"
  if kind == "AdapterFineTuning":
    number = settings.get("num_tasks", 1)
    if number > 1:
      return f"{own or 'an adapter'} for each of {number} tasks"
    return f"{own or 'an adapter'}, shared by all tasks"
  if kind == "FullFineTuning":
    if settings.get("reads_demonstrations"):
      return "whole T5, demonstrations in its input (in-context)"
    return "whole T5, without demonstrations"
  return "T5 itself" if kind == "LanguageModel" else kind or UNKNOWN


def adapter(run: Run | None) -> str:
  """The kind and size of a run's adapters; "" where it has none."""
  spec = (run.configuration.get("adapters") if run else None) or {}
  if "rank" in spec:
    return f"LoRA of rank {spec['rank']}"
  if "length" in spec:
    return f"prefixes of {spec['length']}"
  return ""


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
  path = run.macros.get("INITIAL_CHECKPOINT_PATH", UNKNOWN)
  if path in ("None", UNKNOWN):
    return "random values" if path == "None" else UNKNOWN
  return f"{pathlib.PurePath(path).name} (no longer there)"


def begun(run: Run) -> str:
  """What a training run began with, for a table of runs."""
  if run.begins_with == run.problem == "HyperTuning":
    kind = "hyperpretrained " if run.is_hyperpretrained else ""
    return f"a {kind}hypermodel"
  if run.problem != "AdapterFineTuning" and run.begins_with in (
    "LanguageModel",
    "FullFineTuning",
    "T5",
  ):
    return "a T5"
  return begins_with(run)


def role(result: Result) -> str:
  """What a run is beside a hypermodel, to follow its name; "" if one itself."""
  configuration = result.run.configuration if result.run else {}
  if result.problem == "AdapterFineTuning":
    return "one adapter trained for all tasks"
  if result.problem == "FullFineTuning":
    if configuration.get("reads_demonstrations"):
      return "a T5 trained whole, demonstrations in its input"
    if "reads_demonstrations" in configuration:
      return "a T5 trained whole, without demonstrations"
    return "a T5 trained whole"
  if result.problem == "HyperTuning" and configuration.get("train_backbone"):
    return "a hypermodel trained with its T5"
  return ""


def answered_from(run: Run, column: str) -> str:
  """What a run's answers of a column are given from."""
  reads = run.configuration.get("reads_demonstrations")
  if column == columns.RIGHT and run.problem == "AdapterFineTuning":
    return "the trained adapter"
  if column == columns.RIGHT and run.problem == "FullFineTuning" and not reads:
    return "the input alone"
  return columns.label(column)


def trained_on(run: Run) -> str:
  return run.macros.get("MIXTURE_OR_TASK_NAME") or UNKNOWN


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
