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
  prediction = files.text_field(row, PREDICTION, where)
  if row.get(OUTPUT) is None:
    return None
  found: Any = row.get(OUTPUT_SCORE)
  output: Any = row[OUTPUT]
  if isinstance(output, bool | int | float):
    output = json.dumps(output)
  files.check_text(output, f"{where}: {OUTPUT!r}")
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
