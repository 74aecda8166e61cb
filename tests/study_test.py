"""What the study on Super-NaturalInstructions reads, and what it makes of it."""

import json

import pytest

from benchmarks import study_curves, study_loss, study_vocabulary
from hyperjax.evaluation import curves


def _write_task(folder, name, texts, output):
  instances = [{"id": "0", "input": text, "output": [output]} for text in texts]
  content = {"Instances": instances, "Positive Examples": instances}
  (folder / "tasks" / f"{name}.json").write_text(json.dumps(content))


def test_the_vocabulary_is_made_of_text_and_training_inputs_alone(tmp_path):
  folder = tmp_path / "sni"
  (folder / "tasks").mkdir(parents=True)
  (folder / "splits" / "small").mkdir(parents=True)
  (folder / "splits" / "small" / "train_tasks.txt").write_text("seen\nabsent")
  (folder / "splits" / "small" / "test_tasks.txt").write_text("held_out")
  _write_task(folder, "seen", ["one\n\ntwo", "three"], "an answer")
  _write_task(folder, "held_out", ["a test input"], "another answer")
  (tmp_path / "text").mkdir()
  for split in ("train", "validation"):
    line = json.dumps({"text": f"prose of {split}"})
    (tmp_path / "text" / f"{split}.json").write_text(line + "\n")
  found = study_vocabulary.lines(str(tmp_path), "small")
  assert list(found) == ["prose of train", "one", "two", "three"]


def test_a_control_is_compared_with_right_demonstrations_task_by_task():
  """So tasks that are hard for all add nothing to the doubt."""
  right = {"easy": 1.0, "hard": 9.0}
  other = {"easy": 1.5, "hard": 9.5}
  found = study_loss.describe({"right": right, "other": other})
  assert found["other"]["loss"]["mean"] == 5.5
  assert found["other"]["loss"]["low"] == 1.5
  gain = found["other"]["higher_than_right"]
  assert (gain["low"], gain["mean"], gain["high"]) == (0.5, 0.5, 0.5)
  assert study_loss.table(found).splitlines()[2:] == [
    "| right | 5.000 [1.000, 9.000] |  |",
    "| other | 5.500 [1.500, 9.500] | 0.500 [0.500, 0.500] |",
  ]


def test_the_curve_of_a_run_is_the_mean_of_its_tasks_curves(tmp_path):
  lines = [
    {"step": 0, "held_out/loss/a": 4.0, "held_out/loss/b": 2.0},
    {"step": 5, "loss": 9.0},
    {"step": 10, "held_out/loss/a": 2.0, "held_out/loss/b": 1.0},
  ]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (tmp_path / "metrics.jsonl").write_text(text)
  by_task = study_curves.read(tmp_path)
  curve = study_curves.mean(by_task)
  assert (curve.steps, curve.values) == ([0, 10], [3.0, 1.5])
  worse = {
    task: curves.Curve(own.steps, [x + 1 for x in own.values])
    for task, own in by_task.items()
  }
  found = {"peft_shared": worse, "peft_hypermodel": by_task}
  shared, written = study_curves.table(found).splitlines()[2:]
  assert "| 4.00 [3.00, 5.00] | 1.00 [1.00, 1.00] | 2.50 " in shared
  assert "| 3.00 [2.00, 4.00] |  | 1.50 [1.00, 2.00] |  |" in written
  begun = {task: curves.Curve([0], [3.0]) for task in by_task}
  with pytest.raises(
    ValueError, match=r"peft_shared .* steps \[0\],.*\[0, 10\]"
  ):
    study_curves.table(found | {"peft_shared": begun})
  (tmp_path / "metrics.jsonl").write_text(json.dumps(lines[1]) + "\n")
  with pytest.raises(ValueError, match="has no held_out/loss"):
    study_curves.read(tmp_path)
