"""Some targets in full, the same ones whenever the report is made."""

from collections.abc import Sequence

from hyperjax.evaluation import columns, score
from hyperjax.evaluation.results import Answer
from hyperjax.report import scores, words
from hyperjax.report.document import Example, Part, Section, Text
from hyperjax.report.run_files import Result

_MOST = 2  # how many right and wrong ones, besides the first
_MANY = 4  # with more results there are fewer of each, and closed


def section(results: Sequence[Result]) -> Section | None:
  """Of each result the first target, some answered wrongly, some rightly."""
  is_many = len(results) > _MANY
  parts: list[Part] = (
    [Text("Open those to read and to print.")] if is_many else []
  )
  for result in results:
    if result.answers and not scores.mismatch(result):
      picked = chosen(result.answers, 1 if is_many else _MOST)
      parts += [_example(result, number, is_many) for number in picked]
  is_empty = all(isinstance(part, Text) for part in parts)
  return None if is_empty else Section("Predictions in full", parts)


def chosen(answers: Sequence[Answer], most: int) -> list[int]:
  """The first answer, then wrong and right ones spread over the rest."""
  picked = [0]
  is_right = [_is_right(answer) for answer in answers]
  for wanted in (False, True):
    numbers = [i for i, found in enumerate(is_right) if i and found is wanted]
    step = max(1, len(numbers) // most)
    picked += numbers[step // 2 :: step][:most]
  return picked


def _is_right(answer: Answer) -> bool:
  own = answer.predictions.get(columns.RIGHT)
  return own is not None and score.equal(own, answer.references) > 0


def _example(result: Result, number: int, is_folded: bool) -> Example:
  assert result.answers is not None  # the caller has looked
  answer = result.answers[number]
  lines: list[tuple[str, str, bool | None]] = []
  if answer.instruction:
    lines.append(("instruction", answer.instruction, None))
  lines.append(("input", answer.input, None))
  if answer.choices:
    lines.append(("choices", " | ".join(answer.choices), None))
  lines.append(("right answer", " | ".join(answer.references), None))
  for column in columns.ordered(answer.predictions):
    prediction = answer.predictions[column]
    label = columns.label(column, result.content.get("conditions"))
    if column == columns.OTHER and answer.other_task:
      label += f" ({answer.other_task})"
    lines.append(
      (label, prediction, score.equal(prediction, answer.references) > 0)
    )
  if answer.other_references:
    lines.append(
      ("the other task's answer", " | ".join(answer.other_references), None)
    )
  return Example(
    title=(
      f"{result.name}, {result.evaluation}, target {number + 1} of "
      f"{words.count(len(result.answers))}: {answer.task}"
    ),
    demonstrations=[(x[0], x[1]) for x in answer.demonstrations],
    lines=lines,
    files=[result.predictions_path or result.path],
    is_folded=is_folded,
  )
