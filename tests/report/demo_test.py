"""The demo's summary, from the files of its runs."""

import json

from hyperjax import metrics
from hyperjax.report import demo
from hyperjax.scores import columns


def _write_run(folder):
  evaluated = folder / "multitask" / "inference_eval"
  evaluated.mkdir(parents=True)
  for group, right in (("unseen", 0.99), ("seen", 1.0)):
    scores = {
      columns.RIGHT: right,
      columns.NONE: 0.01,
      columns.OTHER: 0.02,
      columns.AGAINST_OTHER: 0.97,
    }
    results = {
      "num_tasks": 128,
      "scores": {
        column: {"targets": 1280, "equal": value}
        for column, value in scores.items()
      },
    }
    (evaluated / f"{group}-results.json").write_text(json.dumps(results))
  answers = [
    {
      "task": f"records_rule_{i:03}",
      "demonstrations": [["alice paris red two", f"red / {i}"]],
      "input": "bruno rome blue six",
      "references": [f"blue / {i}"],
      "predictions": {columns.RIGHT: f"blue / {i}"},
    }
    for i in range(30)
  ]
  lines = "".join(json.dumps(answer) + "\n" for answer in answers)
  (evaluated / "unseen-predictions.jsonl").write_text(lines)
  with (folder / "multitask" / metrics.METRICS).open("w") as file:
    for step in (0, 200, 400):
      line = {"step": step}
      for group in ("unseen", "seen"):
        for control in ("right", "none", "other"):
          line[f"{group}/{control}/equal"] = step / 400
      file.write(json.dumps(line) + "\n")


def test_results_table_examples_and_picture(tmp_path, capsys):
  _write_run(tmp_path)
  demo.main(
    [str(tmp_path), "--adapter", "lora", "--seed", "3", "--seconds", "212"]
  )
  results = json.loads((tmp_path / "results.json").read_text())
  assert results == {
    "adapter": "lora",
    "seed": 3,
    "rules_held_out": 128,
    "targets": 1280,
    "seconds": 212.0,
    "exact_match": {
      "unseen": {
        "right": 0.99,
        "none": 0.01,
        "other": 0.02,
        "other_against_other_rule": 0.97,
      },
      "seen": {
        "right": 1.0,
        "none": 0.01,
        "other": 0.02,
        "other_against_other_rule": 0.97,
      },
    },
  }
  shown = capsys.readouterr().out
  assert shown.count("A rule never trained on") == 3
  rows = {line[:34].strip(): line[34:].split() for line in shown.splitlines()}
  assert rows["right demonstrations"] == ["99.0", "100.0"]
  assert rows["no adapter"] == ["1.0", "1.0"]
  picture = (tmp_path / "accuracy.png").read_bytes()
  assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
