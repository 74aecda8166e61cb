"""Runs against each other on the same targets: which pairs, and who is better."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax.evaluation import columns, results
from hyperjax.report import findings, words
from hyperjax.report.document import Finding
from hyperjax.report.run_files import Result


@dataclasses.dataclass(frozen=True)
class Pair:
  """Two results of the same targets, and what the second is beside the first."""

  first: Result
  second: Result
  role: str  # such as "one adapter trained for all tasks"; "" without one

  @property
  def title(self) -> str:
    role = f" ({self.role})" if self.role else ""
    return f"{self.first.name} against {self.second.name}{role}"


def pairs(group: Sequence[Result]) -> list[Pair]:
  """Each result against the first hypermodel that writes the same adapters.

  What trains no adapters, or those that no hypermodel here writes, is held against
  the first of all. Without any hypermodel that is the first result.
  """
  scored = [x for x in group if columns.RIGHT in x.content["scores"]]
  found = leads(scored)
  if not found:
    return []
  by_adapter = {words.adapter(lead.run): lead for lead in reversed(found)}
  made = []
  for other in scored:
    if other is found[0]:
      continue
    is_lead = any(other is lead for lead in found)
    own = by_adapter.get(words.adapter(other.run), found[0])
    lead = found[0] if is_lead else own
    if other.run is None or other.run is not lead.run:
      made.append(Pair(lead, other, role(lead, other)))
  return made


def leads(group: Sequence[Result]) -> list[Result]:
  """Of each kind of adapter the first hypermodel; else the first result.

  One that was hyperpretrained goes before one that was not, since that is what
  the other is held against.
  """
  ordered = sorted(group, key=_is_without_hyperpretraining)
  found: dict[str, Result] = {}
  for result in ordered:
    if is_hypermodel(result):
      found.setdefault(words.adapter(result.run), result)
  kept = [*found.values()] or [*group][:1]
  return [x for x in group if any(x is own for own in kept)]


def is_hypermodel(result: Result) -> bool:
  """Whether a hypermodel for a frozen T5."""
  own = words.problem(result.run, result.content)
  return own.writes_adapters and not own.trains_jointly


def _is_without_hyperpretraining(result: Result) -> bool:
  return result.run is not None and result.run.is_hyperpretrained is False


def role(first: Result, second: Result) -> str:
  """What the second is beside the first."""
  own = words.role(second.run, second.content)
  mine, theirs = (words.adapter(x.run) for x in (first, second))
  if first.run and second.run and not own and is_hypermodel(first):
    before, after = (x.run.is_hyperpretrained for x in (first, second) if x.run)
    if before and after is False:
      own = "a hypermodel without hyperpretraining"
    if after and before is False:
      own = "a hypermodel with hyperpretraining"
  if mine and theirs and mine != theirs:
    own += ("; " if own else "") + f"{theirs}, not {mine}"
  return own


def renamed(result: Result, name: str) -> Result:
  return dataclasses.replace(result, name=name)


def finding(pair: Pair) -> Finding:
  """What the first one's right answers gain over the second's."""
  first, second = pair.first, pair.second
  metric = words.main_metric(first)
  named = f"{second.name}, {pair.role}," if pair.role else second.name
  claim = findings.Claim(
    f"{first.name} beats {named.rstrip(',')}",
    f"Nothing tells {first.name} from {named.rstrip(',')}",
    f"{named} beats {first.name}",
  )
  if metric not in second.content["metrics"]:
    cause = f"{second.path} has no {words.metric(metric)}"
    return Finding(claim.open, f"{cause}.", None)
  both = [
    findings.score(x.content, columns.RIGHT, metric) for x in (first, second)
  ]
  evidence = f"{both[0]} against {both[1]}{_differences(first, second)}"
  found = paired(first, second, metric)
  if found is None:
    cause = "they have no targets and draws in common that predictions tell"
    return Finding(claim.open, f"{evidence}; {cause}.", None)
  if found["tasks"] == 1 and found["draws"] == 1:
    cause = "one task and one draw of demonstrations have no interval"
    return Finding(claim.open, f"{evidence}; {cause}.", None)
  gain = findings.percent(found["mean"], found, True)
  return findings.decided(claim, evidence, gain, findings.touch(*both))


def _differences(first: Result, second: Result) -> str:
  """What else two results differ in, in brackets."""
  if first.run is not None and first.run is second.run:
    return ""  # their names say it
  found = []
  numbers = [x.settings.get("num_demonstrations") for x in (first, second)]
  if None not in numbers and numbers[0] != numbers[1]:
    found.append(f"{numbers[0]} and {numbers[1]} demonstrations")
  trained = [x.content.get("step") for x in (first, second)]
  if None not in trained and trained[0] != trained[1]:
    found.append(f"after {trained[0]:,} and {trained[1]:,} steps")
  t5s = [
    x.content.get("backbone", {}).get("identity")
    for x in (first, second)
    if words.adapter(x.run) and "its T5" not in words.role(x.run, x.content)
  ]
  if len(t5s) == 2 and None not in t5s and t5s[0] != t5s[1]:
    found.append("with different T5s")
  return f" ({', '.join(found)})" if found else ""


def paired(
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
  shared = [key for key in mine if key in theirs]
  if not shared:
    return None
  return results.interval(
    [
      (
        mine[key].answer,
        mine[key].values[metric] - theirs[key].values[metric],
      )
      for key in shared
    ]
  )
