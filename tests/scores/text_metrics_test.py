import pytest

from hyperjax.scores import text_metrics


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
  assert text_metrics.equal(prediction, references) == wanted


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
  assert text_metrics.exact_match(prediction, references) == wanted


def test_rouge_l_takes_the_best_reference():
  # Longest common subsequence "the cat": P = 2/3, R = 2/4, F = 4/7.
  assert text_metrics.rouge_l(
    "the cat ran", ["the cat sat down"]
  ) == pytest.approx(4 / 7)
  assert text_metrics.rouge_l("a b", ["x", "a b"]) == 1.0
  assert text_metrics.rouge_l("runs", ["running"]) == 1.0  # stemmed
