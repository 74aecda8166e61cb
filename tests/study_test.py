"""What the study on Super-NaturalInstructions reads, and what it makes of it."""

import json

from benchmarks import study_loss, study_vocabulary


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
