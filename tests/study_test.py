"""What the study on Super-NaturalInstructions reads, and what it makes of it."""

import json

from benchmarks import study_vocabulary


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
