"""Damaged files that users give: examples, inputs, answers that are there."""

import json

import pytest

from hyperjax.commands import predict
from hyperjax.serving import examples, growing_file, inputs
from tests import damage

PAIRS = [("in", "out"), ('a "b", c', "d\te"), ("ü" * 9, "x")]
ROWS = [
  {"input": "a", "adapter": "x", "output": "b", "choices": ["b", "c"]},
  {"input": "d", "other": [1, {"e": None}]},
]
SETTINGS = {"seed": 3, "decoder": {"kind": "Sampling"}}


def _examples(folder):
  rows = [{"input": a, "output": b} for a, b in PAIRS]
  _lines(folder / "x.jsonl", rows)
  (folder / "x.csv").write_text(
    'input,output\nin,out\n"a ""b"", c",d\n\n"two\nlines",x\n'
  )
  (folder / "x.tsv").write_text("input\toutput\nin\tout\nüü\tx\n")


def _lines(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _inputs(folder):
  _lines(folder / "in.jsonl", ROWS)
  (folder / "in.txt").write_text("one\n\nthree ü\n")


def _read_examples(name):
  def read(folder):
    for example in examples.read(folder / name):
      assert example.output.strip() and example.line >= 1

  return read


def _read_inputs(name):
  def read(folder):
    for question in inputs.read(folder / name):
      assert isinstance(question.input, str)

  return read


def _answers(folder):
  _inputs(folder)
  file = growing_file.GrowingFile(folder / "out.jsonl", SETTINGS)
  file.begin(0)
  file.add([predict._own_fields(row) | {"prediction": "y"} for row in ROWS])


def _continue(folder):
  out = folder / "out.jsonl"
  file = growing_file.GrowingFile(out, SETTINGS)
  found = inputs.read(folder / "in.jsonl")
  assert len(predict._done(file.lines, found, out)) <= 2


CASES = [
  damage.Case(
    "examples.jsonl", _examples, "x.jsonl", _read_examples("x.jsonl"), True
  ),
  damage.Case("examples.csv", _examples, "x.csv", _read_examples("x.csv")),
  damage.Case("examples.tsv", _examples, "x.tsv", _read_examples("x.tsv")),
  damage.Case(
    "inputs.jsonl", _inputs, "in.jsonl", _read_inputs("in.jsonl"), True
  ),
  damage.Case("inputs.txt", _inputs, "in.txt", _read_inputs("in.txt")),
  damage.Case("answers", _answers, "out.jsonl", _continue, True),
  damage.Case(
    "settings of answers",
    _answers,
    "out.jsonl.settings.json",
    _continue,
    True,
    "out.jsonl",
  ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_damaged_file_is_refused_by_name_or_read(tmp_path, case):
  damage.search(case, tmp_path)
