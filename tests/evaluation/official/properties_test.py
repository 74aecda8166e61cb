"""Official figures against the authors' formulas, written out step by step."""

import collections
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from hyperjax.evaluation.official import metaicl, p3, sni

TEXTS = st.sampled_from(["a", " a", "b", "b!", "B", "the cats", "the cat", ""])
SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)


def _metaicl(predictions, truths, is_classification):
  """`MetaICLData.evaluate`: precision and recall by class, then F1."""
  hits, precisions, recalls = [], {}, {}
  for prediction, truth in zip(predictions, truths, strict=True):
    prediction, truth = prediction.strip(), truth.strip()
    is_right = prediction == truth
    hits.append(is_right)
    recalls.setdefault(truth, []).append(is_right)
    precisions.setdefault(prediction, []).append(is_right)
  if not is_classification:
    return np.mean(hits)
  f1s = []
  for label, own in recalls.items():
    recall = np.mean(own)
    precision = np.mean(precisions[label]) if label in precisions else 1.0
    total = precision + recall
    f1s.append(2 * precision * recall / total if total else 0)
  return np.mean(f1s)


@given(
  st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12),
  st.booleans(),
  st.randoms(use_true_random=False),
)
def test_metaicls_figure_is_its_authors_in_any_order(pairs, is_class, random):
  predictions, truths = zip(*pairs, strict=True)
  found = metaicl.evaluate(predictions, truths, is_class)
  assert 0 <= found <= 1
  wanted = _metaicl(predictions, truths, is_class)
  assert found == pytest.approx(wanted, abs=1e-12)
  shuffled = random.sample(pairs, len(pairs))
  again = metaicl.evaluate(*zip(*shuffled, strict=True), is_class)
  assert again == pytest.approx(found, abs=1e-12)
  assert metaicl.evaluate(truths, truths, is_class) == 1


def _exact(prediction, reference):
  def normal(text):
    kept = "".join(x for x in text.lower() if x not in string.punctuation)
    return " ".join(kept.split())

  return float(normal(prediction) == normal(reference))


def _rouge(prediction, reference):
  found = SCORER.score(target=reference, prediction=prediction)
  return found["rougeL"].fmeasure


@given(
  st.lists(
    st.tuples(
      st.none() | TEXTS,
      st.lists(TEXTS, min_size=1, max_size=3),
      st.sampled_from(["t1", "t2"]),
      st.sampled_from(["Word Analogy", "Title Generation"]),
    ),
    min_size=1,
    max_size=8,
  ).filter(lambda rows: any(row[0] is not None for row in rows)),
  st.randoms(use_true_random=False),
)
def test_snis_figures_are_its_authors_in_any_order(rows, random):
  """Percentages of four digits, by category and task; none is an empty one."""
  predictions = {
    f"i{i}": row[0] for i, row in enumerate(rows) if row[0] is not None
  }
  references = {
    f"i{i}": sni.Reference(own, task, category)
    for i, (_, own, task, category) in enumerate(rows)
  }
  groups = collections.defaultdict(list)
  for text, own, task, category in rows:
    scores = {
      "exact_match": max(_exact(text or "", x) for x in own),
      "rougeL": max(_rouge(text or "", x) for x in own),
    }
    for key in ("", task, "_".join(category.lower().split())):
      groups[key].append(scores)
  report = sni.score_predictions(predictions, references)
  found = {"": report.overall, **report.groups["tasks"]}
  found |= report.groups["categories"]
  assert found.keys() == groups.keys()
  for key, own in groups.items():
    for name in ("exact_match", "rougeL"):
      wanted = 100.0 * np.mean([scores[name] for scores in own])
      assert found[key][name] == pytest.approx(wanted, abs=1e-4)
      assert 0 <= found[key][name] <= 100
  order = random.sample([*references], len(references))
  again = sni.score_predictions(
    predictions, {key: references[key] for key in order}
  )
  assert again.overall == pytest.approx(report.overall, abs=1e-4)


@given(
  st.lists(
    st.tuples(
      st.lists(
        st.tuples(
          st.sampled_from([-np.inf, -3.0, -2.0, -1.0]),
          st.booleans(),
          st.integers(1, 4),
        ),
        min_size=1,
        max_size=4,
      ),
      st.sampled_from([0.5, 1.0, 2.0]),
    ),
    min_size=1,
    max_size=6,
  ),
  st.booleans(),
)
def test_p3s_accuracy_is_t5s_rank_classification(examples, is_normalized):
  """The first of the best, by argmax; a mean over examples by their weight."""
  own, right, total = {}, 0.0, 0.0
  for i, (choices, weight) in enumerate(examples):
    own[i] = {
      j: p3.Choice("here", is_correct, score, weight, length)
      for j, (score, is_correct, length) in enumerate(choices)
    }
    scores = [s / n if is_normalized else s for s, _, n in choices]
    right += weight * choices[int(np.argmax(scores))][1]
    total += weight
  found = p3.accuracy(own, is_normalized)
  assert found == pytest.approx(100 * right / total)
  # Whatever order their lines came in.
  back = {
    i: dict(reversed(choices.items())) for i, choices in reversed(own.items())
  }
  assert p3.accuracy(back, is_normalized) == pytest.approx(found)
