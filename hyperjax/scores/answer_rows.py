"""Rows of answers, whoever made them: what was predicted, what it should have been."""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from hyperjax.data import files

PREDICTION, OUTPUT, ADAPTER = "prediction", "output", "adapter"
OUTPUT_SCORE = "output_log_likelihood"


@dataclasses.dataclass(frozen=True)
class Answered:
  """A line's answer, and what it should have been."""

  prediction: str
  output: str
  log_likelihood: float | None = None  # of the output, summed over its tokens
  adapter: str | None = None  # that answered, where lines name them


def of_rows(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Answered]:
  """Those of some lines, each with its place, that have an output."""
  return [x for where, row in rows if (x := of_row(row, where)) is not None]


def of_row(row: Mapping[str, Any], where: str) -> Answered | None:
  """A line of answers, None where it has no output.

  Raises:
    ValueError: it has no prediction, or a field of another type.
  """
  given = files.field(row, PREDICTION, where)
  prediction = _text(given, f"{where}: {PREDICTION!r}")
  if is_missing(row.get(OUTPUT)):
    return None
  output = _text(row[OUTPUT], f"{where}: {OUTPUT!r}")
  found: Any = row.get(OUTPUT_SCORE)
  if found is not None and (
    isinstance(found, bool)
    or not isinstance(found, int | float)
    or not math.isfinite(found)
  ):
    raise ValueError(
      f"{where}: {OUTPUT_SCORE!r} must be a number, got {found!r}"
    )
  adapter = row.get(ADAPTER)
  if adapter is not None:
    files.check_text(adapter, f"{where}: {ADAPTER!r}")
  return Answered(prediction, output, found, adapter)


def is_missing(value: Any) -> bool:
  """Whether a cell has no value: null, or what pandas writes for it, NaN."""
  return value is None or (isinstance(value, float) and math.isnan(value))


def _text(value: Any, where: str) -> str:
  """A text, also of a number, and of true and false, as JSON has them.

  Raises:
    ValueError: it is something else.
  """
  if isinstance(value, bool | int | float):
    return json.dumps(value)
  files.check_text(value, where)
  return value
