"""Figures of answers, by hand."""

import json

import pytest

from hyperjax.scores import own
from hyperjax.scores.answer_rows import Answered

# Of "a": 2 of 3 found, 2 of 2 right, F1 4 / 5; of "b": 1 of 1, of 1, F1 1.
LABELS = [("a", "a"), ("a ", "a"), ("c", "a"), ("b", "b")]


def test_macro_f1_is_the_mean_over_the_classes_of_outputs():
  found = own.macro_f1(LABELS)
  assert found.mean == pytest.approx((4 / 5 + 1) / 2)
  assert found.low < found.mean <= found.high <= 1
  # All right, whichever lines are drawn.
  sure = own.macro_f1([("a", "a"), ("b", "b")])
  assert (sure.mean, sure.low, sure.high) == (1, 1, 1)
  # In 10,000 samples of two lines, one right and one wrong: 0, 1/3 of two
  # classes... of "a" alone 0 or 1.
  either = own.macro_f1([("a", "a"), ("b", "a")])
  assert (either.low, either.high) == (0, 1)


def test_figures_are_percentages_and_nats():
  found = own.figures(
    [Answered(x, y, -1.0 - i) for i, (x, y) in enumerate(LABELS)]
  )
  means = {name: x.mean for name, x in found.figures.items()}
  assert means == {
    "accuracy": 75,
    "ROUGE-L": 75,
    "macro-F1": pytest.approx(90),
    "log-likelihood": -2.5,
  }
  accuracy = found.figures["accuracy"]
  assert (accuracy.low, accuracy.high) == (25, 100)
  assert found.sentence().startswith(
    "accuracy 75.0 [25.0, 100.0], ROUGE-L 75.0"
  )
  assert ", log-likelihood -2.50 [" in found.sentence()
  # Free text, without likelihoods of all.
  texts = [Answered("a b c", "a b d", -1.0), Answered("x", "y")]
  found = own.figures(texts)
  assert set(found.figures) == {"accuracy", "ROUGE-L"}
  assert found.figures["ROUGE-L"].mean == pytest.approx(100 / 3)


def _write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def test_files_are_scored_by_adapter_too(tmp_path):
  rows = [
    {"prediction": "a", "output": "a", "adapter": "x"},
    {"prediction": "3", "output": 3, "adapter": "y"},
    {"prediction": "b", "output": "a", "adapter": "y"},
    {"prediction": "b"},
  ]
  path = _write(tmp_path / "out.jsonl", rows)
  (tmp_path / "out.jsonl.settings.json").write_text("{}")
  for given in (path, tmp_path):
    found = own.score_files([given])
    content = json.loads(found.to_json())
    assert content["overall"]["lines"] == 3
    assert content["overall"]["accuracy"]["mean"] == pytest.approx(66.6667)
    assert content["adapters"]["y"]["accuracy"]["mean"] == 50
    assert content["notes"] == ["left out, without an output: 1 line"]
  whole = _write(tmp_path / "whole.jsonl", rows[:3])
  assert own.score_files([whole]).notes == []
  table = found.table().splitlines()
  assert table[0].split() == ["own", "lines", "accuracy", "ROUGE-L"]
  assert [row.split()[:2] for row in table[1:4]] == [
    ["all", "3"],
    ["x", "1"],
    ["y", "2"],
  ]
  assert len({len(row) for row in table[:4]}) == 1


def test_numbers_are_texts_and_no_value_is_no_output(tmp_path):
  rows = [
    {"prediction": 1, "output": "1"},
    {"prediction": "0.5", "output": 0.5},
    {"prediction": "true", "output": False},
    {"prediction": "a", "output": float("nan")},
    {"prediction": "a", "output": None},
  ]
  found = own.score_files([_write(tmp_path / "out.jsonl", rows)])
  assert found.overall.num_lines == 3
  assert found.overall.figures["accuracy"].mean == pytest.approx(200 / 3)
  assert found.notes == ["left out, without an output: 2 lines"]


@pytest.mark.parametrize(
  "row, message",
  [
    ({"prediction": ["a"], "output": "a"}, "'prediction' must be a string"),
    ({"output": "a"}, "line 1 has no 'prediction', only output"),
    ({"prediction": "a"}, "no line of .* has an 'output'"),
    ({"prediction": "a", "output": [1]}, "'output' must be a string, got"),
    (
      {"prediction": "a", "output": "a", "output_log_likelihood": "b"},
      "line 1: 'output_log_likelihood' must be a number, got 'b'",
    ),
  ],
)
def test_a_broken_line_is_named(tmp_path, row, message):
  path = _write(tmp_path / "out.jsonl", [row])
  with pytest.raises(ValueError, match=message):
    own.score_files([path])
