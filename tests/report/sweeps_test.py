"""Runs that differ in a few settings: which, and which of them did best."""

from hyperjax.report import sweeps
from tests.report import example

TITLE = "What these runs differ in, the best first"


def _write(folder, name, rate, pattern, loss=0.5, more=""):
  example.write_run(folder / name, [{"step": 7, "loss": loss}])
  (folder / name / "config.gin").write_text(
    "# Macros:\n# ====\n"
    f"LEARNING_RATE = {rate}\nMODEL_DIR = '/runs/{name}'\n"
    "EVALUATIONS = \\\n    (@few_shot.FewShotEvaluation(),)\n\n"
    f"loop.Periods.log = 7\n{more}"
  )
  found = example.answers({f"t{i}": pattern for i in range(12)})
  example.write_result(folder / name / "inference_eval", "held_out", found)
  return folder / name


def test_the_runs_of_a_sweep_are_sorted_by_their_scores(tmp_path):
  runs = [
    _write(tmp_path, "low", 0.001, "rrww"),
    _write(tmp_path, "high", 0.004, "rrrw"),
    _write(tmp_path, "higher", 0.01, "rwww"),
  ]
  page = example.make_page(tmp_path, *runs)
  head, *rows = page.tables[TITLE]
  assert head == ["Run", "LEARNING_RATE", "held_out", "Last loss"]
  assert [row[:2] for row in rows] == [
    ["high", "0.004"],
    ["low", "0.001"],
    ["higher", "0.01"],
  ]
  assert [row[2].split()[0] for row in rows] == ["75.0", "50.0", "25.0"]
  assert [row[3] for row in rows] == ["0.5000"] * 3


def test_equal_scores_are_sorted_by_loss(tmp_path):
  runs = [
    _write(tmp_path, "a", 0.001, "rr", 0.7),
    _write(tmp_path, "b", 0.002, "rr", 0.2),
  ]
  _, *rows = example.make_page(tmp_path, *runs).tables[TITLE]
  assert [row[0] for row in rows] == ["b", "a"]


def test_one_run_and_runs_of_quite_different_kinds_are_no_sweep(tmp_path):
  many = "".join(f"a.B.c{i} = {i}\n" for i in range(9))
  alone = _write(tmp_path, "a", 0.001, "rr")
  other = _write(tmp_path, "b", 0.001, "rr", more=many)
  same = _write(tmp_path, "c", 0.001, "rr")
  for runs in ([alone], [alone, other], [alone, same]):
    assert TITLE not in example.make_page(tmp_path, *runs).tables


def test_a_value_of_several_lines_is_one_value(tmp_path):
  path = tmp_path / "config.gin"
  path.write_text(
    "# A = 1\nB = \\\n    (@x.Y(),\n     @x.Z())\nC = {'a': 1,\n 'b': 2}\n\n"
    "x/y.Z.w = 'it'\n"
  )
  assert sweeps.settings(path) == {
    "B": "(@x.Y(), @x.Z())",
    "C": "{'a': 1, 'b': 2}",
    "x/y.Z.w": "'it'",
  }
