"""What was read of a file of examples, for the lines that `adapt` prints."""

from collections.abc import Callable
from typing import Any


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
  unknown = model.vocabulary.unknown_id
  count = int((tokens == unknown).sum()) if unknown is not None else 0
  if count:
    lines.append(f"  {count} tokens are unknown to the model's tokenizer")
  return lines
