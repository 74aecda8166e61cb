"""Which setting is named where rows or contexts do not fit."""

import pytest

from hyperjax.evaluation import advice
from hyperjax.evaluation.batching import Budget, Shape
from hyperjax.memory.answer import Fitting, OutOfMemory

NOTHING = "no shorter text fits; a smaller model, or more memory is needed"


def _error(fitting):
  error = OutOfMemory("decoding", 3, 2)
  error.fitting = lambda: fitting
  return error


def _of_rows(fitting, tokens=1000, devices=1, are_joined=False):
  """What is said where rows of 9 + 2 * 3 tokens do not fit."""
  budget, shape = Budget(tokens, devices), Shape(2, 3, 9)
  with (
    pytest.raises(OutOfMemory) as said,
    advice.of_rows(budget, shape, are_joined),
  ):
    raise _error(fitting)
  assert (said.value.asked, said.value.available) == (3, 2)
  return said.value.advice


@pytest.mark.parametrize(
  "fitting, devices, wanted",
  [
    (Fitting(rows=4), 1, "set EVAL_TOKENS_PER_BATCH=60"),
    (Fitting(rows=4), 2, "set EVAL_TOKENS_PER_BATCH=30"),
    (Fitting(rows=1), 2, "set EVAL_TOKENS_PER_BATCH=15"),
    (
      Fitting(rows=1, inputs=4, targets=2),
      1,
      "set EVAL_TOKENS_PER_BATCH=15, TASK_FEATURE_LENGTHS['inputs']=4, "
      "TASK_FEATURE_LENGTHS['targets']=2",
    ),
    (None, 1, NOTHING),
  ],
)
def test_rows_that_do_not_fit_name_how_many_tokens_do(fitting, devices, wanted):
  assert _of_rows(fitting, devices=devices) == wanted


def test_tokens_that_are_no_fewer_are_not_named():
  found = _of_rows(Fitting(rows=1, inputs=4), tokens=15)
  assert found == "set TASK_FEATURE_LENGTHS['inputs']=4"


def test_rows_with_demonstrations_before_them_name_both_lengths():
  assert _of_rows(Fitting(inputs=16), are_joined=True) == (
    "set TASK_FEATURE_LENGTHS['demonstrations'] and ['inputs'] together=16"
  )


def test_what_an_answer_says_itself_is_kept():
  with (
    pytest.raises(OutOfMemory, match=r": do this$"),
    advice.of_rows(Budget(1, 1), Shape(1, 1, 1), False),
  ):
    raise OutOfMemory("adapters of rows", advice="do this")


@pytest.mark.parametrize(
  "fitting, wanted",
  [
    (Fitting(contexts=2), "set FewShotEvaluation.contexts_per_batch=2"),
    (
      Fitting(contexts=1, demonstrations=8),
      "set FewShotEvaluation.contexts_per_batch=1, "
      "TASK_FEATURE_LENGTHS['demonstrations']=8",
    ),
    (
      Fitting(num_demonstrations=3),
      "set TASK_FEATURE_LENGTHS['num_demonstrations']=3",
    ),
    (None, NOTHING),
  ],
)
def test_contexts_that_do_not_fit_name_how_many_do(fitting, wanted):
  with pytest.raises(OutOfMemory) as said, advice.of_contexts():
    raise _error(fitting)
  assert said.value.advice == wanted
