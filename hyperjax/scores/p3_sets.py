"""The data sets of P3 that T0 holds out (Sanh et al., 2022)."""

import re

ENDING = "_score_eval"
# T0's held-out data sets, and how many templates P3 has of each; StoryCloze's
# licence keeps it out of P3.
HELD_OUT = {
  "super_glue_rte": 10,
  "super_glue_cb": 15,
  "anli_r1": 15,
  "anli_r2": 15,
  "anli_r3": 15,
  "super_glue_wsc.fixed": 10,
  "winogrande_winogrande_xl": 5,
  "super_glue_copa": 12,
  "story_cloze_2016": None,
  "hellaswag": 4,
  "super_glue_wic": 10,
}
# In P3 but not in T0's evaluation: scored, and no part of the mean.
_OTHERS = ("winogrande_winogrande_debiased",)


def data_set(task: str) -> str | None:
  """The data set of a subset of P3, by its name; ANLI's rounds are three."""
  task = task.removesuffix(ENDING)
  if anli := re.fullmatch(r"anli_.+_(r[123])", task):
    return f"anli_{anli[1]}"
  for name in (*HELD_OUT, *_OTHERS):
    if task.startswith(f"{name}_"):
      return name
  return None
