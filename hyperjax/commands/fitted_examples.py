"""What was read of a file of examples, for the lines that `adapt` prints."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from hyperjax.data.vocabulary import Tokenizer


def fitted(path: Any, fit: Callable[[], Any]) -> Any:
  """What `fit` gives; the file is named where it refuses."""
  try:
    return fit()
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def report(path: Any, folder: Any, fitted: Any, model: Any) -> list[str]:
  """How many examples of a file were read, and each that was not."""
  import numpy as np  # a cost of the command alone

  from hyperjax.batch import sequences

  total = len(fitted.kept) + len(fitted.dropped)
  lengths, tokens = model.lengths, np.concatenate(sequences(fitted.tokens))
  room = lengths.demonstrations
  most, within = f"at most {room}", "in all"
  if lengths.are_separate:
    # An update reads more than in training where more are given.
    rows = max(lengths.num_demonstrations, len(fitted.tokens))
    most = f"at most {rows} rows of {room}"
    within = "each"
  lines = [
    f"{path}: {len(fitted.kept)} of {total} examples read, "
    f"{len(tokens)} tokens of {most}; adapter in {folder}"
  ]
  for example, size, left in fitted.dropped:
    why = f"room for {room} {within}"
    if size <= room:
      why = (
        "no row is left" if lengths.are_separate else f"room for {left} more"
      )
    lines.append(f"  line {example.line} dropped: {size} tokens, {why}")
  texts = [
    x for example in fitted.kept for x in (example.input, example.output)
  ]
  return lines + unwritable(model.vocabulary, texts, tokens)


def unwritable(
  vocabulary: "Tokenizer", texts: Iterable[str], tokens: Iterable[int]
) -> list[str]:
  """What a tokenizer cannot write of texts, whose ids are `tokens`: a line each."""
  lines, unknown = [], vocabulary.unknown_id
  count = sum(int(token) == unknown for token in tokens)
  if count:
    lines.append(f"  {count} tokens are unknown to the model's tokenizer")
  lost = sum(map(vocabulary.lost_whitespace, texts))
  if lost:
    lines.append(
      f"  {lost} characters of whitespace are lost in the model's tokenizer: line "
      "breaks, tabs, or spaces at an end or beside others"
    )
  return lines
