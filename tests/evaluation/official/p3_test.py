"""T0's figures of P3, by hand."""

import json

import numpy as np
import pytest

from hyperjax.evaluation.official import p3
from hyperjax.evaluation.official.p3 import Choice
from hyperjax.scores import p3_sets

CB = "super_glue_cb_can_we_infer_score_eval"


def _example(*choices):
  """From (is_correct, score, length) in order of their numbers."""
  return {
    number: Choice("here", is_correct, score, 1.0, length)
    for number, (is_correct, score, length) in enumerate(choices)
  }


SHORT, LONG = (True, -3.0, 2), (False, -4.0, 4)  # per token: -1.5, -1.0


def test_the_choice_of_the_highest_log_likelihood_is_the_prediction():
  examples = {
    0: _example(SHORT, LONG),
    1: _example((False, -9.0, 1), (False, -8.0, 1), (True, -1.0, 1)),
    2: _example((True, -2.0, 1), (False, -1.0, 1)),
  }
  assert p3.accuracy(examples) == pytest.approx(200 / 3)
  assert p3.accuracy(examples, True) == pytest.approx(100 / 3)


def test_of_equal_choices_the_first_is_the_prediction():
  right = {0: _example((True, -1.0, 1), (False, -1.0, 1))}
  wrong = {0: _example((False, -1.0, 1), (True, -1.0, 1))}
  assert p3.accuracy(right) == 100
  assert p3.accuracy(wrong) == 0
  # Choices may stand in the file in any order.
  assert p3.accuracy({0: dict(reversed(right[0].items()))}) == 100


def test_choices_may_repeat_and_any_correct_one_will_do():
  examples = {0: _example((True, -2.0, 1), (True, -1.0, 1), (False, -3.0, 1))}
  assert p3.accuracy(examples) == 100


def test_examples_count_by_weight():
  examples = {
    0: {0: Choice("here", True, -1.0, 3.0)},
    1: {0: Choice("here", False, -1.0, 1.0)},
  }
  assert p3.accuracy(examples) == 75


@pytest.mark.parametrize(
  "task, wanted",
  [
    ("anli_can_we_infer_r2_score_eval", "anli_r2"),
    ("super_glue_copa__why_C1_or_C2_score_eval", "super_glue_copa"),
    ("super_glue_wsc.fixed_p_is_are_r", "super_glue_wsc.fixed"),
    ("hellaswag_complete_first_then_score_eval", "hellaswag"),
    (
      "winogrande_winogrande_debiased_Replace_score_eval",
      "winogrande_winogrande_debiased",
    ),
    ("ag_news_classify", None),
    ("anli_can_we_infer", None),
  ],
)
def test_a_subset_is_of_one_data_set(task, wanted):
  assert p3_sets.data_set(task) == wanted


def _tasks():
  right = {0: _example(SHORT, LONG)}  # by sum; per token it is wrong
  bad = {0: _example((False, -1.0, 1), (True, -2.0, 1))}
  return {
    "super_glue_cb_a_score_eval": right,
    "super_glue_cb_b_score_eval": right,
    "super_glue_cb_c_score_eval": bad,
    "super_glue_rte_a_score_eval": bad,
    "winogrande_winogrande_debiased_a_score_eval": right,
  }


def test_figures_are_of_templates_data_sets_and_all():
  report = p3.score_tasks(_tasks())
  assert report.groups["templates"]["super_glue_cb_b_score_eval"] == {
    "accuracy": 100.0,
    "accuracy_normalized": 0.0,
    "examples": 1,
  }
  sets = report.groups["data sets"]
  assert sets["super_glue_cb"] == {
    "mean": pytest.approx(200 / 3),
    "median": 100.0,
    "mean_normalized": 0.0,
    "median_normalized": 0.0,
    "templates": 3,
  }
  assert sets["winogrande_winogrande_debiased"]["mean"] == 100
  # RTE is 0; the debiased Winogrande is not T0's.
  assert report.overall["mean"] == pytest.approx(100 / 3)
  assert report.overall["median"] == 50.0
  assert report.overall["data sets"] == 2
  assert "super_glue_cb (3 of 15), super_glue_rte (1 of 10)" in report.notes[0]
  assert "winogrande_winogrande_debiased" in report.notes[1]


def test_a_subset_of_ones_own_is_a_data_set_beside_t0s():
  right, wrong = {0: _example((True, -1.0, 1))}, {0: _example((False, -1.0, 1))}
  tasks = {CB: right, "mine_one_score_eval": wrong}
  report = p3.score_tasks(tasks)
  assert report.overall["mean"] == 100 and report.overall["data sets"] == 1
  assert report.groups["data sets"]["mine_one_score_eval"]["mean"] == 0
  assert "so not in all: mine_one_score_eval" in report.notes[1]
  assert "mine_one_score_eval" in report.table()


def test_without_lengths_nothing_is_normalized():
  choices = {0: {0: Choice("here", True, -1.0), 1: Choice("here", False, -2.0)}}
  report = p3.score_tasks({CB: choices})
  assert list(report.overall) == ["mean", "median", "data sets"]
  assert "nothing normalized by length" in report.notes[1]


def test_an_example_without_a_correct_choice_is_counted():
  report = p3.score_tasks({CB: {0: _example((False, -1.0, 1))}})
  assert report.overall["mean"] == 0
  assert report.notes[-1] == "no choice is correct, so wrong: 1 example"


def _seqio_row(example, number, is_correct, score, length):
  """As seqio's JSONLogger writes what t5's postprocessor makes."""
  features = {
    "idx": [example, number],
    "is_correct": is_correct,
    "weight": 1.0,
    "inputs_pretokenized": "?",
    "targets": list(range(length)),
  }
  target = [[example, number], is_correct, 1.0, length]
  return {"input": features, "target": target, "score": score}


def _flat_row(example, number, is_correct, score, length):
  return {
    "task": CB,
    "idx": [example, number],
    "is_correct": is_correct,
    "score": score,
    "length": length,
  }


def _write(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


@pytest.mark.parametrize("make_row", [_seqio_row, _flat_row])
def test_files_of_seqio_and_flat_lines_give_the_same(tmp_path, make_row):
  rows = [
    make_row(1, 1, False, -2.0, 1),
    make_row(0, 0, *SHORT),
    make_row(1, 0, True, -1.0, 1),
    make_row(0, 1, *LONG),
  ]
  _write(tmp_path / "out" / f"{CB}-001000.jsonl", rows)
  _write(tmp_path / "out" / f"{CB}-metrics.jsonl", [{"step": 1000}])
  report = p3.score_files([tmp_path / "out"])
  assert report.groups["templates"] == {
    CB: {"accuracy": 100.0, "accuracy_normalized": 50.0, "examples": 2}
  }


@pytest.mark.seqio
def test_what_seqio_itself_writes_is_read(tmp_path):
  """Of long targets it writes a summary: their lengths are in `target`."""
  seqio = pytest.importorskip("seqio")
  import tensorflow as tf

  inputs, targets = [], []
  for number, length in enumerate((40, 2)):
    row = _seqio_row(0, number, number == 1, -1.0, length)
    inputs.append({name: np.array(x) for name, x in row["input"].items()})
    targets.append(((0, number), number == 1, 1.0, length))
  specs = {
    name: tf.TensorSpec([None] * x.ndim, tf.as_dtype(x.dtype))
    for name, x in inputs[0].items()
  }
  dataset = tf.data.Dataset.from_generator(
    lambda: iter(inputs), output_signature=specs
  )
  seqio.JSONLogger(str(tmp_path))(
    CB, 1000, {}, dataset, {"score": [-10.0, -1.0]}, targets
  )
  report = p3.score_files([tmp_path])
  # Per token: -1/4 and -1/2.
  assert report.groups["templates"] == {
    CB: {"accuracy": 100.0, "accuracy_normalized": 0.0, "examples": 1}
  }


def test_without_a_target_the_tokens_are_counted(tmp_path):
  rows = [_seqio_row(0, 0, *SHORT), _seqio_row(0, 1, *LONG)]
  for row in rows:
    del row["target"]
  path = _write(tmp_path / f"{CB}--00001.jsonl", rows)
  report = p3.score_files([path])
  assert report.overall["mean_normalized"] == 0


GOOD = _flat_row(0, 0, True, -1.0, 1)


@pytest.mark.parametrize(
  "rows, message",
  [
    ([], "is empty"),
    ([GOOD | {"task": "ag_news_classify"}], "line 1: unknown task 'ag_news"),
    ([GOOD | {"score": "-1"}], "line 1: 'score' must be a number, got '-1'"),
    ([GOOD | {"score": float("nan")}], "line 1: 'score' must be a number"),
    ([GOOD | {"score": float("inf")}], "'score' must be a log-likelihood, got"),
    ([GOOD | {"score": -(10**400)}], "'score' must be a number, got -1000"),
    ([GOOD | {"idx": [0]}], "line 1: 'idx' must be the numbers of an example"),
    ([GOOD | {"idx": [0, -1]}], "line 1: 'idx' must be"),
    ([GOOD | {"is_correct": "yes"}], "line 1: 'is_correct' must be true or"),
    ([GOOD | {"length": 0}], "line 1: 'length' must be 1 or more tokens"),
    ([GOOD | {"weight": -1}], "line 1: 'weight' must be 0 or more"),
    ([GOOD | {"weight": 0}], "every weight of task .* is 0"),
    ([{"task": CB}], "line 1 has no 'is_correct', only task"),
    ([GOOD, GOOD], r"line 2: idx \[0, 0\] of task .* stands twice, .*line 1"),
    (
      [GOOD, GOOD | {"idx": [0, 2]}],
      "example 0 of task .* has no score of choice 1, though of 2",
    ),
    ([GOOD, GOOD | {"idx": [2, 0]}], "no score of example 1, though of 2"),
    (
      [GOOD, GOOD | {"idx": [0, 1], "weight": 2}],
      "line 1: the choices of example 0 differ in 'weight'",
    ),
  ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path, rows, message):
  with pytest.raises(ValueError, match=message):
    p3.score_files([_write(tmp_path / "x.jsonl", rows)])


def test_two_steps_of_a_task_are_refused(tmp_path):
  for step in (1000, 2000):
    _write(tmp_path / f"{CB}-{step:06}.jsonl", [GOOD])
  with pytest.raises(ValueError, match=r"is given twice, .*files of one step"):
    p3.score_files([tmp_path])


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_choices_are_scored_as_p3_has(tmp_path, count):
  path = _write(tmp_path / "x.jsonl", [GOOD, GOOD | {"idx": [0, 1]}])
  stats = tmp_path / "data" / CB / "stats.validation.json"
  _write(stats, [{"examples": 2}])
  assert p3.score_files([path], tmp_path).overall["mean"] == 100
  _write(stats, [{"examples": count}])
  with pytest.raises(ValueError, match=rf"2 lines, but .*json says {count}"):
    p3.score_files([path], tmp_path)


def test_a_task_that_p3_lacks_is_refused(tmp_path):
  path = _write(tmp_path / "x.jsonl", [GOOD])
  with pytest.raises(ValueError, match=r"unknown task .* there is no file"):
    p3.score_files([path], tmp_path)


def test_anlis_rounds_are_one_data_set_in_the_papers_mean():
  """CB has 50, ANLI 20, 30 and 40: (50 + 30) / 2, not (50 + 20 + 30 + 40) / 4."""

  def examples(right):
    return {
      i: {
        0: p3.Choice("x", i < right, 1.0),
        1: p3.Choice("x", i >= right, 0.0),
      }
      for i in range(10)
    }

  tasks = {
    f"anli_guaranteed_r{r}_score_eval": examples(1 + r) for r in (1, 2, 3)
  }
  tasks["super_glue_cb_can_we_infer_score_eval"] = examples(5)
  overall = p3.score_tasks(tasks).overall
  assert overall["mean"] == 35 and overall["anli"] == 30
  assert overall["mean_anli_as_one"] == 40
  del tasks["anli_guaranteed_r2_score_eval"]
  assert "anli" not in p3.score_tasks(tasks).overall
