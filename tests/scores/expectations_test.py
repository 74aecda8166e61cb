"""Figures of others: how they are given, and found among results."""

import pytest

from hyperjax.scores import expectations

RESULTS = {
  "scores": {"right": {"targets": 4, "equal": 0.25}},
  "official": {
    "right": {
      "benchmark": "p3",
      "overall": {"mean": 54.5, "data sets": 2},
      "data sets": {"super_glue_cb": {"mean": 60.0, "templates": 15}},
    }
  },
}


@pytest.mark.parametrize(
  "figure, value",
  [
    ("mean", 54.5),
    ("data sets/super_glue_cb/mean", 60.0),
    ("equal", 25.0),
    ("median", None),
    ("data sets/super_glue_rte/mean", None),
  ],
)
def test_a_figure_is_found_by_its_name(figure, value):
  assert expectations.measured(RESULTS, figure) == value


@pytest.mark.parametrize(
  "given",
  [54.6, (54.6, "a paper"), (54.6, "a paper", "sure"), ("x", "y", "known")],
)
def test_what_is_no_number_with_source_and_certainty_is_refused(given):
  with pytest.raises(ValueError, match=r"expected\['mean'\] takes \(number"):
    expectations.check("expected", {"mean": given})
