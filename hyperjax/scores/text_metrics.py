"""Metrics of one prediction against its references, each from 0 to 1."""

import functools
import re
import string
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from hyperjax import checks

Metric = Callable[[str, Sequence[str]], float]


def equal(prediction: str, references: Sequence[str]) -> float:
  """1 where the prediction is a reference, white space aside."""
  return float(_squeeze(prediction) in map(_squeeze, references))


def exact_match(prediction: str, references: Sequence[str]) -> float:
  """Super-NaturalInstructions' exact match: case and punctuation aside."""
  return float(_normalize(prediction) in map(_normalize, references))


def rouge_l(prediction: str, references: Sequence[str]) -> float:
  """ROUGE-L F1 with stemming, the best over references (Wang et al., 2022)."""
  scorer = _rouge_scorer()
  return max(
    (
      scorer.score(target=reference, prediction=prediction)["rougeL"].fmeasure
      for reference in references
    ),
    default=0.0,
  )


METRICS: dict[str, Metric] = {
  "equal": equal,
  "exact_match": exact_match,
  "rouge_l": rouge_l,
}
RIGHT_OR_WRONG = ("equal", "exact_match")  # those that are 0 or 1
Metrics = Annotated[Sequence[str], checks.Some(METRICS)]


def _squeeze(text: str) -> str:
  return " ".join(text.split())


def _normalize(text: str) -> str:
  """Lower case, no ASCII punctuation, single spaces; articles stay."""
  text = re.sub(f"[{re.escape(string.punctuation)}]", "", text.lower())
  return _squeeze(text)


@functools.cache
def _rouge_scorer() -> Any:
  from rouge_score import rouge_scorer  # imports nltk

  return rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
