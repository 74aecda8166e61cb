"""Answers and scores that come of no numbers reach nobody: they are an error."""

from collections.abc import Sequence

import numpy as np

_CAUSE = (
  "its logits overflowed, or weights or adapters hold what is not finite; "
  "T5Config.dtype float32 holds more than bfloat16 and float16"
)


class NotFinite(FloatingPointError):  # noqa: N818 - a state of values
  """Rows of a batch whose log-probabilities are not finite."""

  def __init__(self, what: str, rows: Sequence[int], num_rows: int):
    self.what, self.rows = what, list(rows)
    listed = ", ".join(map(str, self.rows[:8]))
    more = " and others" if len(self.rows) > 8 else ""
    super().__init__(
      f"{what}: the log-probabilities of row {listed}{more} of {num_rows} "
      f"(counted from 0) are not finite: {_CAUSE}"
    )

  def of(self, names: Sequence[str]) -> "NotFinite":
    """The same of rows that have names; those that only fill up have none."""
    known = [names[row] for row in self.rows if row < len(names)]
    if not known:
      return self
    more = f" and {len(known) - 8} more" if len(known) > 8 else ""
    found = NotFinite(self.what, self.rows, len(names))
    found.args = (
      f"{self.what}: the log-probabilities of {', '.join(known[:8])}{more} are "
      f"not finite: {_CAUSE}",
    )
    return found


def check(what: str, values: np.ndarray, num_rows: int) -> np.ndarray:
  """The values [B * A] of B rows, which are numbers.

  Raises:
    NotFinite: names the rows.
  """
  rows = np.flatnonzero(~np.isfinite(values)) * num_rows // max(1, len(values))
  if len(rows):
    raise NotFinite(what, sorted(set(rows.tolist())), num_rows)
  return values
