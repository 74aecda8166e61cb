"""What files of an evaluation must hold to be reported, checked when they are read.

Results of earlier versions have fewer fields, and all have fields that no report
reads. So a field that is there must be of its kind, and few must be there.
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax.artifacts import typed_json
from hyperjax.data import files
from hyperjax.scores import text_metrics
from hyperjax.scores.results import Answer

_BY_COLUMN = Mapping[str, Mapping[str, float]]
_INTERVALS = Mapping[str, Mapping[str, Mapping[str, Any]]]
# A mapping is of fields that may be there; other values are types.
_RESULTS: Mapping[str, Any] = {
  "name": str,
  "metrics": Sequence[str],
  "scores": _BY_COLUMN,
  "tasks": Mapping[str, Mapping[str, Mapping[str, Any]]],
  "num_tasks": int,
  "step": int | None,
  "problem": str,
  "conditions": Mapping[str, str],
  "intervals": _INTERVALS,
  "gains": _INTERVALS,
  "rank_accuracy": _BY_COLUMN,
  "official": Mapping[str, Mapping[str, Any]],
  "expected": Mapping[str, Mapping[str, Any]],
  "backbone": {"identity": str | None},
  "model": {"kind": str},
  "settings": {
    "targets": Mapping[str, Any] | None,
    "num_demonstrations": int | None,
    "draws": int,
    "feature_lengths": Mapping[str, int],
    "rows_per_context": int | None,
    "instruction_readers": Sequence[str] | None,
  },
  "cost": {
    "trained_parameters": int | None,
    "frozen_parameters": int | None,
    "adapter_parameters": int | None,
    "flops_per_target": Mapping[str, float] | None,
  },
}
_NEEDED = ("name", "metrics", "scores", "tasks")
_INTERVAL = {"mean": float, "low": float, "high": float}
_OFFICIAL = {
  "benchmark": str,
  "overall": Mapping[str, Any],
}
_EXPECTED = {"value": float, "source": str, "certainty": str}
_HINTS = typing.get_type_hints(Answer)
_ANSWER_FIELDS = dataclasses.fields(Answer)
_ANSWER_NEEDED = [
  field.name
  for field in _ANSWER_FIELDS
  if field.default is field.default_factory is dataclasses.MISSING
]


def check_results(content: Mapping[str, Any], where: str) -> None:
  """Refuses what is no file of results.

  Raises:
    ValueError: a field lacks, or is of another kind; it is named.
  """
  for name in _NEEDED:
    files.field(content, name, f"{where}, taken for results of an evaluation,")
  _check(_RESULTS, content, where, "")
  metrics, scores = content["metrics"], content["scores"]
  unknown = [name for name in metrics if name not in text_metrics.METRICS]
  if unknown or not metrics:
    raise ValueError(
      f"{where}: metrics must name some of {', '.join(text_metrics.METRICS)}, "
      f"got {metrics!r:.80}"
    )
  if not scores:
    raise ValueError(f"{where}: scores has no entry")
  own = {"targets": int}
  for column in scores:
    _check(own, scores[column], where, f"scores.{column}", are_needed=True)
  for task, by_column in content["tasks"].items():
    for column in by_column.keys() & scores.keys():
      place = f"tasks.{task}.{column}"
      _check(own, by_column[column], where, place, are_needed=True)
  for kind in ("intervals", "gains"):
    for column, by_metric in content.get(kind, {}).items():
      for metric, bounds in by_metric.items():
        place = f"{kind}.{column}.{metric}"
        _check(_INTERVAL, bounds, where, place, are_needed=True)
  _check_figures(content, where)


def first_metric(names: Sequence[str]) -> str:
  """The one that is read first: ROUGE-L where answers are free text."""
  return "rouge_l" if "rouge_l" in names else names[0]


def _check_figures(content: Mapping[str, Any], where: str) -> None:
  """A benchmark's own figures, what others report, ranked choices."""
  for column, own in content.get("official", {}).items():
    place = f"official.{column}"
    _check(_OFFICIAL, own, where, place, are_needed=True)
    _check({"notes": Sequence[str]}, own, where, place)
  for figure, own in content.get("expected", {}).items():
    _check(_EXPECTED, own, where, f"expected.{figure}", are_needed=True)
  for column, own in content.get("rank_accuracy", {}).items():
    for name in ("by_sum", "per_token"):
      files.field(own, name, f"{where}: rank_accuracy.{column}")
  targets = content.get("settings", {}).get("targets")
  if targets:
    fields = {"mixture_or_task": str, "split": str}
    _check(fields, targets, where, "settings.targets", are_needed=True)


def check_timings(content: Mapping[str, Any], where: str) -> None:
  """Refuses what is no file of timings.

  Raises:
    ValueError: a field lacks, or is of another kind; it is named.
  """
  fields = {"controls": _BY_COLUMN, "devices": int, "device_kind": str}
  _check(fields, content, where, "", are_needed=True)
  for column, own in content["controls"].items():
    fields = {"seconds_per_target": float, "targets": int}
    _check(fields, own, where, f"controls.{column}", are_needed=True)


def answer(line: Mapping[str, Any], where: str) -> Answer:
  """The answer on a line of predictions.

  Raises:
    ValueError: a field lacks, or is of another kind; it is named.
  """
  for name in _ANSWER_NEEDED:
    files.field(line, name, where)
  found = {
    field.name: line[field.name]
    for field in _ANSWER_FIELDS
    if field.name in line
  }
  for name, value in found.items():
    typed_json.check(_HINTS[name], value, where, name)
  if any(len(pair) != 2 for pair in found["demonstrations"]):
    raise ValueError(
      f"{where}: demonstrations must be pairs of input and output"
    )
  return Answer(**found)


def _check(
  fields: Mapping[str, Any],
  value: Any,
  where: str,
  path: str,
  are_needed: bool = False,
) -> None:
  """Checks those fields of an object that are there; all, if they are needed."""
  typed_json.check(Mapping[str, Any], value, where, path)
  for name, kind in fields.items():
    own = f"{path}.{name}" if path else name
    if are_needed:
      files.field(value, name, f"{where}: {path}" if path else where)
    elif name not in value:
      continue
    if isinstance(kind, Mapping):
      _check(kind, value[name], where, own)
    else:
      typed_json.check(kind, value[name], where, own)
