"""Losses of targets under each control, task by task."""

from hyperjax.evaluation import target_loss


def test_a_control_is_compared_with_right_demonstrations_task_by_task():
  """So tasks that are hard for all add nothing to the doubt."""
  right = {"easy": 1.0, "hard": 9.0}
  other = {"easy": 1.5, "hard": 9.5}
  found = target_loss.describe({"right": right, "other": other})
  assert found["other"]["loss"]["mean"] == 5.5
  assert found["other"]["loss"]["low"] == 1.5
  gain = found["other"]["higher_than_right"]
  assert (gain["low"], gain["mean"], gain["high"]) == (0.5, 0.5, 0.5)
  assert target_loss.table(found).splitlines()[2:] == [
    "| right | 5.000 [1.000, 9.000] |  |",
    "| other | 5.500 [1.500, 9.500] | 0.500 [0.500, 0.500] |",
  ]
