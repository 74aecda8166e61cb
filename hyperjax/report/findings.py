"""What follows from an evaluation, said plainly, from its intervals alone.

A claim over a control rests on the gain over the same targets and draws: it holds
where the gain's 95% interval lies above 0, and fails where it lies below.
"""

from typing import NamedTuple

from hyperjax.report.document import Finding, Score
from hyperjax.report.run_files import Result
from hyperjax.scores import columns


class Claim(NamedTuple):
  """What is said where the right answers are better, not told apart, worse."""

  better: str
  open: str
  worse: str
  question: str = ""  # that it answers, where many runs are on one page


CLAIMS = {
  columns.OTHER: Claim(
    "It reads its demonstrations",
    "Nothing shows that it reads its demonstrations",
    "Another task's demonstrations serve it better than its own",
    "Does it read its demonstrations?",
  ),
  columns.NONE: Claim(
    "What it adds to the plain T5 helps",
    "Nothing shows that what it adds to the plain T5 helps",
    "What it adds to the plain T5 does harm",
    "Does what it adds help the plain T5?",
  ),
  columns.ROTATED: Claim(
    "It matters to it which output belongs to which input",
    "Nothing shows that it matters to it which output belongs to which input",
    "Rotated outputs serve it better than the true ones",
    "Does it matter which output belongs to which input?",
  ),
  columns.CONSTANT: Claim(
    "Writing an adapter for each task beats one adapter for all",
    "Nothing shows that writing an adapter for each task beats one for all",
    "One adapter for all beats those written for each task",
    "Does an adapter for each task beat their mean?",
  ),
  columns.IN_INPUT: Claim(
    "It beats demonstrations in the T5's input",
    "Nothing tells it from demonstrations in the T5's input",
    "Demonstrations in the T5's input beat it",
    "Does it beat demonstrations in the plain T5's input?",
  ),
  columns.RELABELLED_WRONG: Claim(
    "It answers by the labels that its demonstrations show",
    "Nothing shows that it answers by the labels of its demonstrations",
    "Labels replaced by wrong ones serve it better than the right ones",
    "Does it answer by the labels that its demonstrations show?",
  ),
  columns.RELABELLED_CONSTANT: Claim(
    "Where labels are replaced an adapter for each task beats their mean",
    "Nothing shows that with labels replaced an adapter for each task beats the mean",
    "Where labels are replaced the mean adapter beats those for each task",
    "With labels replaced, does an adapter for each task beat their mean?",
  ),
}
# Of a T5 that is trained whole nothing is added to the plain one.
_IN_CONTEXT = Claim(
  "The demonstrations in its input help",
  "Nothing shows that the demonstrations in its input help",
  "The demonstrations in its input do harm",
)


def by_control(result: Result) -> dict[str, Finding]:
  """A finding for each control that the right answers can be held against.

  That with another task's demonstrations is the first.
  """
  scores = result.scores
  if columns.RIGHT not in scores:
    return {}
  order = dict.fromkeys([columns.OTHER, *columns.ordered(scores)])
  found = {
    column: _against(result, column)
    for column in order
    if column in scores
    and columns.base(column) in scores
    and column not in (columns.base(column), columns.AGAINST_OTHER)
  }
  if columns.AGAINST_OTHER in scores:
    found[columns.AGAINST_OTHER] = _by_the_other(result)
  return found


def _against(result: Result, column: str) -> Finding:
  base = columns.base(column)
  both = result.score(base), result.score(column)
  label = result.label(column)
  # In a sentence "nothing: no adapter" is no adapter.
  inside, own = label.removeprefix("nothing: "), result.label(base)
  evidence = f"with {own} {both[0]}, with {inside} {both[1]}"
  gain, cause = result.gain(column), _no_interval(result)
  if gain is None:
    cause = cause or "no gain over the same targets is recorded"
  return decided(_claim(result, column, label), evidence, both, gain, cause)


def _claim(result: Result, column: str, label: str) -> Claim:
  if column == columns.NONE and result.problem.fine_tunes_t5:
    return _IN_CONTEXT
  return CLAIMS.get(column) or Claim(
    f"It does better than with {label}",
    f"Nothing tells it from {label}",
    f"It does worse than with {label}",
  )


def decided(
  claim: Claim,
  evidence: str,
  both: tuple[Score, Score],
  gain: Score | None,
  cause: str = "",
) -> Finding:
  """By the interval of the gain, unless there is a cause not to."""
  if cause or gain is None or gain.low is None or gain.high is None:
    cause = cause or "its gain has no interval"
    return Finding(claim.open, f"{evidence}; {cause}.", None)
  evidence += (
    f": the intervals {_apart(*both)}; the gain on the same targets is {gain}"
  )
  if gain.low > 0:
    return Finding(claim.better, f"{evidence}, all of it above 0.", True, gain)
  if gain.high < 0:
    return Finding(claim.worse, f"{evidence}, all of it below 0.", False, gain)
  return Finding(claim.open, f"{evidence}, which has 0 in it.", None, gain)


def _apart(one: Score, other: Score) -> str:
  return "touch" if _touch(one, other) else "do not touch"


def _touch(one: Score, other: Score) -> bool:
  """Whether intervals do; a number without one is one of no width."""
  lows = [x.value if x.low is None else x.low for x in (one, other)]
  highs = [x.value if x.high is None else x.high for x in (one, other)]
  return max(lows) <= min(highs)


def _no_interval(result: Result) -> str:
  """Why a result's intervals decide nothing; "" where they do."""
  intervals = result.content.get("intervals", {})
  bounds = intervals.get(columns.RIGHT, {}).get(result.metric)
  if bounds is None:
    return "no interval is recorded, so nothing follows"
  if bounds["tasks"] == 1 and bounds["draws"] == 1:
    return (
      "one task and one draw of demonstrations have no interval, so nothing "
      "follows for other tasks"
    )
  return ""


def _by_the_other(result: Result) -> Finding:
  """What lent demonstrations say: by whose answers it is right then."""
  by_own = result.score(columns.OTHER)
  by_other = result.score(columns.AGAINST_OTHER)
  evidence = (
    f"given another task's demonstrations it is right by that task in "
    f"{by_other} %, by the task asked in {by_own} %"
  )
  if _no_interval(result):
    claim = "What it does with lent demonstrations"
    return Finding(claim, f"{evidence}.", None)
  evidence += f": the intervals {_apart(by_own, by_other)}."
  if _touch(by_own, by_other):
    claim = "Nothing shows that it answers by the demonstrations it is lent"
    return Finding(claim, evidence, None)
  is_lent = by_other.value > by_own.value
  how = (
    "it answers by that task" if is_lent else "it still answers by its own task"
  )
  claim = f"Lent another task's demonstrations, {how}"
  return Finding(claim, evidence, is_lent)
