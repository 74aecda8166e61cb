"""Damaged files of predictions, and of what these are scored by."""

import json
import math

import pytest

from hyperjax.evaluation.official import metaicl, p3, sni
from tests import damage

CB = "super_glue_cb_can_we_infer_score_eval"


def _lines(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _sni(folder):
  own = [
    {"id": f"i{n}", "prediction": "yes", "references": ["yes", "no"]}
    | {"task_id": "a", "task_category": "Kind", "track": "default"}
    for n in range(3)
  ]
  _lines(folder / "own.jsonl", own)
  _lines(folder / "references.jsonl", own)
  instance = {"id": "i0", "input": "x", "output": ["yes"]}
  tk = {"Instance": instance, "Prediction": "yes", "Task": "a"}
  _lines(folder / "tk.jsonl", [tk | {"Categories": ["Kind"]}])
  (folder / "splits" / "default").mkdir(parents=True)
  (folder / "splits" / "default" / "test_tasks.txt").write_text("a\n")
  task = {"Categories": ["Kind"], "Instances": [instance]}
  _lines(folder / "tasks" / "a.json", [task])


def _finite(report):
  report.table()
  for name, value in report.overall.items():
    if isinstance(value, float):
      assert math.isfinite(value), f"{name}: {value}"


def _score_own(name):
  return lambda folder: _finite(sni.score_files([folder / name]))


def _score_references(folder):
  references = folder / "references.jsonl"
  _finite(sni.score_files([folder / "own.jsonl"], None, references))


def _score_folder(folder):
  _finite(sni.score_files([folder / "own.jsonl"], folder))


SENTIMENT = {"task_type": "classification", "options": ["bad", "good"]}


def _metaicl(folder):
  lines = [
    {"task": "b", "input": str(n), "output": "good", "options": ["bad", "good"]}
    for n in range(3)
  ]
  _lines(folder / "data" / "b" / "b_16_100_test.jsonl", lines)
  answered = [line | {"prediction": "good", "seed": 100} for line in lines]
  _lines(folder / "p.jsonl", answered)
  (folder / "b-test-direct-k=16-s=100.txt").write_text("good\nbad\n\n")
  _lines(folder / "config" / "tasks" / "b.json", [SENTIMENT])
  _lines(
    folder / "config" / "own.json",
    [{"train": ["a"], "test": ["b"], "unseen_domain_test": ["b"]}],
  )


def _score_metaicl(name):
  return lambda folder: _finite(
    metaicl.score_files([folder / name], folder, "own")
  )


def _p3(folder):
  rows = [
    {
      "input": {"idx": [i, j], "is_correct": j == 0, "weight": 1.0},
      "target": [[i, j], True, 1.0, 3],
      "score": -1.5 * j,
    }
    for i in range(2)
    for j in range(2)
  ]
  _lines(folder / f"{CB}-100.jsonl", rows)
  plain = [
    {"task": CB, "idx": row["input"]["idx"], "is_correct": False}
    | {"score": row["score"], "length": 4}
    for row in rows
  ]
  _lines(folder / "plain.jsonl", plain)
  _lines(folder / "data" / CB / "stats.validation.json", [{"examples": 4}])


def _score_p3(name):
  return lambda folder: _finite(p3.score_files([folder / name], folder))


CASES = [
  damage.Case("SNI", _sni, "own.jsonl", _score_own("own.jsonl"), True, ""),
  damage.Case("Tk", _sni, "tk.jsonl", _score_own("tk.jsonl"), True, ""),
  damage.Case(
    "SNI's references",
    _sni,
    "references.jsonl",
    _score_references,
    True,
    "",
  ),
  damage.Case("SNI's task", _sni, "tasks/a.json", _score_folder, True, ""),
  damage.Case(
    "SNI's list", _sni, "splits/default/test_tasks.txt", _score_folder
  ),
  damage.Case("MetaICL", _metaicl, "p.jsonl", _score_metaicl("p.jsonl"), True),
  damage.Case(
    "MetaICL's text",
    _metaicl,
    "b-test-direct-k=16-s=100.txt",
    _score_metaicl("b-test-direct-k=16-s=100.txt"),
  ),
  damage.Case(
    "MetaICL's answers",
    _metaicl,
    "data/b/b_16_100_test.jsonl",
    _score_metaicl("b-test-direct-k=16-s=100.txt"),
    True,
  ),
  damage.Case(
    "MetaICL's setting",
    _metaicl,
    "config/own.json",
    _score_metaicl("p.jsonl"),
    True,
  ),
  damage.Case(
    "MetaICL's task",
    _metaicl,
    "config/tasks/b.json",
    _score_metaicl("p.jsonl"),
    True,
  ),
  damage.Case(
    "P3, of seqio", _p3, f"{CB}-100.jsonl", _score_p3(f"{CB}-100.jsonl"), True
  ),
  damage.Case("P3", _p3, "plain.jsonl", _score_p3("plain.jsonl"), True),
  damage.Case(
    "P3's stats",
    _p3,
    f"data/{CB}/stats.validation.json",
    _score_p3("plain.jsonl"),
    True,
  ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_damaged_file_is_refused_by_name_or_read(tmp_path, case):
  damage.search(case, tmp_path)
