"""What `predict` adds to answers of lines that say more: log-likelihoods, figures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hyperjax.scores import answer_rows

if TYPE_CHECKING:
  from hyperjax.serving import answering_t5
  from hyperjax.serving.inputs import Question

SCORE, CHOICE_SCORES = "log_likelihood", "choice_log_likelihoods"
ADDED = (answer_rows.PREDICTION, SCORE, answer_rows.OUTPUT_SCORE, CHOICE_SCORES)
_DIGITS = 6  # of log-likelihoods


def add(
  model: "answering_t5.AnsweringT5",
  questions: "Sequence[Question]",
  adapters: Sequence[Any],
  predicted: Sequence[Sequence[int]],
  rows: Sequence[dict[str, Any]],
  batch_size: int,
  are_all: bool,
) -> None:
  """Adds log-likelihoods to rows, all of a row's from one pass.

  Args:
    model: that has answered.
    questions: of a batch.
    adapters: of each, or one for all.
    predicted: token ids of the answers.
    rows: of each question.
    batch_size: as in `answering_t5.Options`.
    are_all: also of predictions and choices, not of outputs alone.
  """
  outputs: list[Any] = []
  for tokens, question in zip(predicted, questions, strict=True):
    texts = list(map(model.encode, scored(question, are_all)))
    outputs.append([tokens, *texts] if are_all else texts)
  if not any(outputs):
    return
  texts = [question.input for question in questions]
  scores = model.score(texts, adapters, outputs, batch_size)
  for row, question, found in zip(rows, questions, scores, strict=True):
    left = [round(score, _DIGITS) for score in found]
    if are_all:
      row[SCORE] = left.pop(0)
    if question.output is not None:
      row[answer_rows.OUTPUT_SCORE] = left.pop(0)
    if left:
      row[CHOICE_SCORES] = left


def scored(question: "Question", are_all: bool) -> list[str]:
  """The texts that are scored besides the prediction."""
  found = [] if question.output is None else [question.output]
  return [*found, *question.choices] if are_all else found


def figures(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """Lines about answers whose outputs are known; none where there are none."""
  answered = answer_rows.of_rows(
    [(f"{name}, line {i}", row) for i, row in enumerate(rows, 1)]
  )
  if not answered:
    return []
  from hyperjax.scores import official_report, own  # imports numpy

  found = own.figures(answered)
  return [
    f"  of {official_report.counted(found.num_lines, 'line')} with an "
    "output, with 95% intervals: "
    f"{found.sentence()}"
  ]


def unwritable(
  questions: "Sequence[Question]",
  model: "answering_t5.AnsweringT5",
  are_all: bool,
) -> list[str]:
  """What the tokenizer cannot write of what is scored."""
  from hyperjax.serving import remarks

  texts = [text for each in questions for text in scored(each, are_all)]
  tokens = [token for text in texts for token in model.encode(text)]
  return [
    f"  {line}, of the outputs and choices that are scored"
    for line in remarks.unwritable(model.vocabulary, texts, tokens)
  ]
