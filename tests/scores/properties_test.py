"""Metrics and intervals, for any texts and numbers."""

import itertools
import re
import string

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from hyperjax.scores import intervals, results, text_metrics
from hyperjax.scores.ranking import Ranking

# Words that meet often, with what metrics take away; and any text at all.
WORDS = st.sampled_from(
  ["the", "The", "cat", "cats", "cat.", "running", "ran!", "U.S.", "", "ü", "½"]
)
TEXTS = st.lists(WORDS, max_size=6).map(" ".join) | st.text(max_size=12)
REFERENCES = st.lists(TEXTS, min_size=1, max_size=3)
SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)


def _official_exact(prediction, reference):
  """Super-NaturalInstructions' formula, step by step."""

  def normal(text):
    kept = [ch for ch in text.lower() if ch not in set(string.punctuation)]
    return " ".join("".join(kept).split())

  return normal(prediction) == normal(reference)


# What makes a prediction of a reference.
CHANGES = [str.upper, str.title, "{}!".format, " {} ".format, "a {}".format]


@settings(max_examples=100)
@given(
  REFERENCES,
  TEXTS | st.sampled_from(CHANGES),
  st.randoms(use_true_random=False),
)
def test_metrics_are_the_official_ones_in_any_order(
  references, prediction, random
):
  """From 0 to 1, 1 for a reference itself, and the best of several."""
  if callable(prediction):
    prediction = prediction(references[-1])
  wanted = {
    "equal": max(prediction.split() == x.split() for x in references),
    "exact_match": max(_official_exact(prediction, x) for x in references),
    "rouge_l": max(
      SCORER.score(target=x, prediction=prediction)["rougeL"].fmeasure
      for x in references
    ),
  }
  shuffled = random.sample(references, len(references))
  for name, metric in text_metrics.METRICS.items():
    found = metric(prediction, references)
    assert 0 <= found <= 1
    assert found == pytest.approx(float(wanted[name]), abs=1e-12), name
    assert metric(prediction, shuffled) == found
    alone = [metric(prediction, [x]) for x in references]
    assert found == max(alone)
    # Of two texts it is the same which is the prediction.
    back = [metric(x, [prediction]) for x in references]
    assert back == pytest.approx(alone, abs=1e-12)
    if re.search("[a-z]", references[0]) or name != "rouge_l":
      assert metric(references[0], references) == pytest.approx(1)


VALUES = st.lists(st.floats(-5, 5), min_size=1, max_size=12)
SCORES = st.dictionaries(
  st.sampled_from("abcdefgh"),
  st.lists(st.floats(0, 1), min_size=1, max_size=4),
  min_size=1,
)


@given(SCORES, st.floats(-3, 3), st.floats(0.1, 5))
def test_an_interval_holds_the_mean_and_moves_with_what_it_is_of(
  scores, shift, scale
):
  found = intervals.bootstrap(scores)
  means = [np.mean(values) for values in scores.values()]
  assert found.mean == pytest.approx(np.mean(means), abs=1e-12)
  every = [x for values in scores.values() for x in values]
  ends = (min(every), found.low, found.mean, found.high, max(every))
  assert all(a <= b + 1e-12 for a, b in itertools.pairwise(ends))
  moved = intervals.bootstrap(
    {
      task: [shift + scale * x for x in values]
      for task, values in scores.items()
    }
  )
  np.testing.assert_allclose(
    [moved.low, moved.mean, moved.high],
    [shift + scale * x for x in (found.low, found.mean, found.high)],
    atol=1e-9,
  )


@given(VALUES, st.integers(4, 30))
def test_intervals_of_targets_narrow_with_their_number(values, times):
  """By the root of how often each is there; whatever their order."""
  few, many = intervals.of_targets(values), intervals.of_targets(values * times)
  assert few.low <= few.mean + 1e-12 and few.mean <= few.high + 1e-12
  assert many.mean == pytest.approx(few.mean, abs=1e-9)
  assert intervals.of_targets(values[::-1]).low == pytest.approx(few.low)
  spread = np.std(values)
  width = many.high - many.low
  if len(values) * times >= 40:
    wanted = 2 * 1.96 * spread / np.sqrt(len(values) * times)
    assert width == pytest.approx(wanted, rel=0.35, abs=1e-9)
  if spread > 1e-6:
    assert width <= 0.9 * (few.high - few.low) or few.high - few.low < spread


@given(VALUES)
def test_a_median_is_a_value_between_the_ends_of_its_interval(values):
  median, low, high = intervals.of_median(values)
  assert {median, low, high} <= set(values)
  assert low <= median <= high
  assert sum(x <= median for x in values) * 2 >= len(values)
  assert sum(x < median for x in values) * 2 < len(values)
  assert intervals.of_median(values[::-1])[0] == median


@given(
  st.lists(
    st.tuples(st.floats(-50, 0), st.integers(1, 5)), min_size=1, max_size=6
  )
)
def test_the_best_choice_is_the_first_of_the_highest(choices):
  sums, counts = map(list, zip(*choices, strict=True))
  ranking = Ranking(sums, counts)
  means = [total / count for total, count in choices]
  for per_token, scores in ((False, sums), (True, means)):
    assert ranking.best(per_token) == scores.index(max(scores))


def _answer(number, task, row, prediction, none, target):
  return results.Answer(
    task=task,
    row=row,
    draw=number % 2,
    input=f"{number}",
    target=target,
    references=[target],
    demonstrations=[],
    predictions={"right": prediction, "none": none},
  )


SHORT = st.sampled_from(["a", "b", "a b"])


@given(
  st.lists(
    st.tuples(st.sampled_from("tu"), SHORT, SHORT, SHORT),
    min_size=1,
    max_size=8,
  ),
  st.randoms(use_true_random=False),
)
def test_scores_are_means_over_answers_in_any_order(rows, random):
  metrics = [*text_metrics.METRICS]
  answers = [
    _answer(i, task, i, right, none, target)
    for i, (task, right, none, target) in enumerate(rows)
  ]
  found = results.summarize(results.scored(answers, metrics))
  for column, place in (("right", 1), ("none", 2)):
    equal = [row[place] == row[3] for row in rows]
    assert found[column]["equal"] == pytest.approx(np.mean(equal))
    assert found[column]["targets"] == len(rows)
  shuffled = random.sample(answers, len(answers))
  again = results.summarize(results.scored(shuffled, metrics))
  for column, own in found.items():
    assert again[column] == pytest.approx(own)
  gains = results.with_intervals(results.scored(answers, metrics))["gains"]
  tasks = {row[0] for row in rows}
  by_task = []
  for task in tasks:
    draws = [
      [
        (row[1] == row[3]) * 1.0 - (row[2] == row[3])
        for i, row in enumerate(rows)
        if row[0] == task and i % 2 == draw
      ]
      for draw in (0, 1)
    ]
    by_task.append(np.mean([np.mean(own) for own in draws if own]))
  assert gains["none"]["equal"]["mean"] == pytest.approx(np.mean(by_task))
