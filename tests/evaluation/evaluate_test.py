"""What `hyperjax eval` writes beside scores: settings, cost, timings."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from hyperjax import adapters, runs
from hyperjax.evaluation.few_shot import FewShotEvaluation
from hyperjax.models import problems, t5
from tests import runs_example, served_example
from tests.data import rows

EXPECTED = {"equal": (12.5, "a paper", "known")}


def _tasks(name, start, count):
  pairs = [([start + i], [3]) for i in range(count)]
  return rows.Tasks((rows.task(name, pairs),), name, "test")


def _plain_loss(evaluate, inputs, target):
  """Of a target and its end, without adapters."""
  found = evaluate.restored()
  logits = t5.T5(found.trainer.problem.backbone).apply(
    {"params": found.frozen["backbone"]},
    np.asarray([[i, 1] for i in inputs]),
    np.asarray([[0, target]] * len(inputs)),
  )
  log_probs = jax.nn.log_softmax(logits)
  return -float((log_probs[:, 0, target] + log_probs[:, 1, 1]).mean()) / 2


@pytest.fixture
def evaluate(world, tmp_path):
  """An evaluation "x" of a run of one step, with its targets' losses."""
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
  return runs.Evaluate(
    str(tmp_path / "run"), run.problem, [evaluation], target_losses=True
  )


def test_results_say_what_was_asked_and_what_it_costs(evaluate, tmp_path):
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
  losses = json.loads((folder / "x-loss.json").read_text())
  by_hand = _plain_loss(evaluate, [5 + i for i in range(8)], 3)
  np.testing.assert_allclose(losses["none"]["loss"]["mean"], by_hand, rtol=1e-4)
  assert losses["right"]["loss"]["mean"] != losses["none"]["loss"]["mean"]
  timings = json.loads((folder / "x-timings.json").read_text())
  # Of three batches of 8 targets under each control the first one compiles.
  assert timings["controls"]["right"]["targets"] == 2 * 8
  assert timings["controls"]["none"]["targets"] == 2 * 8


@pytest.mark.slow
def test_answers_are_kept_until_all_evaluations_are_written(evaluate, tmp_path):
  """What they took stands where nothing is left to answer."""
  evaluate.execute()
  folder = tmp_path / "run" / "inference_eval"
  # Nothing is kept of what is written, but while an evaluation is still asked.
  assert not (folder / "x-answered.jsonl").exists()
  (folder / "y-answered.jsonl").mkdir()
  both = [
    *evaluate.evaluations,
    dataclasses.replace(evaluate.evaluations[0], name="y"),
  ]
  with pytest.raises(OSError, match="y-answered"):
    dataclasses.replace(evaluate, evaluations=both).execute()
  assert (folder / "x-answered.jsonl").is_file()
  before = (folder / "x-timings.json").read_text()
  (folder / "y-answered.jsonl").rmdir()
  dataclasses.replace(evaluate, target_losses=False).execute()
  assert (folder / "x-timings.json").read_text() == before


def test_losses_are_compared_with_those_of_right_demonstrations():
  evaluation = FewShotEvaluation(
    name="x",
    targets=_tasks("a", 5, 8),
    demonstrations=_tasks("a", 20, 4),
    feature_lengths=runs_example.LENGTHS,
    num_demonstrations=2,
    controls=("none",),
  )
  with pytest.raises(ValueError, match=r"TARGET_LOSSES.*'right'.*'x' lacks"):
    runs.Evaluate("/run", None, [evaluation], target_losses=True)


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


def _answers(world):
  path = world / "lora" / "inference_eval" / "rules-predictions.jsonl"
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_is_evaluated_as_its_record_says(served, tmp_path):
  """The same results as with its problem and its lengths given again."""
  shutil.copytree(served / "lora", tmp_path / "lora")
  run, tokens = tmp_path / "lora", served / "tokens"
  given = served_example.evaluation(
    tokens, feature_lengths=served_example.LENGTHS, instruction_readers=()
  )
  asked = (
    runs.Evaluate(str(run), served_example.problem("lora"), (given,)),
    runs.Evaluate(str(run), None, (served_example.evaluation(tokens),)),
  )
  found = [(evaluate.execute(), _answers(tmp_path)) for evaluate in asked]
  assert found[0] == found[1]
  (result,) = found[1][0]
  assert result["settings"]["feature_lengths"] == served_example.LENGTHS
  other = served_example.problem("prefix")
  with pytest.raises(ValueError, match=r"adapters.kind +LoraSpec +PrefixSpec"):
    runs.Evaluate(str(run), other, (given,)).execute()
  with pytest.raises(ValueError, match=r"LoraSpec.*, ADAPTERS is PrefixSpec"):
    runs.Evaluate(
      str(run), None, (given,), adapters=adapters.PrefixSpec(2)
    ).execute()


@pytest.mark.slow
def test_what_no_record_says_is_asked_for(served, tmp_path):
  """A T5 that was not trained as it is asked, or is no run."""
  tokens = served / "tokens"
  left = served_example.evaluation(tokens)
  in_context = problems.FullFineTuning(served_example.CONFIG, True)
  asked = runs.Evaluate(str(served / "backbone"), in_context, (left,))
  with pytest.raises(ValueError, match=r"'rules': .*\(TASK_FEATURE_LENGTHS\)"):
    asked.execute()
  given = dataclasses.replace(left, feature_lengths=served_example.LENGTHS)
  dataclasses.replace(
    asked, evaluations=(given,), output_dir=str(tmp_path / "out")
  ).execute()
  written = tmp_path / "out" / "rules-results.json"
  results = json.loads(written.read_text())
  by_default = dataclasses.replace(left, default_lengths=served_example.LENGTHS)
  (found,) = dataclasses.replace(
    asked, evaluations=(by_default,), output_dir=str(tmp_path / "out")
  ).execute()
  assert found == results
  (tmp_path / "t5").mkdir()
  with pytest.raises(ValueError, match=r"t5 is no run, .*\(PROBLEM\)"):
    runs.Evaluate(str(tmp_path / "t5"), None, (given,)).execute()
