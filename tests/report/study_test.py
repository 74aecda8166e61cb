"""A page of many runs: what comes first, and where its numbers are from."""

import json
import re

import pytest

from hyperjax.report import content, document, run_files
from tests.report import example

SHOWN = {"none": 0, "other": 0, "rotated": 1}
COMPARED = {"none": 0, "other": 0, "rotated": 0}
TASKS = [f"t{i}" for i in range(12)]
CONDITIONS = {"right": "its own demonstrations", "rotated": "outputs rotated"}


def _evaluate(
  folder, name, tasks, predictions, number=2, pattern="rrrw", **own
):
  found = example.answers(dict.fromkeys(tasks, pattern), predictions)
  settings = example.SETTINGS | {"num_demonstrations": number}
  return example.write_result(folder, name, found, settings=settings, **own)


def _study(folder):
  """Four runs, two evaluations; one run with two numbers of demonstrations."""
  paths = []
  for name, problem, own in (
    ("hyper", "HyperTuning", {"adapters": {"rank": 8}}),
    ("shared", "AdapterFineTuning", {"adapters": {"rank": 8}}),
    ("in_context", "FullFineTuning", {"reads_demonstrations": True}),
    ("whole", "FullFineTuning", {}),
  ):
    run = folder / name
    example.write_run(run, [{"step": 7, "loss": 0.5}], None, problem, **own)
    pattern = "rrrw" if name in ("hyper", "in_context") else "wwww"
    evaluated = run / "inference_eval"
    _evaluate(evaluated, "shown", TASKS, SHOWN, pattern=pattern)
    _evaluate(evaluated, "compared", ["x", *TASKS], COMPARED, pattern=pattern)
    paths.append(run)
  for name in ("hyper", "in_context"):
    few = folder / f"{name}_few"
    gone = {"checkpoint": str(folder / name)}
    _evaluate(few, "shown", TASKS, SHOWN, 1, "rrww", **gone)
    paths.append(few)
  return paths


@pytest.fixture(scope="module")
def study(tmp_path_factory):
  folder = tmp_path_factory.mktemp("study")
  return folder, example.make_page(folder, *_study(folder))


def test_a_page_of_many_runs_has_a_short_title_and_says_first_what_holds(study):
  _, page = study
  assert "HyperJAX report: 4 runs on compared, shown" in page.text
  assert next(iter(page.tables)) == "What holds"
  head, *rows = page.tables["What holds"]
  assert head == ["Question", "compared", "shown"]
  assert ["hyper: Does it read its demonstrations?"] + [
    "✓ +75.0 [+75.0, +75.0]"
  ] * 2 in rows
  # Rotated outputs are all right in one evaluation, all wrong in the other.
  assert [
    "hyper: Does it matter which output belongs to which input?",
    "✓ +75.0 [+75.0, +75.0]",
    "✗ -25.0 [-25.0, -25.0]",
  ] in rows
  assert ["hyper against shared (one adapter trained for all tasks)"] + [
    "✓ +75.0 [+75.0, +75.0]"
  ] * 2 in rows
  assert [
    "hyper against in_context (a T5 trained whole, demonstrations in its input)"
  ] + ["? 0.0 [0.0, 0.0]"] * 2 in rows


def test_a_title_may_be_given(tmp_path):
  _evaluate(tmp_path / "few", "x", TASKS, SHOWN)
  page = example.make_page(tmp_path, tmp_path / "few", title="A study")
  assert page.text.count("A study") == 2  # the window's and the page's


def test_controls_of_several_evaluations_stand_side_by_side(study):
  _, page = study
  title = "hyper: controls by evaluation, answers exactly right (%)"
  head, *rows = page.tables[title]
  assert head == [
    "Answered from",
    "compared",
    "compared: gain",
    "shown",
    "shown: gain",
  ]
  assert [
    "its demonstrations, outputs rotated",
    "0.0 [0.0, 0.0]",
    "+75.0 [+75.0, +75.0]",
    "100.0 [100.0, 100.0]",
    "-25.0 [-25.0, -25.0]",
  ] in rows
  assert page.tables["hyper: what that means"][2] == [
    "its demonstrations, outputs rotated",
    "✓ It matters to it which output belongs to which input",
    "✗ Rotated outputs serve it better than the true ones",
  ]


def test_one_number_of_demonstrations_is_compared_between_runs(study):
  """All four runs have two; those of one are in the curve and the details."""
  _, page = study
  _, *rows = page.tables["shown: animals, test: 12 tasks"]
  assert [(row[0], row[2]) for row in rows] == [
    ("hyper", "75.0 [75.0, 75.0]"),
    ("shared", "0.0 [0.0, 0.0]"),
    ("in_context", "75.0 [75.0, 75.0]"),
    ("whole", "0.0 [0.0, 0.0]"),
  ]
  assert "48 targets from 2 demonstrations, 1 draw" in page.text
  assert any(
    x.startswith("hyper, hyper_few: answers exactly right") for x in page.tables
  )


def test_several_runs_share_one_picture_of_more_demonstrations(study):
  _, page = study
  rows = page.tables["shown: answers exactly right (%) against demonstrations"]
  assert [row[:3] for row in rows[1:]] == [
    ["hyper", "1", "50.0 [50.0, 50.0]"],
    ["hyper", "2", "75.0 [75.0, 75.0]"],
    ["in_context", "1", "50.0 [50.0, 50.0]"],
    ["in_context", "2", "75.0 [75.0, 75.0]"],
  ]
  assert (
    "hyper with 2 demonstrations beats hyper with 1 demonstration" in page.text
  )
  assert "Missing: shared, whole: asked with one number" in page.text


def _numbers(value) -> set[float]:
  """Every number in a JSON value, as such and in percent of either sign."""
  if isinstance(value, dict | list):
    inside = value.values() if isinstance(value, dict) else value
    return set().union(*map(_numbers, inside))
  if isinstance(value, bool | str) or value is None:
    return set()
  return {value, 100 * value}


def _shown(cell) -> list[float]:
  if isinstance(cell, document.Finding):
    cell = cell.gain
  if isinstance(cell, document.Score):
    return [x for x in (cell.value, cell.low, cell.high) if x is not None]
  return []


def test_scores_intervals_and_gains_are_numbers_of_the_files_they_name(
  tmp_path,
):
  """Those of one run; a gain over another run is of both runs' predictions."""
  run = tmp_path / "run"
  example.write_run(run, [])
  predictions = {"none": 0, "other": 0}
  for name, patterns in (
    ("x", ["rrww", "rwww", "rrrr"]),
    ("y", ["rrrw", "wwww"]),
  ):
    tasks = {f"{name}{i}": own for i, own in enumerate(patterns)}
    found = example.answers(tasks, predictions)
    example.write_result(run / "inference_eval", name, found)
  page = content.page(run_files.load([run], tmp_path))
  traced = 0
  for table in _tables(page):
    given = [tmp_path / x for x in table.files if x.endswith("-results.json")]
    if not given or "by task" in table.title or "by category" in table.title:
      continue
    known = set().union(*(_numbers(json.loads(x.read_text())) for x in given))
    for cell in (cell for row in table.rows for cell in row):
      for number in _shown(cell):
        assert any(abs(number - x) < 1e-9 for x in known), (table.title, cell)
        traced += 1
  # x, y and both of them side by side: three columns and two gains each.
  assert traced == 2 * 2 * (3 + 2) * 3


def _tables(page):
  parts = [part for section in page.sections for part in section.parts]
  return [x for x in parts if isinstance(x, document.Table)]


def test_losses_of_tasks_are_numbers_of_the_metrics_that_their_table_names(
  tmp_path,
):
  curves = {"a": [0.51, 0.12, 0.33], "b": [0.74, 0.46, 0.45]}
  lines = example.side_by_side(curves)
  example.write_run(tmp_path / "run", lines, problem="AdapterFineTuning")
  page = content.page(run_files.load([tmp_path / "run"], tmp_path))
  (table,) = [x for x in _tables(page) if "every task" in x.title]
  (path,) = table.files
  text = (tmp_path / path).read_text()
  known = _numbers([json.loads(line) for line in text.splitlines()])
  numbers = [
    cell.value
    for row in table.rows
    for cell in row
    if isinstance(cell, document.Number)
  ]
  assert len(numbers) > 8 and set(numbers) <= known


def test_every_table_and_picture_names_the_files_it_is_from(study):
  folder, _ = study
  paths = [folder / x for x in ("hyper", "shared", "in_context", "hyper_few")]
  page = content.page(run_files.load(paths, folder))
  parts = [part for section in page.sections for part in section.parts]
  drawn = [x for x in parts if isinstance(x, document.Table | document.Plot)]
  hashed = {row[0] for row in drawn[-1].rows}
  assert drawn[-1].title == "Everything above is from these" and len(drawn) > 15
  for part in drawn[:-1]:
    assert part.files and set(part.files) <= hashed, part.title


def test_what_is_folded_on_the_page_is_folded_in_markdown(study):
  folder, _ = study
  text = (folder / "page.md").read_text()
  html = (folder / "page.html").read_text()
  folded = [
    x for x in re.findall("<summary>(.*?)</summary>", html) if "rows" in x
  ]
  assert folded
  for summary in folded:
    assert f"<summary>{summary}</summary>" in text
