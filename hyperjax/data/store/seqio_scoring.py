"""The metrics that a seqio task was registered with."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax.data.store import seqio_rows

_log = logging.getLogger(__name__)


class SeqioScoring:
  """The metric functions that a seqio task was registered with."""

  def __init__(self, task: Any):
    self._task = task

  def score(
    self,
    predictions: Sequence[str],
    targets: Sequence[str],
    records: Sequence[Mapping[str, Any]],
  ) -> dict[str, float]:
    """What the task's predict metrics say, after its postprocessing.

    Args:
      predictions: decoded answers.
      targets: decoded targets, of the same rows.
      records: the rows' other fields, which postprocessing may read.
    """

    def finish(texts: Sequence[str], is_target: bool) -> list[Any]:
      return [
        self._task.postprocess_fn(text, example=record, is_target=is_target)
        for text, record in zip(texts, records, strict=True)
      ]

    scores: dict[str, float] = {}
    for metric in self._task.predict_metric_fns:
      found = metric(finish(targets, True), finish(predictions, False))
      for name, value in found.items():
        number = seqio_rows.plain(
          getattr(value, "value", value)
        )  # of metrics.Scalar
        if isinstance(number, (int, float)):
          scores[name] = float(number)
        else:
          _log.warning("metric %s is no number and is left out", name)
    return scores
