"""Benchmarks' own figures, of an evaluation's answers."""

import dataclasses

import pytest

from hyperjax.evaluation import figures
from hyperjax.scores import results


def _answer(task, row, prediction, references, draw=0, **fields):
  return results.Answer(
    task=task,
    row=row,
    draw=draw,
    input="in",
    target=references[0] if references else "",
    references=references,
    demonstrations=[],
    predictions={"right": prediction},
    **fields,
  )


def test_super_natural_instructions_by_category_and_task():
  answers = [
    _answer("a", 0, "Yes!", ["yes"], category="Kind One"),
    _answer("a", 1, "no", ["yes", "no"], category="Kind One"),
    _answer("b", 0, "no", ["yes"], category="Other"),
  ]
  found = figures.SuperNaturalInstructions().of(answers, "right")
  assert found.overall["exact_match"] == pytest.approx(66.6667)
  by_category = found.groups["categories"]
  assert by_category["kind_one"]["exact_match"] == 100
  assert by_category["other"]["rougeL"] == 0
  assert found.groups["tasks"]["a"]["instances"] == 2


@dataclasses.dataclass(frozen=True)
class _DataSet:
  def unseen_domain_tasks(self):
    return ["b", "elsewhere"]


def test_metaicl_over_seeds_and_tasks():
  """Task a is classification: two of three right, one class of two missed."""
  kind = {"task_type": "classification"}
  answers = [
    *(_answer("a", i, "x", [t], 0, **kind) for i, t in enumerate("xxy")),
    *(_answer("a", i, t, [t], 1, **kind) for i, t in enumerate("xxy")),
    *(
      _answer("b", i, "x", [t], draw, task_type="multi-choice")
      for draw in (0, 1)
      for i, t in enumerate("xyyy")
    ),
  ]
  found = figures.MetaICL(_DataSet(), (100, 13)).of(answers, "right")
  # F1 of x: precision 2/3, recall 1; of y: 0.
  assert found.extra["seeds"]["a"]["100"] == pytest.approx(100 * 0.8 / 2)
  assert found.extra["seeds"]["a"]["13"] == 100
  assert found.groups["tasks"]["a"]["worst"] == pytest.approx(40)
  assert found.groups["tasks"]["b"]["mean"] == 25  # accuracy
  assert found.overall["mean"] == pytest.approx((70 + 25) / 2)
  assert found.groups["domains"]["unseen"]["tasks"] == 1


def _ranked(task, row, sums, tokens, is_correct):
  return dataclasses.replace(
    _answer(task, row, "", []),
    is_correct=is_correct,
    rankings={"right": {"log_likelihoods": sums, "num_tokens": tokens}},
  )


def test_p3_by_template_and_data_set():
  rte = "p3_super_glue_rte_{}_score_eval"
  answers = [
    _ranked(rte.format("one"), 0, [-1.0, -2.0], [1, 4], [True, False]),
    _ranked(rte.format("one"), 1, [-1.0, -2.0], [1, 1], [False, True]),
    _ranked(rte.format("two"), 0, [-3.0, -2.0], [1, 1], [False, True]),
  ]
  found = figures.P3().of(answers, "right")
  templates = found.groups["templates"]
  one = templates["super_glue_rte_one_score_eval"]
  assert one["accuracy"] == 50 and one["accuracy_normalized"] == 0
  assert templates["super_glue_rte_two_score_eval"]["accuracy"] == 100
  assert found.overall["mean"] == 75


def test_answers_that_lack_what_is_counted_by_are_refused():
  plain = [_answer("a", 3, "x", ["x"])]
  with pytest.raises(ValueError, match="a, row 3: no task_type"):
    figures.MetaICL(_DataSet(), (100,)).of(plain, "right")
  with pytest.raises(ValueError, match="a, row 3: its choices were not ranked"):
    figures.P3().of(plain, "right")


def test_choices_of_which_some_have_no_likelihood_are_refused():
  short = _ranked("a", 0, [-1.0, -2.0], [1, 4], [True, False, False])
  with pytest.raises(ValueError, match="zip"):
    figures.P3().of([short], "right")
