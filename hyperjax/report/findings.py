"""What follows from an evaluation, said plainly, from its intervals alone.

A claim over a control rests on the gain over the same targets and draws: it holds
where the gain's 95% interval lies above 0, and fails where it lies below.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from hyperjax.evaluation import columns
from hyperjax.report import words
from hyperjax.report.document import Finding, Score
from hyperjax.report.run_files import Result


@dataclasses.dataclass(frozen=True)
class Claim:
  """What is said where the right answers are better, not told apart, worse."""

  better: str
  open: str
  worse: str


_CLAIMS = {
  columns.OTHER: Claim(
    "It reads its demonstrations",
    "Nothing shows that it reads its demonstrations",
    "Another task's demonstrations serve it better than its own",
  ),
  columns.NONE: Claim(
    "What it adds to the plain T5 helps",
    "Nothing shows that what it adds to the plain T5 helps",
    "What it adds to the plain T5 does harm",
  ),
  columns.ROTATED: Claim(
    "It matters to it which output belongs to which input",
    "Nothing shows that it matters to it which output belongs to which input",
    "Rotated outputs serve it better than the true ones",
  ),
  columns.CONSTANT: Claim(
    "Writing an adapter for each task beats one adapter for all",
    "Nothing shows that writing an adapter for each task beats one for all",
    "One adapter for all beats those written for each task",
  ),
  columns.IN_INPUT: Claim(
    "It beats demonstrations in the T5's input",
    "Nothing tells it from demonstrations in the T5's input",
    "Demonstrations in the T5's input beat it",
  ),
}


_IN_CONTEXT = Claim(
  "The demonstrations in its input help",
  "Nothing shows that the demonstrations in its input help",
  "The demonstrations in its input do harm",
)


def score(content: Mapping[str, Any], column: str, metric: str) -> Score:
  """A column's mean over tasks with its interval.

  Where results have no interval, the mean over answers.
  """
  bounds = content.get("intervals", {}).get(column, {}).get(metric, {})
  value = bounds.get("mean", content["scores"][column][metric])
  return percent(value, bounds)


def gain(content: Mapping[str, Any], column: str, metric: str) -> Score | None:
  """What the right answers gain over a column, on the same targets and draws."""
  found = content.get("gains", {}).get(column, {}).get(metric)
  return None if found is None else percent(found["mean"], found, True)


def percent(
  value: float, bounds: Mapping[str, Any], is_gain: bool = False
) -> Score:
  low, high = bounds.get("low"), bounds.get("high")
  return Score(
    100 * value,
    None if low is None else 100 * low,
    None if high is None else 100 * high,
    is_gain,
  )


def of_result(result: Result) -> list[Finding]:
  """A finding for each control that the right answers can be held against."""
  return [*by_control(result).values()]


def by_control(result: Result) -> dict[str, Finding]:
  """The same by control, that with another task's demonstrations first."""
  content, metric = result.content, words.main_metric(result)
  scores = content["scores"]
  if columns.RIGHT not in scores:
    return {}
  order = [columns.OTHER, *columns.ordered(scores)]
  found = {
    column: _against(result, column, metric)
    for column in dict.fromkeys(order)
    if column in scores and column not in (columns.RIGHT, columns.AGAINST_OTHER)
  }
  if columns.AGAINST_OTHER in scores:
    found[columns.AGAINST_OTHER] = _by_the_other(result, metric)
  return found


def _against(result: Result, column: str, metric: str) -> Finding:
  content = result.content
  label = columns.label(column, content.get("conditions"))
  claim = _claim(result, column, label)
  right, other = (score(content, x, metric) for x in (columns.RIGHT, column))
  own = columns.label(columns.RIGHT, content.get("conditions"))
  evidence = f"with {own} {right}, with {_inside(label)} {other}"
  paired = gain(content, column, metric)
  cause = _no_interval(content, metric)
  if cause is None and paired is None:
    cause = "no gain over the same targets is recorded"
  if cause is not None or paired is None:
    return Finding(claim.open, f"{evidence}; {cause}.", None)
  return decided(claim, evidence, paired, touch(right, other))


def _inside(label: str) -> str:
  """A label as part of a sentence: "nothing: no adapter" is no adapter there."""
  return label.removeprefix("nothing: ")


def _claim(result: Result, column: str, label: str) -> Claim:
  # Of a T5 that is trained whole nothing is added to the plain one.
  whole = words.problem(result.run, result.content) == "FullFineTuning"
  if column == columns.NONE and whole:
    return _IN_CONTEXT
  return _CLAIMS.get(column) or Claim(
    f"It does better than with {label}",
    f"Nothing tells it from {label}",
    f"It does worse than with {label}",
  )


def decided(
  claim: Claim, evidence: str, paired: Score, istouching: bool
) -> Finding:
  assert paired.low is not None and paired.high is not None
  apart = "touch" if istouching else "do not touch"
  gained = f"{evidence}: the intervals {apart}; the gain on the same targets is {paired}"
  if paired.low > 0:
    return Finding(claim.better, f"{gained}, all of it above 0.", True, paired)
  if paired.high < 0:
    return Finding(claim.worse, f"{gained}, all of it below 0.", False, paired)
  return Finding(claim.open, f"{gained}, which has 0 in it.", None, paired)


def touch(one: Score, other: Score) -> bool:
  """Whether intervals do; a number without one is one of no width."""
  lows = [x.value if x.low is None else x.low for x in (one, other)]
  highs = [x.value if x.high is None else x.high for x in (one, other)]
  return max(lows) <= min(highs)


def _no_interval(content: Mapping[str, Any], metric: str) -> str | None:
  """Why a result's intervals decide nothing; None where they do."""
  bounds = content.get("intervals", {}).get(columns.RIGHT, {}).get(metric)
  if bounds is None:
    return "no interval is recorded, so nothing follows"
  if bounds["tasks"] == 1 and bounds["draws"] == 1:
    return (
      "one task and one draw of demonstrations have no interval, so nothing "
      "follows for other tasks"
    )
  return None


def _by_the_other(result: Result, metric: str) -> Finding:
  """What lent demonstrations say: by whose answers it is right then."""
  content = result.content
  by_own, by_other = (
    score(content, x, metric) for x in (columns.OTHER, columns.AGAINST_OTHER)
  )
  evidence = (
    f"given another task's demonstrations it is right by that task in "
    f"{by_other} %, by the task asked in {by_own} %"
  )
  if _no_interval(content, metric) is not None:
    return Finding(
      "What it does with lent demonstrations", evidence + ".", None
    )
  apart = "touch" if touch(by_own, by_other) else "do not touch"
  evidence += f": the intervals {apart}."
  if touch(by_own, by_other):
    claim = "Nothing shows that it answers by the demonstrations it is lent"
    return Finding(claim, evidence, None)
  if by_other.value > by_own.value:
    claim = "Lent another task's demonstrations, it answers by that task"
    return Finding(claim, evidence, True)
  claim = "Lent another task's demonstrations, it still answers by its own task"
  return Finding(claim, evidence, False)
