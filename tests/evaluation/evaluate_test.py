"""What `hyperjax eval` writes beside scores: settings, cost, timings."""

import json

import pytest

from hyperjax import runs
from hyperjax.evaluation.few_shot import FewShotEvaluation
from tests import runs_example
from tests.data import rows
from tests.evaluation.few_shot_test import Tasks

EXPECTED = {"equal": (12.5, "a paper", "known")}


def _tasks(name, start, count):
  pairs = [([start + i], [3]) for i in range(count)]
  return Tasks((rows.task(name, pairs),), mixture_or_task=name)


@pytest.mark.slow
def test_results_say_what_was_asked_and_what_it_costs(world, tmp_path):
  run = runs_example.multitask(
    world / "tokens", tmp_path / "run", world / "backbone", steps=1
  )
  run.execute()
  evaluation = FewShotEvaluation(
    name="x",
    targets=_tasks("a", 5, 8),
    demonstrations=_tasks("a", 20, 4),
    feature_lengths=runs_example.LENGTHS,
    num_demonstrations=2,
    draws=3,
    rows_per_context=1,
    contexts_per_batch=8,
    metrics=("equal",),
    expected=EXPECTED,
  )
  evaluate = runs.Evaluate(str(tmp_path / "run"), run.problem, [evaluation])
  (found,) = evaluate.execute()
  folder = tmp_path / "run" / "inference_eval"
  assert json.loads((folder / "x-results.json").read_text()) == found
  settings = found["settings"]
  assert settings["num_demonstrations"] == 2 and settings["draws"] == 3
  assert settings["feature_lengths"] == runs_example.LENGTHS
  assert settings["targets"] == {"mixture_or_task": "a", "split": "test"}
  assert settings["decoder"]["kind"] == "Sampling"
  assert found["expected"] == {
    "equal": {"value": 12.5, "source": "a paper", "certainty": "known"}
  }
  cost = found["cost"]
  # Keys and values of 2 positions, 4 heads of width 2, at three sites of a layer.
  assert cost["adapter_parameters"] == 3 * 2 * 2 * 4 * 2
  assert cost["flops_per_target"]["with_adapter"] > 0
  info = (tmp_path / "run" / "model-info.txt").read_text()
  assert f"trained: {cost['trained_parameters']:,} parameters" in info
  assert f"frozen: {cost['frozen_parameters']:,} parameters" in info
  timings = json.loads((folder / "x-timings.json").read_text())
  # Of three batches of 8 targets under each control the first one compiles.
  assert timings["controls"]["right"]["targets"] == 2 * 8
  assert timings["controls"]["none"]["targets"] == 2 * 8


def test_expected_figures_are_checked_before_anything_runs():
  with pytest.raises(ValueError, match=r"FewShotEvaluation.expected\['mean'\]"):
    FewShotEvaluation(
      name="x",
      targets=_tasks("a", 5, 8),
      demonstrations=_tasks("a", 20, 4),
      feature_lengths=runs_example.LENGTHS,
      num_demonstrations=2,
      expected={"mean": 54.6},
    )
