"""What others report for a setting, kept beside what is measured.

A figure is named as `hyperjax eval` writes it: "mean" of a benchmark's official
figures over all, "data sets/super_glue_cb/mean" of one of their groups, or a
metric such as "rouge_l". All are percentages.
"""

from collections.abc import Mapping
from typing import Any

from hyperjax.scores import paper

# Known: the source states it. Likely: it is remembered or inferred.
CERTAINTIES = ("known", "likely")


def check(name: str, expected: Mapping[str, Any]) -> None:
  """Refuses what is no mapping of figures to (number, source, certainty).

  Raises:
    ValueError: as it says.
  """
  for figure, given in expected.items():
    is_row = isinstance(given, tuple | list) and len(given) == 3
    number, source, certainty = given if is_row else (None, None, None)
    if (
      not isinstance(number, int | float)
      or not isinstance(source, str)
      or certainty not in CERTAINTIES
    ):
      raise ValueError(
        f"{name}[{figure!r}] takes (number, source, one of "
        f"{', '.join(CERTAINTIES)}); got {given!r}"
      )


def describe(expected: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """As results hold it."""
  return {
    figure: {"value": value, "source": source, "certainty": certainty}
    for figure, (value, source, certainty) in expected.items()
  }


def of_results(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """What others report for an evaluation: the paper, and what gin gave it."""
  return paper.expected(results) | dict(results.get("expected", {}))


def measured(
  results: Mapping[str, Any], figure: str, column: str = "right"
) -> float | None:
  """The percentage that results have for a named figure; None if they do not."""
  found: Any = results.get("official", {}).get(column, {})
  parts = figure.split("/")
  for part in parts if len(parts) > 1 else ("overall", *parts):
    found = found.get(part) if isinstance(found, Mapping) else None
  if isinstance(found, int | float):
    return float(found)
  score = results["scores"].get(column, {}).get(figure)
  return None if score is None else 100 * score
