"""The columns of an evaluation: what answers were given from, in words."""

from collections.abc import Iterable, Mapping
from typing import Any

RIGHT, NONE, OTHER = "right", "none", "other"
# Answers given with another task's demonstrations, scored by that task's own.
AGAINST_OTHER = "other_against_other"
ROTATED = "rotated"  # each output is the demonstration before's
CONSTANT = "constant"
IN_INPUT = "in_input"
# No column: what is known of a target's adapter beside its answers.
DRIFT = "drift"
# Other labels stand for a task's own, in its demonstrations and in right answers.
RELABELLED = "relabelled"
# The same, each label in the demonstrations another than in right answers.
RELABELLED_WRONG = "relabelled_wrong"
# The mean of the adapters that are written from such demonstrations.
RELABELLED_CONSTANT = "relabelled_constant"
# Means of adapters, and under which columns these are written.
MEANS = {CONSTANT: RIGHT, RELABELLED_CONSTANT: RELABELLED}
# What earlier versions called a column.
EARLIER = {"shuffled": ROTATED}
_WORDS = {"its own, outputs shuffled": "its own, outputs rotated"}

LABELS = {
  RIGHT: "its own demonstrations",
  NONE: "nothing: no adapter",
  ROTATED: "its demonstrations, outputs rotated",
  CONSTANT: "one adapter for all: the mean of those written",
  IN_INPUT: "demonstrations in the T5's input, no adapter",
  OTHER: "another task's demonstrations",
  AGAINST_OTHER: "another task's, scored by that task's answers",
  RELABELLED: "its demonstrations, all labels replaced",
  RELABELLED_WRONG: "its demonstrations, labels replaced by wrong ones",
  RELABELLED_CONSTANT: "the mean adapter, all labels replaced",
}
_RELABELLED = (RELABELLED, RELABELLED_WRONG, RELABELLED_CONSTANT)


def base(column: str) -> str:
  """The column of right answers that a column is held against; its own, of these."""
  return RELABELLED if column in _RELABELLED else RIGHT


def label(column: str, own: Mapping[str, str] | None = None) -> str:
  """A column in words: those of its results, the general ones, or its name."""
  return (own or {}).get(column) or LABELS.get(column) or column


def ordered(columns: Iterable[str]) -> list[str]:
  """Known columns in the order above, then the others by name."""
  known = list(LABELS)
  return sorted(
    columns,
    key=lambda x: (known.index(x) if x in known else len(known), x),
  )


def renamed(content: Any) -> Any:
  """JSON of results or answers, with today's names for columns."""
  if isinstance(content, Mapping):
    return {EARLIER.get(k, k): renamed(value) for k, value in content.items()}
  if isinstance(content, list):
    return [renamed(value) for value in content]
  return _WORDS.get(content, content) if isinstance(content, str) else content
