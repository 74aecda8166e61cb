"""What holds, on one screen: claims by evaluation, and evaluations side by side."""

from collections.abc import Mapping, Sequence

from hyperjax.report import comparing, document, findings, summaries, words
from hyperjax.report.document import Cell, Finding, Part, Section, Table
from hyperjax.report.run_files import Result

_MARKS_MEAN = (
  "✓: the gain's interval lies above 0; ✗: below; ?: 0 is in it, or there is no "
  "interval."
)
Groups = Sequence[Sequence[Result]]


def what_holds(groups: Groups) -> Table:
  """The answers to every question in every evaluation, for the hypermodels.

  Only where there are too many results for all findings in full.
  """
  is_needed = any(map(summaries.is_large, groups))
  answers = [_answers(group) if is_needed else {} for group in groups]
  questions = dict.fromkeys(x for found in answers for x in found)
  return document.cross(
    "What holds",
    "Question",
    [(x, x) for x in questions],
    zip(map(summaries.title, groups), answers, strict=True),
    lambda question, found: found.get(question),
    "What is gained on the same targets and draws. [ ]: its 95% interval. "
    f"{_MARKS_MEAN} Every claim is below in words.",
    [x for group in groups for result in group for x in result.sources],
  )


def _answers(group: Sequence[Result]) -> Mapping[str, Finding]:
  found = {}
  pairs = comparing.pairs(group)
  for lead in comparing.leads(group):
    for column, finding in findings.by_control(lead).items():
      if claim := findings.CLAIMS.get(column):
        found[f"{lead.name}: {claim.question}"] = finding
    own = [pair for pair in pairs if pair.first is lead]
    found |= {pair.title: comparing.finding(pair) for pair in own}
  return found


def side_by_side(groups: Groups) -> Section:
  """Of every run with several evaluations its controls in all of them."""
  runs = summaries.by_run([result for group in groups for result in group])
  leads = {
    lead.run.name
    for group in groups
    for lead in comparing.leads(group)
    if lead.run
  }
  parts: list[Part] = []
  for name, own in runs.items():
    if len({result.asked for result in own}) > 1:
      is_folded = len(runs) > len(leads) > 0 and name not in leads
      parts += _by_evaluation(name, own, is_folded)
  return document.section("Evaluations side by side", parts)


def _by_evaluation(
  name: str, own: Sequence[Result], is_folded: bool
) -> list[Part]:
  """The scores and gains under every control, then what they mean."""
  labels = own[0].labelled({x for one in own for x in one.scores})
  metrics = {one.metric for one in own}
  unit = words.metric(own[0].metric) if len(metrics) == 1 else "scores"
  names = [one.evaluation for one in own]
  rows: list[list[Cell]] = [
    [label, *(cell for one in own for cell in _score_and_gain(one, column))]
    for label, column in labels
  ]
  head = [x for one in names for x in (one, f"{one}: gain")]
  found = [findings.by_control(one) for one in own]
  return [
    Table(
      f"{name}: controls by evaluation, {unit}",
      ("Answered from", *head),
      rows,
      f"{summaries.MEANING}. The gain is that of its own answers over a control, "
      "on the same targets and draws.",
      summaries.paths(own),
      is_folded,
    ),
    document.cross(
      f"{name}: what that means",
      "Held against",
      [x for x in labels if any(x[1] in claims for claims in found)],
      zip(names, found, strict=True),
      lambda column, claims: claims[column].told if column in claims else None,
      _MARKS_MEAN,
      summaries.paths(own),
      is_folded,
    ),
  ]


def _score_and_gain(result: Result, column: str) -> list[Cell]:
  score = result.cell(column)
  return [score, score and result.gain(column)]
