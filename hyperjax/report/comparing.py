"""Runs against each other on the same targets: which pairs, and who is better."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax.report import document, findings, words
from hyperjax.report.document import Finding
from hyperjax.report.run_files import Result
from hyperjax.scores import columns, results


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two results of the same targets, and what the second is beside the first."""

  first: Result
  second: Result
  role: str = ""  # such as "one adapter trained for all tasks"

  @property
  def title(self) -> str:
    role = f" ({self.role})" if self.role else ""
    return f"{self.first.name} against {self.second.name}{role}"


def pairs(group: Sequence[Result]) -> list[Pair]:
  """Each result against the first hypermodel that writes the same adapters.

  What trains no adapters, or those that no hypermodel here writes, is held against
  the first of all. Without any hypermodel that is the first result.
  """
  found = leads(group)
  by_adapter = {words.adapter(lead.run): lead for lead in reversed(found)}
  made = []
  for other in _answered(group):
    if other is found[0]:
      continue
    own = by_adapter.get(words.adapter(other.run), found[0])
    lead = found[0] if any(other is x for x in found) else own
    if other.run is None or other.run is not lead.run:
      made.append(Pair(lead, other, _role(lead, other)))
  return made


def leads(group: Sequence[Result]) -> list[Result]:
  """Of each kind of adapter the first hypermodel; else the first result.

  One that was hyperpretrained goes before one that was not, since that is what
  the other is held against.
  """
  answered = _answered(group)
  found: dict[str, Result] = {}
  for result in sorted(answered, key=lambda x: _hyperpretrained(x) is False):
    if _is_hypermodel(result):
      found.setdefault(words.adapter(result.run), result)
  kept = [*found.values()] or answered[:1]
  return [x for x in answered if any(x is own for own in kept)]


def _answered(group: Sequence[Result]) -> list[Result]:
  return [x for x in group if columns.RIGHT in x.scores]


def _is_hypermodel(result: Result) -> bool:
  """Whether a hypermodel for a frozen T5."""
  own = result.problem
  return own.writes_adapters and not own.trains_jointly


def _hyperpretrained(result: Result) -> bool | None:
  return result.run.is_hyperpretrained if result.run else None


def _role(first: Result, second: Result) -> str:
  """What the second is beside the first."""
  own = words.role(second)
  if not own and _is_hypermodel(first):
    before, after = map(_hyperpretrained, (first, second))
    if before and after is False:
      own = "a hypermodel without hyperpretraining"
    if after and before is False:
      own = "a hypermodel with hyperpretraining"
  mine, theirs = (words.adapter(x.run) for x in (first, second))
  if mine and theirs and mine != theirs:
    own += ("; " if own else "") + f"{theirs}, not {mine}"
  return own


def finding(pair: Pair) -> Finding:
  """What the first one's right answers gain over the second's."""
  first, second, metric = pair.first, pair.second, pair.first.metric
  named = f"{second.name}, {pair.role}" if pair.role else second.name
  claim = findings.Claim(
    f"{first.name} beats {named}",
    f"Nothing tells {first.name} from {named}",
    f"{named}{',' if pair.role else ''} beats {first.name}",
  )
  if metric not in second.content["metrics"]:
    cause = f"{second.path} has no {words.metric(metric)}"
    return Finding(claim.open, f"{cause}.", None)
  both = (
    first.score(columns.RIGHT, metric),
    second.score(columns.RIGHT, metric),
  )
  evidence = f"{both[0]} against {both[1]}{_differences(first, second)}"
  found, cause = _paired(first, second, metric), ""
  if found is None:
    cause = "they have no targets and draws in common that predictions tell"
  elif found["tasks"] == 1 and found["draws"] == 1:
    cause = "one task and one draw of demonstrations have no interval"
  gain = None if found is None else document.percent(found, is_gain=True)
  return findings.decided(claim, evidence, both, gain, cause)


def _differences(first: Result, second: Result) -> str:
  """What else two results differ in, in brackets."""
  if first.run is not None and first.run is second.run:
    return ""  # their names say it
  found = []
  numbers = [x.num_demonstrations for x in (first, second)]
  if None not in numbers and numbers[0] != numbers[1]:
    found.append(f"{numbers[0]} and {numbers[1]} demonstrations")
  trained = [x.content.get("step") for x in (first, second)]
  if None not in trained and trained[0] != trained[1]:
    found.append(f"after {trained[0]:,} and {trained[1]:,} steps")
  t5s = [
    x.content.get("backbone", {}).get("identity")
    for x in (first, second)
    if words.adapter(x.run) and "its T5" not in words.role(x)
  ]
  if len(t5s) == 2 and None not in t5s and t5s[0] != t5s[1]:
    found.append("with different T5s")
  return f" ({', '.join(found)})" if found else ""


def _paired(
  first: Result, second: Result, metric: str
) -> Mapping[str, Any] | None:
  """The interval of the gain over the targets and draws that both have."""
  mine, theirs = (
    {
      (one.answer.task, one.answer.row, one.answer.draw): one
      for one in result.scored(metric)
      if one.column == columns.RIGHT
    }
    for result in (first, second)
  )
  gains = [
    (own.answer, own.values[metric] - theirs[key].values[metric])
    for key, own in mine.items()
    if key in theirs
  ]
  return results.interval(gains) if gains else None
