"""The columns of an evaluation: what answers were given from, in words."""

from collections.abc import Iterable, Mapping

RIGHT, NONE, OTHER = "right", "none", "other"
# Answers given with another task's demonstrations, scored by that task's own.
AGAINST_OTHER = "other_against_other"
SHUFFLED = "shuffled"
CONSTANT = "constant"
IN_INPUT = "in_input"

LABELS = {
  RIGHT: "its own demonstrations",
  NONE: "nothing: no adapter",
  SHUFFLED: "its demonstrations, outputs shuffled",
  CONSTANT: "one adapter for all: the mean of those written",
  IN_INPUT: "demonstrations in the T5's input, no adapter",
  OTHER: "another task's demonstrations",
  AGAINST_OTHER: "another task's, scored by that task's answers",
}


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
