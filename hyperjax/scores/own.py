"""Figures of anybody's answers: lines with a prediction and the output it should be."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hyperjax.scores import (
  answer_rows,
  intervals,
  official_report,
  text_metrics,
)
from hyperjax.scores.answer_rows import Answered
from hyperjax.scores.intervals import Interval

ACCURACY, ROUGE_L, MACRO_F1 = "accuracy", "ROUGE-L", "macro-F1"
LOG_LIKELIHOOD = "log-likelihood"
_DIGITS = 4
# Outputs are labels where a label has so many lines, on average.
_LINES_OF_LABEL = 2


@dataclasses.dataclass(frozen=True)
class Figures:
  """Means over lines with 95% intervals over lines; percentages, and nats."""

  num_lines: int
  figures: Mapping[str, Interval]  # by the names above, those that there are

  def sentence(self) -> str:
    """Such as "accuracy 91.7 [75.0, 100.0], ROUGE-L 95.0 [85.0, 100.0]"."""
    return ", ".join(f"{x} {_shown(x, y)}" for x, y in self.figures.items())


@dataclasses.dataclass(frozen=True)
class OwnReport:
  """Figures of all lines, and by adapter where there are several."""

  overall: Figures
  adapters: Mapping[str, Figures]
  notes: Sequence[str]

  def content(self) -> dict[str, Any]:
    """All of it, as JSON values."""
    return {
      "benchmark": "own",
      "overall": _json(self.overall),
      "adapters": {name: _json(x) for name, x in self.adapters.items()},
      "notes": list(self.notes),
    }

  def to_json(self) -> str:
    return json.dumps(self.content(), indent=1, ensure_ascii=False) + "\n"

  def table(self) -> str:
    """Lines of text: all, then each adapter, then the notes."""
    rows = {"all": self.overall, **self.adapters}
    names = list(dict.fromkeys(x for own in rows.values() for x in own.figures))
    cells = [
      ["own", "lines", *names],
      *(
        [
          name,
          str(own.num_lines),
          *(
            _shown(x, own.figures[x]) if x in own.figures else "-"
            for x in names
          ),
        ]
        for name, own in rows.items()
      ),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
      "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
      for row in cells
    ]
    return "\n".join([*lines, *(f"\nnote: {note}" for note in self.notes)])


def figures(answered: Sequence[Answered]) -> Figures:
  """Figures of lines, at least one.

  Accuracy is exact match, white space aside. Macro-F1 is there where outputs
  repeat, as labels do, and the log-likelihood where every line has one.
  """
  pairs = [(x.prediction, x.output) for x in answered]
  equal, rouge = (
    [metric(prediction, [output]) for prediction, output in pairs]
    for metric in (text_metrics.equal, text_metrics.rouge_l)
  )
  found = {
    ACCURACY: _percent(intervals.of_answers(equal)),
    ROUGE_L: _percent(intervals.of_answers(rouge)),
  }
  if len({output for _, output in pairs}) * _LINES_OF_LABEL <= len(pairs):
    found[MACRO_F1] = _percent(macro_f1(pairs))
  sums = [x.log_likelihood for x in answered if x.log_likelihood is not None]
  if len(sums) == len(answered):
    found[LOG_LIKELIHOOD] = intervals.of_targets(sums)
  return Figures(len(answered), found)


def report(
  answered: Sequence[Answered], notes: Sequence[str] = ()
) -> OwnReport:
  """Figures of all lines and of each adapter's."""
  by_adapter: dict[str, list[Answered]] = {}
  for one in answered:
    by_adapter.setdefault(one.adapter or "no adapter", []).append(one)
  several = by_adapter if len(by_adapter) > 1 else {}
  return OwnReport(
    figures(answered),
    {name: figures(own) for name, own in several.items()},
    notes,
  )


def macro_f1(pairs: Sequence[tuple[str, str]], seed: int = 0) -> Interval:
  """The mean over classes of F1, with its interval over lines.

  Args:
    pairs: prediction and output, white space at the ends aside. Classes are those
      of the outputs: a prediction that is none costs recall alone. In a resample
      they are those of the lines that were drawn.
    seed: of the resamples.
  """
  kinds: dict[tuple[str, str], int] = {}
  for prediction, output in pairs:
    kind = prediction.strip(), output.strip()
    kinds[kind] = kinds.get(kind, 0) + 1
  predicted, true = (np.asarray(x, object) for x in zip(*kinds, strict=True))
  classes = list(dict.fromkeys(true))

  def statistic(counts_XK: np.ndarray) -> np.ndarray:
    total = np.zeros(len(counts_XK))
    present = np.zeros(len(counts_XK))
    for label in classes:
      are, say = true == label, predicted == label
      num_true, num_said = counts_XK @ are, counts_XK @ say
      num_right = counts_XK @ (are & say)
      total += 2 * num_right / np.maximum(num_true + num_said, 1)
      present += num_true > 0
    return total / present

  return intervals.of_counts(list(kinds.values()), statistic, seed)


def score_files(paths: Sequence[pathlib.Path]) -> OwnReport:
  """Figures of files of answers, as `hyperjax predict` writes them.

  Lines without an output are left out, and counted in a note.

  Raises:
    ValueError: a file is missing or broken, or no line has an output.
  """
  answered, without = [], 0
  for path in official_report.prediction_files(paths, (".jsonl",)):
    for where, row in official_report.rows(path):
      one = answer_rows.of_row(row, where)
      answered += [] if one is None else [one]
      without += one is None
  if not answered:
    raise ValueError(
      f"no line of {paths[0]} has an 'output' beside its 'prediction'"
    )
  note = (
    f"left out, without an output: {official_report.counted(without, 'line')}"
  )
  return report(answered, [note] if without else [])


def _percent(found: Interval) -> Interval:
  return dataclasses.replace(
    found, mean=100 * found.mean, low=100 * found.low, high=100 * found.high
  )


def _shown(name: str, found: Interval) -> str:
  digits = 2 if name == LOG_LIKELIHOOD else 1
  mean, low, high = (
    f"{x:.{digits}f}" for x in (found.mean, found.low, found.high)
  )
  return f"{mean} [{low}, {high}]"


def _json(own: Figures) -> dict[str, Any]:
  return {
    "lines": own.num_lines,
    **{
      name: {
        "mean": round(x.mean, _DIGITS),
        "interval": [round(x.low, _DIGITS), round(x.high, _DIGITS)],
      }
      for name, x in own.figures.items()
    },
  }
