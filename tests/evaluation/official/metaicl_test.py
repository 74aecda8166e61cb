"""MetaICL's figures, by hand and as the authors' `evaluate` has them."""

import json

import pytest

from hyperjax.evaluation.official import metaicl
from hyperjax.evaluation.official.metaicl import Run


def _write(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


@pytest.mark.parametrize(
  "predictions, truths, is_classification, wanted",
  [
    # a: P = 1/2, R = 1, F = 2/3; b: never predicted, 0.
    ("aa", "ab", True, 1 / 3),
    # a: F = 2/3; b: P = 1, R = 1/2, F = 2/3; c is no class of the truths.
    ("abc", "abb", True, (1 + 2 / 3) / 2),
    ("ccc", "abb", True, 0.0),
    ("aab", "aba", False, 1 / 3),
    ([" a"], ["a "], True, 1.0),
    (["x", "y"], [["x ", "z"], ["q"]], False, 0.5),
  ],
)
def test_macro_f1_is_over_the_classes_of_the_truths(
  predictions, truths, is_classification, wanted
):
  found = metaicl.evaluate(predictions, truths, is_classification)
  assert found == pytest.approx(wanted, abs=1e-15)


def _run(task_type, predictions, truths):
  return Run("here", task_type, list(predictions), list(truths))


def _runs():
  return {
    ("nli", "13"): _run("classification", "aa", "ab"),  # 1/3
    ("nli", "100"): _run("classification", "ab", "ab"),  # 1
    ("qa", "13"): _run("multi-choice", "aabb", "abab"),  # 1/2
    ("qa", "100"): _run("multi-choice", "abaa", "abab"),  # 3/4
  }


def test_figures_are_mean_and_worst_over_seeds_then_means_over_tasks():
  report = metaicl.score_runs(_runs())
  assert report.groups["tasks"]["nli"] == {
    "metric": "macro-F1",
    "mean": pytest.approx(100 * 2 / 3),
    "worst": pytest.approx(100 / 3),
    "seeds": 2,
    "predictions": 4,
  }
  assert report.groups["tasks"]["qa"]["metric"] == "accuracy"
  assert report.extra["seeds"]["qa"] == {"13": 50.0, "100": 75.0}
  assert report.overall == {
    "mean": pytest.approx(100 * (2 / 3 + 5 / 8) / 2),
    "worst": pytest.approx(100 * (1 / 3 + 1 / 2) / 2),
    "tasks": 2,
  }
  assert not report.notes


def test_a_free_form_task_has_accuracy_and_rouge_l():
  runs = {
    ("say", "13"): _run(
      "free-form",
      ["the cat ran", "a b"],
      ["the cat sat down", ["x", "a b"]],  # P = 2/3, R = 2/4, F = 4/7; 1
    ),
    ("say", "100"): _run("free-form", ["x", "x"], ["x", "y"]),  # 1; 0
    ("qa", "100"): _run("multi-choice", "aa", "ab"),
  }
  report = metaicl.score_runs(runs)
  assert report.groups["tasks"]["say"]["metric"] == "accuracy"
  assert report.groups["tasks"]["say"]["mean"] == 50
  assert report.groups["free-form"] == {
    "say": {"rougeL": pytest.approx(100 * (11 / 14 + 1 / 2) / 2)}
  }
  assert report.overall["tasks"] == 2
  assert "free-form" not in metaicl.score_runs(_runs()).groups


def test_a_setting_chooses_its_tasks_and_its_unseen_domains():
  runs = _runs()
  runs["other", "13"] = _run("free-form", "a", "b")
  report = metaicl.score_runs(runs, ["nli", "qa"], ["qa"])
  assert report.overall["tasks"] == 2
  assert report.groups["domains"]["unseen"] == {
    "mean": 62.5,
    "worst": 50.0,
    "tasks": 1,
  }
  assert report.notes == [
    "left out, since the setting lacks them: 1 task (other)"
  ]
  with pytest.raises(
    ValueError, match="no predictions of 1 of the setting's 2"
  ):
    metaicl.score_runs(runs, ["nli", "new"])


def test_a_task_with_fewer_seeds_is_named():
  runs = _runs()
  del runs["qa", "13"]
  report = metaicl.score_runs(runs)
  assert report.notes == ["fewer seeds than the 2 of others: 1 task (qa)"]


@pytest.fixture
def folder(tmp_path):
  """MetaICL's folder, with a task of three test lines under two seeds."""
  _write(
    tmp_path / "config" / "tasks" / "my-task.json",
    [{"task_type": "classification", "options": ["a", "b"]}],
  )
  _write(tmp_path / "config" / "x_to_y.json", [{"test": ["my-task"]}])
  for seed in (100, 13):
    _write(
      tmp_path / "data" / "my-task" / f"my-task_16_{seed}_test.jsonl",
      [
        {"task": "my-task", "input": "?", "output": x, "options": ["a", "b"]}
        for x in "abb"
      ],
    )
  return tmp_path


def test_files_of_test_py_name_task_and_seed(folder, tmp_path):
  out = tmp_path / "out"
  out.mkdir()
  for seed, text in ((13, "a\nb\nb\n"), (100, "a\nb\nc\n")):
    name = f"my-task-test-direct-k=16-s={seed}.txt"
    (out / name).write_text(text)
  report = metaicl.score_files([out], folder, "x_to_y")
  # Seed 100: a: F = 1; b: P = 1, R = 1/2, F = 2/3.
  assert report.extra["seeds"]["my-task"] == {
    "13": pytest.approx(100.0),
    "100": pytest.approx(100 * 5 / 6),
  }
  assert report.notes == [
    "none of their options, so wrong: 1 prediction, such as in "
    f"{out / 'my-task-test-direct-k=16-s=100.txt'}"
  ]


def test_without_demonstrations_a_file_names_no_seed(folder, tmp_path):
  path = tmp_path / "my-task-test-channel-calibrated.txt"
  path.write_text("a\nb\nb")
  assert metaicl.score_files([path], folder).overall["mean"] == 100


def test_json_lines_may_say_everything_themselves(tmp_path):
  rows = [
    {
      "task": "my-task",
      "task_type": "multi-choice",
      "seed": seed,
      "prediction": prediction,
      "output": ["a", "b"] if seed == 13 else "a",
    }
    for seed, prediction in ((13, "b"), (13, "c"), (100, "a"))
  ]
  report = metaicl.score_files([_write(tmp_path / "x.jsonl", rows)])
  assert report.extra["seeds"] == {"my-task": {"13": 50.0, "100": 100.0}}


@pytest.mark.parametrize(
  "name, content, message",
  [
    ("my-task-test-direct-k=16-s=13.txt", "", "is empty"),
    (
      "my-task-test-direct-k=16-s=13.txt",
      "a\n",
      r"has 1 prediction, but .*my-task_16_13_test\.jsonl has 3 lines",
    ),
    ("my-task-test-direct-k=16-s=9.txt", "a\n", "the task's right answers"),
    ("their-test-direct.txt", "a\n", "unknown task 'their'"),
    ("predictions.txt", "a\n", "the name must be as MetaICL's test.py"),
    ("x.jsonl", "", "is empty"),
    ("x.jsonl", "[]\n", "line 1: a JSON object is needed"),
    (
      "x.jsonl",
      {"task": "no", "prediction": "a", "output": "a"},
      "line 1: unknown task 'no'",
    ),
    (
      "x.jsonl",
      {"task": "my-task", "prediction": 1, "output": "a"},
      "line 1: 'prediction' must be a string, got 1",
    ),
    (
      "x.jsonl",
      {"task": "my-task", "prediction": "a"},
      "line 1 has no 'output'",
    ),
    (
      "x.jsonl",
      {"task": "my-task", "prediction": "a", "output": ["a", "b"]},
      "line 1: 'output' must be a string",
    ),
    (
      "x.jsonl",
      {"task": "my-task", "prediction": "a", "output": "a"},
      "has 1 prediction, but .* has 3 lines",
    ),
    (
      "x.jsonl",
      {"task": "t", "prediction": "a", "output": "a", "task_type": "other"},
      "line 1: 'task_type' must be one of classification",
    ),
  ],
)
def test_a_broken_file_is_refused_with_its_line(
  folder, tmp_path, name, content, message
):
  path = tmp_path / name
  path.write_text(content if isinstance(content, str) else json.dumps(content))
  with pytest.raises(ValueError, match=message):
    metaicl.score_files([path], folder)


GOLD = {"task": "my-task", "input": "?", "output": "a", "options": ["a", "b"]}


@pytest.mark.parametrize(
  "changed, message",
  [
    (
      {"output": "c"},
      "has an output that is not among the options: output 'c'",
    ),
    ({"output": " "}, "has an output that is not among the options"),
    ({"options": None}, "'options' must be a list of strings, got None"),
    ({"options": "ab"}, "'options' must be a list of strings, got 'ab'"),
    ({"options": [1, "a"]}, "'options' must be a string, got 1"),
    ({"options": []}, "has fewer than two options"),
    ({"options": ["a"]}, "has fewer than two options"),
    ({"task": "other"}, "'task' must be 'my-task', got 'other'"),
  ],
)
def test_a_broken_test_line_is_refused_as_in_evaluation(
  folder, tmp_path, changed, message
):
  gold = folder / "data" / "my-task" / "my-task_16_13_test.jsonl"
  _write(gold, [GOLD, GOLD | changed])
  path = tmp_path / "my-task-test-direct-k=16-s=13.txt"
  path.write_text("a\na\n")
  with pytest.raises(
    ValueError, match=rf"16_13_test\.jsonl, line 2:? {message}"
  ):
    metaicl.score_files([path], folder)


def test_options_may_have_white_space_around_them(folder, tmp_path):
  gold = folder / "data" / "my-task" / "my-task_16_13_test.jsonl"
  _write(gold, [GOLD | {"output": " a ", "options": [" a ", "b\n"]}])
  path = tmp_path / "my-task-test-direct-k=16-s=13.txt"
  path.write_bytes(b"a\r\n")
  report = metaicl.score_files([path], folder)
  assert report.overall["mean"] == 100 and not report.notes


def test_predictions_with_a_byte_order_mark_are_refused(folder, tmp_path):
  """Else the first would be wrong for what nobody sees."""
  path = tmp_path / "my-task-test-direct-k=16-s=13.txt"
  path.write_bytes(b"\xef\xbb\xbfa\nb\nb\n")
  with pytest.raises(ValueError, match=r"s=13\.txt begins with a byte order"):
    metaicl.score_files([path], folder)


def test_blank_right_answers_are_counted(tmp_path):
  row = {"task": "t", "task_type": "free-form", "prediction": "", "output": " "}
  report = metaicl.score_files([_write(tmp_path / "x.jsonl", [row])])
  assert report.overall["mean"] == 100
  assert report.notes[0].startswith("blank right answers, which a blank predic")
  assert ": 1 line, such as in" in report.notes[0]


def test_a_task_has_one_type(tmp_path):
  row = {"task": "t", "prediction": "a", "output": "a"}
  kinds = ("free-form", "multi-choice")
  path = _write(tmp_path / "x.jsonl", [row | {"task_type": x} for x in kinds])
  with pytest.raises(ValueError, match="line 2: 'task_type' is 'multi-choice'"):
    metaicl.score_files([path])


@pytest.mark.parametrize(
  "setting, message",
  [
    ({"test": "my-task"}, "'test' must be a list of at least one string"),
    ({"test": []}, "'test' must be a list of at least one string"),
    ({"test": None}, "'test' must be a list of at least one string"),
    ({"test": [["my-task"]]}, "'test' must be a string"),
    ({"test": ["my-task"] * 2}, "names a task twice"),
    (
      {"test": ["my-task"], "unseen_domain_test": None},
      "'unseen_domain_test' must be a list of strings, got None",
    ),
    (
      {"test": ["my-task"], "unseen_domain_test": ["x"]},
      "'test' must name the tasks of 'unseen_domain_test' too",
    ),
  ],
)
def test_a_broken_setting_is_refused_by_file(
  folder, tmp_path, setting, message
):
  (folder / "config" / "x_to_y.json").write_text(json.dumps(setting))
  path = tmp_path / "my-task-test-direct.txt"
  path.write_text("a\nb\nb\n")
  with pytest.raises(ValueError, match=rf"x_to_y\.json:? {message}"):
    metaicl.score_files([path], folder, "x_to_y")


def test_a_task_and_seed_is_given_once(folder, tmp_path):
  paths = [
    tmp_path / f"my-task-test-{method}-k=16-s=13.txt"
    for method in ("direct", "channel")
  ]
  for path in paths:
    path.write_text("a\nb\nb\n")
  with pytest.raises(ValueError, match="'my-task' with seed 13 is given twice"):
    metaicl.score_files(paths, folder)


def test_the_folder_is_asked_for_and_settings_are_listed(folder, tmp_path):
  path = tmp_path / "my-task-test-direct.txt"
  path.write_text("a\nb\nb\n")
  with pytest.raises(ValueError, match="--data_dir must name the folder"):
    metaicl.score_files([path])
  with pytest.raises(ValueError, match=r"there is no file .*only x_to_y"):
    metaicl.score_files([path], folder, "hr_to_lr")
