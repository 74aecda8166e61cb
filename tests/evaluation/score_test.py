import json

import numpy as np
import pytest

from hyperjax.evaluation import score


@pytest.mark.parametrize(
  "prediction, references, wanted",
  [
    ("red ; blue", ["red ; blue"], 1.0),
    (" red  ;\tblue\n", ["red ; blue"], 1.0),
    ("red : blue", ["red ; blue"], 0.0),
    ("Red ; blue", ["red ; blue"], 0.0),
    ("b", ["a", "b"], 1.0),
  ],
)
def test_equal_forgives_white_space_alone(prediction, references, wanted):
  assert score.equal(prediction, references) == wanted


@pytest.mark.parametrize(
  "prediction, references, wanted",
  [
    ("The Answer!", ["the answer"], 1.0),
    ("answer", ["the answer"], 0.0),  # articles are kept
    ("u.s.a.", ["USA"], 1.0),
    ("", ["."], 1.0),
  ],
)
def test_exact_match_forgives_case_and_punctuation(
  prediction, references, wanted
):
  assert score.exact_match(prediction, references) == wanted


def test_rouge_l_takes_the_best_reference():
  # Longest common subsequence "the cat": P = 2/3, R = 2/4, F = 4/7.
  assert score.rouge_l("the cat ran", ["the cat sat down"]) == pytest.approx(
    4 / 7
  )
  assert score.rouge_l("a b", ["x", "a b"]) == 1.0
  assert score.rouge_l("runs", ["running"]) == 1.0  # stemmed


def test_scores_are_the_official_ones(data_dir):
  official = json.loads(
    (data_dir / "official_metrics" / "sni_predictions.json").read_text()
  )
  by_task = {}
  for row in official["rows"]:
    found = {
      "exact_match": score.exact_match(row["prediction"], row["references"]),
      "rougeL": score.rouge_l(row["prediction"], row["references"]),
    }
    for name, value in found.items():
      assert value == pytest.approx(row[name], abs=1e-12), row
      by_task.setdefault(f"{name}_for_{row['task_id']}", []).append(value)
  assert official["per_task"]
  for name, wanted in official["per_task"].items():
    assert round(100 * np.mean(by_task[name]), 4) == wanted


def test_edge_cases_are_the_official_ones(data_dir):
  folder = data_dir / "official_metrics"
  for pair in json.loads((folder / "rougeL_pairs.json").read_text()):
    prediction, references = pair["prediction"], [pair["reference"]]
    found = score.rouge_l(prediction, references)
    assert found == pytest.approx(pair["rougeL_fmeasure"], abs=1e-12)
    assert score.exact_match(prediction, references) == pair["exact_match"]
  for case in json.loads((folder / "sni_normalize.json").read_text()):
    assert score._normalize(case["text"]) == case["normalized"]
