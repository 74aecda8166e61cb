"""T0's held-out data sets, by the paper that names them."""

import pytest

from hyperjax.scores import p3_sets


def test_data_sets_have_the_templates_that_t0_was_evaluated_with():
  """Sanh et al. (2022); StoryCloze is not in P3."""
  assert {
    **{f"anli_r{i}": 15 for i in (1, 2, 3)},
    "hellaswag": 4,
    "story_cloze_2016": None,
    "super_glue_cb": 15,
    "super_glue_copa": 12,
    "super_glue_rte": 10,
    "super_glue_wic": 10,
    "super_glue_wsc.fixed": 10,
    "winogrande_winogrande_xl": 5,
  } == p3_sets.HELD_OUT


@pytest.mark.parametrize(
  "task, wanted",
  [
    ("super_glue_rte_GPT_3_style_score_eval", "super_glue_rte"),
    ("super_glue_rte_GPT_3_style", "super_glue_rte"),
    ("anli_GPT_3_style_r2_score_eval", "anli_r2"),
    ("anli_guaranteed_possible_impossible_r3", "anli_r3"),
    (
      "winogrande_winogrande_debiased_Replace",
      "winogrande_winogrande_debiased",
    ),
    ("winogrande_winogrande_xl_Replace", "winogrande_winogrande_xl"),
    ("super_glue_wsc.fixed_p_is_are_r", "super_glue_wsc.fixed"),
    ("super_glue_rte", None),
    ("anli_GPT_3_style", None),
    ("anli_GPT_3_style_r4", None),
    ("cos_e_v1.11_aligned", None),
  ],
)
def test_a_subset_is_of_the_data_set_that_it_is_named_after(task, wanted):
  assert p3_sets.data_set(task) == wanted
