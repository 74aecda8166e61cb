"""Units answered together, and fewer where they do not fit."""

import jax
import numpy as np
import pytest

from hyperjax import sharding
from hyperjax.evaluation.parts import Parts
from hyperjax.evaluation.questions import Unit
from hyperjax.memory.answer import Fitting, OutOfMemory
from tests.evaluation import few_shot_test


def _units(count, is_ranked=False):
  return [Unit(i, 0, 0, np.arange(5), is_ranked) for i in range(count)]


def _parts(num_devices=1):
  layout = sharding.MeshSpec().build(jax.devices()[:num_devices])
  return Parts(few_shot_test._evaluation(), layout)


class _Memory:
  """Answers at most `most` units at once; notes what it is asked."""

  def __init__(self, most, fitting=None):
    self.most, self.fitting = most, fitting
    self.asked, self.answered = [], []

  def __call__(self, units):
    self.asked.append(len(units))
    if len(units) > self.most:
      error = OutOfMemory("an answer")
      error.fitting = lambda: self.fitting
      raise error
    self.answered += [unit.task for unit in units]


def test_units_that_do_not_fit_are_halved_and_all_are_answered_in_order():
  parts, memory = _parts(), _Memory(3)
  parts.each(_units(9), "right", memory)
  assert memory.asked == [9, 4, 2, 2, 2, 2, 1]
  assert memory.answered == list(range(9))


def test_what_was_found_to_fit_holds_for_later_batches_answered_alike():
  parts, memory = _parts(), _Memory(2)
  parts.each(_units(4), "right", memory)
  for control, is_ranked, wanted in (
    ("right", False, [2, 2]),
    ("none", False, [4, 2, 2]),
    ("right", True, [4, 2, 2]),
  ):
    memory.asked.clear()
    parts.each(_units(4, is_ranked), control, memory)
    assert memory.asked == wanted, (control, is_ranked)


def test_each_device_keeps_a_unit():
  memory = _Memory(2)
  _parts(2).each(_units(6), "right", memory)
  assert memory.asked == [6, 4, 2, 2, 2]
  none = _Memory(1)
  with pytest.raises(OutOfMemory, match="a smaller model, or more memory"):
    _parts(2).each(_units(4), "right", none)
  assert none.asked == [4, 2]


def test_one_unit_that_does_not_fit_is_the_end():
  memory = _Memory(0)
  with pytest.raises(OutOfMemory):
    _parts().each(_units(3), "right", memory)
  assert memory.asked == [3, 1]


@pytest.mark.parametrize(
  "fitting, num_devices, control, wanted",
  [
    (None, 1, "right", "no shorter text fits; .*"),
    (Fitting(rows=3), 1, "right", r"set FewShotEvaluation.rows_per_context=3"),
    (Fitting(rows=7), 2, "right", r"set FewShotEvaluation.rows_per_context=3"),
    (
      Fitting(rows=1, inputs=8, targets=2),
      1,
      "right",
      r"set FewShotEvaluation.rows_per_context=1, "
      r"TASK_FEATURE_LENGTHS\['inputs'\]=8, "
      r"TASK_FEATURE_LENGTHS\['targets'\]=2",
    ),
    # Settings that need not change are not named.
    (
      Fitting(rows=5, inputs=8),
      1,
      "none",
      r"set TASK_FEATURE_LENGTHS\['inputs'\]=8",
    ),
    (
      Fitting(inputs=8, targets=3),
      1,
      "in_input",
      r"set TASK_FEATURE_LENGTHS\['demonstrations'\] and \['inputs'\] "
      r"together=8, TASK_FEATURE_LENGTHS\['targets'\]=3",
    ),
  ],
)
def test_where_nothing_fits_settings_that_do_are_named(
  fitting, num_devices, control, wanted
):
  memory = _Memory(0, fitting)
  said = f"^an answer takes more memory than there is: {wanted}$"
  with pytest.raises(OutOfMemory, match=said):
    _parts(num_devices).each(_units(4), control, memory)


@pytest.mark.parametrize(
  "rows, wanted",
  [
    (10, "set FewShotEvaluation.contexts_per_batch=2"),
    (
      3,
      "set FewShotEvaluation.rows_per_context=3, "
      "FewShotEvaluation.contexts_per_batch=1",
    ),
  ],
)
def test_of_several_processes_none_answers_fewer_by_itself(
  monkeypatch, rows, wanted
):
  """All would have to find the same at the same time."""
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  memory = _Memory(2, Fitting(rows=rows))
  with pytest.raises(OutOfMemory, match=f": {wanted}$"):
    _parts().each(_units(4), "right", memory)
  assert memory.asked == [4]
