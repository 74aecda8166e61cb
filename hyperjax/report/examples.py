"""Some targets in full, the same ones whenever the report is made."""

from collections.abc import Sequence

from hyperjax.report import details, words
from hyperjax.report.document import Example, Part, Section, Text
from hyperjax.report.run_files import Result
from hyperjax.scores import columns, text_metrics
from hyperjax.scores.results import Answer

_MOST = 2  # how many right and wrong ones, besides the first
_MANY = 4  # with more results there are fewer of each, and closed


def section(results: Sequence[Result]) -> Section:
  """Of each result the first target, some answered wrongly, some rightly."""
  is_many = len(results) > _MANY
  parts: list[Part] = [
    _example(result, result.answers, number, is_many)
    for result in results
    if result.answers and not details.mismatch(result)
    for number in _chosen(result.answers, 1 if is_many else _MOST)
  ]
  if parts and is_many:
    parts.insert(0, Text("Open those to read and to print."))
  return Section("Predictions in full", parts)


def _chosen(answers: Sequence[Answer], most: int) -> list[int]:
  """The first answer, then wrong and right ones spread over the rest."""
  picked = [0]
  is_right = [
    _is_right(own.predictions.get(columns.RIGHT), own) for own in answers
  ]
  for wanted in (False, True):
    numbers = [i for i, found in enumerate(is_right) if i and found is wanted]
    step = max(1, len(numbers) // most)
    picked += numbers[step // 2 :: step][:most]
  return picked


def _is_right(
  prediction: str | None, answer: Answer, column: str = columns.RIGHT
) -> bool:
  return prediction is not None and (
    text_metrics.equal(prediction, answer.references_under(column)) > 0
  )


def _example(
  result: Result, answers: Sequence[Answer], number: int, is_folded: bool
) -> Example:
  answer = answers[number]
  given = {
    "instruction": answer.instruction,
    "input": answer.input,
    "choices": " | ".join(answer.choices or []) or None,
    "right answer": " | ".join(answer.references),
  }
  lines: list[tuple[str, str, bool | None]] = [
    (label, text, None) for label, text in given.items() if text is not None
  ]
  for label, column in result.labelled(answer.predictions):
    if column == columns.OTHER and answer.other_task:
      label += f" ({answer.other_task})"
    prediction = answer.predictions[column]
    lines.append((label, prediction, _is_right(prediction, answer, column)))
  if columns.RELABELLED in map(columns.base, answer.predictions):
    lines.append(("what replaces the answer", answer.relabelled or "", None))
  if answer.other_references:
    theirs = " | ".join(answer.other_references)
    lines.append(("the other task's answer", theirs, None))
  return Example(
    title=f"{result.name}, {result.evaluation}, target {number + 1} of "
    f"{words.count(len(answers))}: {answer.task}",
    demonstrations=[(x[0], x[1]) for x in answer.demonstrations],
    lines=lines,
    files=[result.predictions_path or result.path],
    is_folded=is_folded,
  )
