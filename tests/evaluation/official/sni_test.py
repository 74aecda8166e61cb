"""Super-NaturalInstructions' figures, by hand and as the authors' script has them."""

import json

import pytest

from hyperjax.evaluation.official import sni
from hyperjax.evaluation.official.sni import Reference


def _write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def _four():
  """Two tasks of one category, one of another; the last has no prediction."""
  references = {
    "a1": Reference(["the cat sat down"], "task1", "Title Generation"),
    "a2": Reference(["x", "Yes!"], "task1", "Title Generation"),
    "b1": Reference(["no"], "task2", "Title Generation"),
    "c1": Reference(["no"], "task3", "Word Analogy"),
  }
  # ROUGE-L of a1: P = 2/3, R = 2/4, F = 4/7; a2 and b1 are right.
  predictions = {"a1": "the cat ran", "a2": "yes", "b1": "no"}
  return predictions, references


def test_figures_are_means_over_instances_of_the_best_reference():
  report = sni.score_predictions(*_four())
  rouge = (4 / 7 + 1 + 1 + 0) / 4
  assert report.overall == {
    "exact_match": 50.0,
    "rougeL": round(100 * rouge, 4),
    "instances": 4,
  }
  assert report.groups["categories"] == {
    "title_generation": {
      "exact_match": 66.6667,
      "rougeL": 85.7143,
      "instances": 3,
    },
    "word_analogy": {"exact_match": 0.0, "rougeL": 0.0, "instances": 1},
  }
  tasks = report.groups["tasks"]
  assert {name: row["rougeL"] for name, row in tasks.items()} == {
    "task1": 78.5714,
    "task2": 100.0,
    "task3": 0.0,
  }
  assert (
    report.extra["official"]["rougeL_for_title_generation_default_track"]
    == 85.7143
  )
  assert report.extra["official"]["exact_match_default_track"] == 50.0


def test_what_is_missing_unknown_or_of_another_track_is_counted():
  predictions, references = _four()
  predictions["z9"] = "who?"
  references["x1"] = Reference(["हाँ"], "task4", "Word Analogy", "xlingual")
  report = sni.score_predictions(predictions, references)
  assert report.overall["instances"] == 4
  assert report.notes == [
    "no prediction, so scored as an empty one: 1 of 4 instances (c1)",
    "left out, since the references lack them: 1 prediction (z9)",
    "left out, being of another track, which takes GPT-2's tokenizer: "
    "1 instance",
  ]


def test_tk_instruct_files_hold_their_own_references(tmp_path):
  rows = [
    {
      "Task": "task1",
      "Categories": ["Word Analogy"],
      "Instance": {"id": f"i{i}", "input": "?", "output": ["b", "c"]},
      "Prediction": text,
    }
    for i, text in enumerate(["b", "C.", "d", "b c"])
  ]
  report = sni.score_files([_write(tmp_path / "x.jsonl", rows)])
  # "b c" against "b": P = 1/2, R = 1, F = 2/3.
  wanted = {"exact_match": 50.0, "rougeL": 66.6667, "instances": 4}
  assert report.overall == wanted
  assert report.groups == {
    "categories": {"word_analogy": wanted},
    "tasks": {"task1": wanted},
  }


def test_references_without_task_or_category_give_the_overall_alone(tmp_path):
  rows = [{"id": "i", "prediction": "b", "references": ["b"]}]
  report = sni.score_files([_write(tmp_path / "x.jsonl", rows)])
  assert report.groups == {"categories": {}, "tasks": {}}
  assert len(report.notes) == 2


def _tasks_folder(path, num_instances=102):
  (path / "splits" / "default").mkdir(parents=True)
  (path / "splits" / "default" / "test_tasks.txt").write_text("task1")
  (path / "tasks").mkdir()
  task = {
    "Categories": ["Word Analogy"],
    "Instances": [
      {"id": f"i{i}", "input": "?", "output": ["a"]}
      for i in range(num_instances)
    ],
  }
  (path / "tasks" / "task1.json").write_text(json.dumps(task))
  return path


def test_the_first_hundred_instances_of_a_test_task_count(tmp_path):
  folder = _tasks_folder(tmp_path)
  rows = [{"id": f"i{i}", "prediction": "a"} for i in range(40, 102)]
  report = sni.score_files([_write(tmp_path / "x.jsonl", rows)], folder)
  assert report.overall == {
    "exact_match": 60.0,
    "rougeL": 60.0,
    "instances": 100,
  }
  assert "40 of 100 instances" in report.notes[0]
  assert "2 predictions" in report.notes[1]


GOOD = {"id": "i", "prediction": "b", "references": ["b"]}


@pytest.mark.parametrize(
  "lines, message",
  [
    ("", r"x\.jsonl is empty"),
    ("{\n", r"x\.jsonl, line 1: not JSON"),
    (GOOD | {"prediction": 3}, "line 1: 'prediction' must be a string, got 3"),
    ({"id": "i"}, "line 1 has no 'prediction', only id"),
    (GOOD | {"references": []}, "line 1: 'references' must be a list of at"),
    (GOOD | {"references": "b"}, "line 1: 'references' must be a list of at"),
    ({"id": "i", "prediction": "b"}, "line 1 has no 'references': --referen"),
    (
      [GOOD, GOOD | {"prediction": "c"}],
      r"line 2: id 'i' stands twice, first in .*x\.jsonl, line 1",
    ),
  ],
)
def test_a_broken_file_is_refused_with_its_line(tmp_path, lines, message):
  path = tmp_path / "x.jsonl"
  if isinstance(lines, str):
    path.write_text(lines)
  else:
    _write(path, lines if isinstance(lines, list) else [lines])
  with pytest.raises(ValueError, match=message):
    sni.score_files([path])


def test_references_that_do_not_fit_are_refused(tmp_path):
  predictions = _write(tmp_path / "x.jsonl", [{"id": "q", "prediction": "a"}])
  folder = _tasks_folder(tmp_path / "sni")
  with pytest.raises(ValueError, match="none of 1 prediction is of the 100"):
    sni.score_files([predictions], folder)
  with pytest.raises(ValueError, match="--split_list: there is no file"):
    sni.score_files([predictions], folder, split_list="small")
  with pytest.raises(
    ValueError, match=r"--references: there is no file .*no\."
  ):
    sni.score_files([predictions], None, tmp_path / "no.jsonl")
  with pytest.raises(ValueError, match="exclude each other"):
    sni.score_files([predictions], folder, predictions)
  (folder / "tasks" / "task1.json").unlink()
  with pytest.raises(ValueError, match="names 1 task without a file"):
    sni.score_files([predictions], folder)


def test_older_task_files_have_a_string_where_others_have_a_list(tmp_path):
  folder = _tasks_folder(tmp_path)
  path = folder / "tasks" / "task1.json"
  instances = [
    {"id": f"i{i}", "input": "?", "output": x} for i, x in enumerate("ab")
  ]
  path.write_text(
    json.dumps({"Categories": "Word Analogy", "Instances": instances})
  )
  rows = [{"id": f"i{i}", "prediction": "a"} for i in range(2)]
  predictions = _write(tmp_path / "x.jsonl", rows)
  report = sni.score_files([predictions], folder)
  assert report.groups["categories"]["word_analogy"]["rougeL"] == 50.0


@pytest.mark.parametrize(
  "changed, message",
  [
    ({"Instances": []}, r"task1\.json: 'Instances' has no entry"),
    ({"Instances": {"0": 1}}, r"task1\.json: 'Instances' has no entry"),
    ({"Instances": None}, r"task1\.json: 'Instances' has no entry"),
    ({"Instances": ["?"]}, r"Instances 0: a JSON object is needed"),
    ({"Instances": [{"id": "q"}]}, r"Instances 0 has no 'output'"),
    ({"Instances": [{"id": 5, "output": ["a"]}]}, r"'id' must be a string"),
    ({"Categories": []}, r"'Categories' must be a string or a list"),
    ({"Categories": [3]}, r"'Categories' must be a string, got 3"),
  ],
)
def test_a_broken_task_is_refused_by_file(tmp_path, changed, message):
  folder = _tasks_folder(tmp_path)
  path = folder / "tasks" / "task1.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | changed))
  predictions = _write(tmp_path / "x.jsonl", [{"id": "i0", "prediction": "a"}])
  with pytest.raises(ValueError, match=message):
    sni.score_files([predictions], folder)


@pytest.mark.parametrize(
  "listing, message",
  [
    (b"", r"test_tasks\.txt must name tasks, each of them once"),
    (b"task1\ntask1\n", r"test_tasks\.txt must name tasks, each"),
    (b"task1\n\xff\n", r"test_tasks\.txt: not UTF-8"),
    (b"\xef\xbb\xbftask1\n", r"test_tasks\.txt begins with a byte order"),
  ],
)
def test_a_broken_list_of_tasks_is_refused_by_file(tmp_path, listing, message):
  folder = _tasks_folder(tmp_path)
  (folder / "splits" / "default" / "test_tasks.txt").write_bytes(listing)
  predictions = _write(tmp_path / "x.jsonl", [{"id": "i0", "prediction": "a"}])
  with pytest.raises(ValueError, match=message):
    sni.score_files([predictions], folder)


def test_references_of_another_track_alone_are_refused(tmp_path):
  predictions = _write(tmp_path / "x.jsonl", [{"id": "i", "prediction": "b"}])
  references = _write(tmp_path / "r.jsonl", [GOOD | {"track": "xlingual"}])
  with pytest.raises(ValueError, match="none of 1 reference is of the English"):
    sni.score_files([predictions], None, references)
