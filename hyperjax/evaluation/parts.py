"""Units of an evaluation answered together, fewer where so many do not fit."""

import logging
from collections.abc import Callable, Hashable, Sequence

import jax

from hyperjax.evaluation.asked import Asked
from hyperjax.evaluation.questions import Unit
from hyperjax.memory.answer import Fitting, OutOfMemory
from hyperjax.scores import columns
from hyperjax.sharding import Layout

_log = logging.getLogger(__name__)


class Parts:
  """How many units fit together in each way of answering, as far as is known."""

  def __init__(self, asked: Asked, layout: Layout):
    """Knows nothing yet."""
    self._asked, self._layout = asked, layout
    self._most: dict[Hashable, int] = {}

  def each(
    self,
    units: Sequence[Unit],
    control: str,
    ask: Callable[[Sequence[Unit]], None],
  ) -> None:
    """Calls `ask` with all units, or with parts of them, in their order.

    Where they do not fit, `ask` is called again with half as many, and from then
    on with no more. Of several processes all would have to find the same, so
    there it is an error.

    Args:
      units: of one batch.
      control: under which they are answered.
      ask: answers some units at once.

    Raises:
      OutOfMemory: not even one of each device fits; it says what would.
    """
    first, way = 0, (control, units[0].is_ranked)
    while first < len(units):
      some = units[first : first + self._most.get(way, len(units))]
      try:
        ask(some)
        first += len(some)
      except OutOfMemory as error:
        fewer = self._layout.padded(max(1, len(some) // 2))
        if fewer >= len(some) or jax.process_count() > 1:
          raise error.advised(self._advice(error.fitting(), control)) from error
        _log.warning(
          "%s: %d contexts together do not fit (%s); %d at a time are answered",
          self._asked.name,
          len(some),
          error,
          fewer,
        )
        self._most[way] = fewer

  def _advice(self, found: Fitting | None, control: str) -> str:
    """Settings of what was found to fit: of one context for each device."""
    if found is None:
      return "no shorter text fits; a smaller model, or more memory is needed"
    settings = []
    least, rows = self._layout.padded(1), self._asked.rows_per_context
    if found.rows is not None:
      contexts = max(least, found.rows // rows)
      rows = min(rows, found.rows // least)
      settings.append(("rows_per_context", rows))
      if jax.process_count() > 1:  # else they have been made fewer already
        settings.append(("contexts_per_batch", contexts))
    changed = [
      f"FewShotEvaluation.{name}={value}"
      for name, value in settings
      if value < getattr(self._asked, name)
    ]
    for name, value in found.lengths.items():
      of = f"[{name!r}]"
      if name == "inputs" and control == columns.IN_INPUT:
        of = "['demonstrations'] and ['inputs'] together"
      changed.append(f"TASK_FEATURE_LENGTHS{of}={value}")
    return f"set {', '.join(changed)}"
