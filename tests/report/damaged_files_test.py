"""Damaged files that a report is made of."""

import json
import pathlib

import pytest

from hyperjax.report import content, run_files
from tests import damage
from tests.report import example

RUN = pathlib.Path("run")
EVALUATION = RUN / "inference_eval"
TIMINGS = {
  "devices": 1,
  "device_kind": "cpu",
  "controls": {"right": {"targets": 4, "seconds_per_target": 2.0}},
}


def _write(folder):
  lines = [
    {"step": step, "loss": 1 / step, "learning_rate": 0.1, "held_out/loss": 2.0}
    for step in (1, 10, 20)
  ]
  example.write_run(folder / RUN, lines, adapters={"rank": 2})
  example.write_result(
    folder / EVALUATION,
    "own",
    example.answers({"a": "rrwr", "b": "rw"}, category={"a": "x", "b": "y"}),
    cost={"adapter_parameters": 3, "flops_per_target": {"answer": 7}},
  )
  timings = folder / EVALUATION / "own-timings.json"
  timings.write_text(json.dumps(TIMINGS))


def _load(folder):
  return run_files.load([folder / RUN], folder)


def _page(folder):
  return content.page(_load(folder))


FILES = {
  "results": EVALUATION / "own-results.json",
  "predictions": EVALUATION / "own-predictions.jsonl",
  "timings": EVALUATION / "own-timings.json",
  "metrics": RUN / "metrics.jsonl",
  "run.json": RUN / "run.json",
  "model-info.txt": RUN / "model-info.txt",
}


def _cases(read):
  return [
    damage.Case(name, _write, str(file), read, file.suffix != ".txt")
    for name, file in FILES.items()
  ]


CASES = _cases(_load)
PAGES = _cases(_page)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_damaged_file_is_refused_by_name_or_read(tmp_path, case):
  damage.search(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", PAGES, ids=str)
def test_what_is_read_of_a_damaged_file_can_be_shown(tmp_path, case):
  damage.search(case, tmp_path)
