"""What the benchmarks' figures share: files, table, JSON."""

import json
import subprocess
import sys

import pytest

from hyperjax.scores import official_report as official
from tests import conftest


def test_a_table_has_all_first_then_groups_then_notes():
  report = official.Report(
    "sni",
    {"rougeL": 50.0, "instances": 12},
    {"categories": {}, "tasks": {"task1": {"rougeL": 9.5, "instances": 12}}},
    ["1 of 12"],
    extra={"official": {}},
  )
  assert report.table().splitlines() == [
    "sni   rougeL  instances",
    "all  50.0000         12",
    "",
    "tasks  rougeL  instances",
    "task1  9.5000         12",
    "",
    "note: 1 of 12",
  ]
  assert json.loads(report.to_json()) == {
    "benchmark": "sni",
    "overall": {"rougeL": 50.0, "instances": 12},
    "categories": {},
    "tasks": {"task1": {"rougeL": 9.5, "instances": 12}},
    "notes": ["1 of 12"],
    "official": {},
  }


def test_a_folder_stands_for_its_files(tmp_path):
  for name in ("b.jsonl", "a.jsonl", "a-metrics.jsonl", "c.txt"):
    (tmp_path / name).write_text("")
  a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
  assert official.prediction_files([b, tmp_path], (".jsonl",)) == [b, a]
  with pytest.raises(ValueError, match=r"has no file \*\.pkl"):
    official.prediction_files([tmp_path], (".pkl",))
  with pytest.raises(ValueError, match="no such file of predictions"):
    official.prediction_files([tmp_path / "d.jsonl"], (".jsonl",))


def test_the_folder_of_all_data_or_of_the_benchmark_is_taken(tmp_path):
  (tmp_path / "p3").mkdir()
  assert official.benchmark_folder(tmp_path, "p3") == tmp_path / "p3"
  assert official.benchmark_folder(tmp_path, "sni") == tmp_path
  with pytest.raises(ValueError, match="--data_dir: there is no folder"):
    official.benchmark_folder(tmp_path / "no", "sni")


def test_scoring_imports_nothing_heavy():
  program = """
import sys
from hyperjax.evaluation.official import metaicl, p3, sni
for name in ("jax", "numpy", "gin", "seqio", "tensorflow", "rouge_score"):
  assert name not in sys.modules, name
"""
  subprocess.run([sys.executable, "-c", program], check=True, cwd=conftest.ROOT)
