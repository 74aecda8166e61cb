"""What holds, on one screen: claims by evaluation, and evaluations side by side."""

from collections.abc import Mapping, Sequence

from hyperjax.evaluation import columns
from hyperjax.report import comparing, findings, summaries, words
from hyperjax.report.document import Cell, Finding, Part, Section, Table
from hyperjax.report.run_files import Result

# What a hypermodel's finding on each control answers, as a question.
_QUESTIONS = {
  columns.OTHER: "Does it read its demonstrations?",
  columns.NONE: "Does what it adds help the plain T5?",
  columns.ROTATED: "Does it matter which output belongs to which input?",
  columns.CONSTANT: "Does an adapter for each task beat their mean?",
  columns.IN_INPUT: "Does it beat demonstrations in the plain T5's input?",
}
_MARKS_MEAN = (
  "✓: the gain's interval lies above 0; ✗: below; ?: 0 is in it, or there is no "
  "interval."
)
Groups = Sequence[Sequence[Result]]


def what_holds(groups: Groups) -> list[Part]:
  """The answers to every question in every evaluation, for the hypermodels.

  Only where there are too many results for all findings in full.
  """
  if not any(map(summaries.is_large, groups)):
    return []
  rows: dict[str, dict[int, Finding]] = {}
  for i, group in enumerate(groups):
    for question, found in _answers(group).items():
      rows.setdefault(question, {})[i] = found
  if not rows:
    return []
  return [
    Table(
      "What holds",
      ("Question", *map(summaries.title, groups)),
      [
        [question, *map(own.get, range(len(groups)))]
        for question, own in rows.items()
      ],
      "What is gained on the same targets and draws. [ ]: its 95% interval. "
      f"{_MARKS_MEAN} Every claim is below in words.",
      [x for group in groups for result in group for x in result.sources],
    )
  ]


def _answers(group: Sequence[Result]) -> Mapping[str, Finding]:
  found = {}
  for lead in _leads(group):
    for column, finding in findings.by_control(lead).items():
      if column in _QUESTIONS:
        found[f"{lead.name}: {_QUESTIONS[column]}"] = finding
    for pair in comparing.pairs(group):
      if pair.first is lead:
        found[pair.title] = comparing.finding(pair)
  return found


def _leads(group: Sequence[Result]) -> list[Result]:
  scored = [x for x in group if columns.RIGHT in x.content["scores"]]
  return comparing.leads(scored)


def side_by_side(groups: Groups) -> Section | None:
  """Of every run with several evaluations its controls in all of them."""
  by_run: dict[str, list[Result]] = {}
  for group in groups:
    for result in group:
      own = result.run.name if result.run else result.name
      by_run.setdefault(own, []).append(result)
  leads = {x.run.name for group in groups for x in _leads(group) if x.run}
  parts: list[Part] = []
  for name, own in by_run.items():
    if len({result.asked for result in own}) > 1:
      is_folded = len(by_run) > len(leads) > 0 and name not in leads
      parts += _by_evaluation(name, own, is_folded)
  return Section("Evaluations side by side", parts) if parts else None


def _by_evaluation(
  name: str, own: Sequence[Result], is_folded: bool
) -> list[Part]:
  """The scores and gains under every control, then what they mean."""
  shown = columns.ordered({x for one in own for x in one.content["scores"]})
  conditions = own[0].content.get("conditions")
  labels = {x: columns.label(x, conditions) for x in shown}
  claims = [findings.by_control(one) for one in own]
  metrics = [words.main_metric(one) for one in own]
  unit = words.metric(metrics[0]) if len(set(metrics)) == 1 else "scores"
  names = [one.evaluation for one in own]
  rows: list[list[Cell]] = [
    [
      labels[x],
      *(cell for one in own for cell in _score_and_gain(one, x)),
    ]
    for x in shown
  ]
  meanings: list[list[Cell]] = [
    [
      labels[x],
      *(summaries.claim(found[x]) if x in found else None for found in claims),
    ]
    for x in shown
    if any(x in found for found in claims)
  ]
  files = [one.path for one in own]
  head = [x for own in names for x in (own, f"{own}: gain")]
  parts: list[Part] = [
    Table(
      f"{name}: controls by evaluation, {unit}",
      ("Answered from", *head),
      rows,
      f"{summaries.MEANING}. The gain is that of its own answers over a control, "
      "on the same targets and draws.",
      files,
      is_folded,
    )
  ]
  if meanings:
    parts.append(
      Table(
        f"{name}: what that means",
        ("Held against", *names),
        meanings,
        _MARKS_MEAN,
        files,
        is_folded,
      )
    )
  return parts


def _score_and_gain(result: Result, column: str) -> list[Cell]:
  metric = words.main_metric(result)
  if metric not in result.content["scores"].get(column, {}):
    return [None, None]
  return [
    findings.score(result.content, column, metric),
    findings.gain(result.content, column, metric),
  ]
