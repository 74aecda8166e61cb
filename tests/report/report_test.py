"""`hyperjax report`: what its page says of files made by hand."""

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys

import pytest

from hyperjax import main
from tests import conftest
from tests.report import example


def _run_with_result(folder, **facts):
  example.write_run(folder / "run", [{"step": 7, "loss": 0.5}])
  found = example.answers({f"t{i}": "rrrw" for i in range(12)})
  evaluated = folder / "run" / "inference_eval"
  return example.write_result(evaluated, "held_out", found, **facts)


def test_the_numbers_of_the_summary_are_those_of_the_results(tmp_path):
  results = _run_with_result(tmp_path)
  page = example.make_page(tmp_path, tmp_path / "run")
  head, *rows = page.tables["held_out: animals, test: 12 tasks"]
  assert head[:3] == ["Run", "Answered from", "answers exactly right (%)"]
  for column, row in zip(("right", "none", "other"), rows, strict=True):
    own = results["intervals"][column]["equal"]
    bounds = [100 * own[name] for name in ("mean", "low", "high")]
    assert [float(x) for x in re.findall(r"[\d.]+", row[2])] == bounds
    assert row[4] == str(results["scores"][column]["targets"]) == "48"
  # Every task has three of four right.
  assert [row[2] for row in rows] == [
    "75.0 [75.0, 75.0]",
    "0.0 [0.0, 0.0]",
    "0.0 [0.0, 0.0]",
  ]
  assert rows[1][3] == "+75.0 [+75.0, +75.0]"


def test_runs_are_described_in_words(tmp_path):
  example.write_run(
    tmp_path / "a", [{"step": 9, "loss": 1.0}], adapters={"rank": 4}
  )
  example.write_run(tmp_path / "b", [], problem="AdapterFineTuning")
  example.write_run(
    tmp_path / "c", [], problem="FullFineTuning", reads_demonstrations=True
  )
  paths = [tmp_path / name for name in "abc"]
  page = example.make_page(tmp_path, *paths)
  _, *rows = page.tables["Runs"]
  assert rows == [
    [
      "a",
      "hypermodel that writes LoRA of rank 4",
      "random values",
      "plants",
      "9",
      "3",
    ],
    [
      "b",
      "an adapter, shared by all tasks",
      "random values",
      "plants",
      "–",
      "3",
    ],
    [
      "c",
      "whole T5, demonstrations in its input (in-context)",
      "random values",
      "plants",
      "–",
      "3",
    ],
  ]
  assert ["a", "1,234", "98.77 million", "–"] in page.tables["Parameters"]


def test_markdown_has_the_same_rows_as_the_page(tmp_path):
  _run_with_result(tmp_path, expected={})
  page = example.make_page(tmp_path, tmp_path / "run")
  text = (tmp_path / "page.md").read_text()
  from_page = [row for table in page.tables.values() for row in table]
  assert example.rows_of(text) == from_page and len(from_page) > 20


def test_the_same_files_give_the_same_bytes(tmp_path):
  _run_with_result(tmp_path)
  example.make_page(tmp_path, tmp_path / "run")
  first = (tmp_path / "page.html").read_bytes()
  example.make_page(tmp_path, tmp_path / "run")
  assert (tmp_path / "page.html").read_bytes() == first


def test_categories_and_tasks_have_intervals(tmp_path):
  """One right and one wrong task; one task with five of ten right."""
  found = example.answers(
    {"a": "rrrr", "b": "wwww", "c": "rrrrrwwwww"},
    category={"a": "pets", "b": "pets", "c": "birds"},
  )
  example.write_result(tmp_path / "few", "x", found)
  page = example.make_page(tmp_path, tmp_path / "few")
  name = "few: answers exactly right (%) by "
  _, *rows = page.tables[name + "category"]
  # Of ten targets 2 and 8 right are the percentiles of the binomial; of two
  # tasks, one right and one wrong, all resamples lie within 0 and 1.
  assert [row[:2] for row in rows] == [
    ["birds", "50.0 [20.0, 80.0]"],
    ["pets", "50.0 [0.0, 100.0]"],
  ]
  _, *rows = page.tables[name + "task"]
  assert [row[:2] for row in rows] == [
    ["a", "100.0 [100.0, 100.0]"],
    ["b", "0.0 [0.0, 0.0]"],
    ["c", "50.0 [20.0, 80.0]"],
  ]
  assert "over the task's targets" in page.text


def test_several_draws_of_a_task_are_what_its_interval_is_over(tmp_path):
  one = example.answers({"a": "rr"})
  two = [dataclasses.replace(x, draw=1) for x in example.answers({"a": "ww"})]
  example.write_result(tmp_path / "few", "x", one + two)
  page = example.make_page(tmp_path, tmp_path / "few")
  rows = page.tables["few: answers exactly right (%) by task"]
  assert rows[1][1] == "50.0 [0.0, 100.0]"
  assert "over the 2 draws of demonstrations" in page.text


def test_the_categories_of_p3_are_its_data_sets(tmp_path):
  """Two templates of CB, one right and one wrong; one of COPA."""
  tasks = {
    "p3_super_glue_cb_x_score_eval": "rr",
    "p3_super_glue_cb_y_score_eval": "ww",
    "p3_super_glue_copa_z_score_eval": "rr",
  }
  results = example.write_result(tmp_path / "few", "x", example.answers(tasks))
  figures = {
    "benchmark": "p3",
    "overall": {"mean": 75.0},
    "data sets": {"super_glue_cb": {"mean": 50.0}},
    "notes": ["few templates"],
  }
  results["official"] = {"right": figures}
  path = tmp_path / "few" / "x-results.json"
  path.write_text(json.dumps(results))
  page = example.make_page(tmp_path, path)
  _, *rows = page.tables["few: answers exactly right (%) by category"]
  assert [row[:2] for row in rows] == [
    ["super_glue_cb", "50.0 [0.0, 100.0]"],
    ["super_glue_copa", "100.0 [100.0, 100.0]"],
  ]
  rows = page.tables["few: official figures by data sets"]
  assert rows == [["data sets", "mean"], ["super_glue_cb", "50.00"]]
  assert "Note: few templates." in page.text


HOSTILE = "<script>alert('x')</script>&amp;\"|`"


def test_hostile_texts_stay_text(tmp_path):
  found = example.answers({HOSTILE: "rw"}, category={HOSTILE: HOSTILE})
  for answer in found:
    answer.input = answer.predictions["none"] = HOSTILE
    answer.demonstrations = [[HOSTILE, HOSTILE]]
  folder = tmp_path / "<b>&"
  example.write_result(folder, "<i>", found)
  page = example.make_page(tmp_path, folder)
  tags = [tag for tag, _ in page.elements]
  assert tags.count("script") == 1  # the page's own
  assert not {"i", "img"} & set(tags)
  assert page.text.count(HOSTILE) > 6  # as it was, in tables and examples
  text = (tmp_path / "page.md").read_text()
  assert "<script>" not in text and "<i>" not in text


def test_a_page_needs_nothing_from_outside(tmp_path):
  _run_with_result(tmp_path)
  page = example.make_page(tmp_path, tmp_path / "run")
  for tag, attributes in page.elements:
    assert tag not in ("link", "img", "iframe", "object")
    assert "src" not in attributes
    for name in ("href", "xlink:href"):
      # Those of files would lead nowhere where the page is mailed.
      assert attributes.get(name, "#").startswith("#")
  style = re.sub(
    r'xmlns[:\w]*="[^"]*"', "", (tmp_path / "page.html").read_text()
  )
  assert "http" not in style and "@import" not in style


def test_pictures_have_texts_and_names_of_their_own(tmp_path):
  """Two evaluations give two pictures of the same kind."""
  _run_with_result(tmp_path)
  found = example.answers({f"u{i}": "rw" for i in range(3)})
  example.write_result(tmp_path / "run" / "inference_eval", "second", found)
  page = example.make_page(tmp_path, tmp_path / "run")
  pictures = [own for tag, own in page.elements if tag == "svg"]
  assert len(pictures) == 3  # two of controls, one of the loss
  assert all(own["role"] == "img" for own in pictures)
  assert (
    "its own demonstrations: run 75.0 [75.0, 75.0]"
    in (pictures[0]["aria-label"])
  )
  ids = [own["id"] for _, own in page.elements if "id" in own]
  assert len(ids) == len(set(ids))


def test_every_file_is_listed_with_its_hash(tmp_path):
  _run_with_result(tmp_path)
  page = example.make_page(tmp_path, tmp_path / "run")
  _, *rows = page.tables["Everything above is from these"]
  assert {path for path, _ in rows} == {
    "run/config.gin",
    "run/model-info.txt",
    "run/metrics.jsonl",
    "run/run.json",
    "run/inference_eval/held_out-results.json",
    "run/inference_eval/held_out-predictions.jsonl",
  }
  for path, digest in rows:
    content = (tmp_path / path).read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest


def test_a_run_without_evaluation_and_metrics_says_so(tmp_path):
  example.write_run(tmp_path / "run")
  page = example.make_page(tmp_path, tmp_path / "run")
  assert "Missing: No evaluation of run is given" in page.text
  assert "Missing: run: no metrics.jsonl, so no learning curve." in page.text


def test_results_alone_are_reported_without_intervals_of_groups(tmp_path):
  found = example.answers({"a": "rw", "b": "rr"})
  results = example.write_result(tmp_path / "few", "x", found)
  (tmp_path / "few" / "x-predictions.jsonl").unlink()
  for name in ("intervals", "gains", "settings"):
    del results[name]
  path = tmp_path / "few" / "x-results.json"
  path.write_text(json.dumps(results))
  page = example.make_page(tmp_path, path)
  _, *rows = page.tables["x: x: 2 tasks"]
  assert [row[2:4] for row in rows] == [
    ["75.0", "–"],
    ["0.0", "–"],
    ["0.0", "–"],
  ]
  rows = page.tables["few: answers exactly right (%) by task"]
  assert [row[:2] for row in rows[1:]] == [["a", "50.0"], ["b", "100.0"]]
  for gap in (
    "few: no predictions lie beside few/x-results.json",
    "Only evaluations were given, no run folder",
    "No measured seconds for few (x)",
    "No results say how much arithmetic",
  ):
    assert f"Missing: {gap}" in page.text
  assert "no interval is recorded, so nothing follows" in page.text


def test_predictions_that_do_not_give_the_scores_are_not_used(tmp_path):
  results = _run_with_result(tmp_path)
  path = tmp_path / "run" / "inference_eval" / "held_out-results.json"
  results["scores"]["right"]["equal"] = 0.8
  path.write_text(json.dumps(results))
  page = example.make_page(tmp_path, tmp_path / "run")
  assert (
    "0.7500 over 48 targets, not 0.8000 over 48, under 'right'" in page.text
  )
  assert not any("by task" in title for title in page.tables)


def test_expected_figures_stand_beside_the_measured_ones(tmp_path):
  official = {
    "right": {
      "benchmark": "sni",
      "overall": {"rougeL": 41.5, "instances": 48},
      "notes": [],
    }
  }
  expected = {
    "rougeL": {"value": 45.0, "source": "a paper", "certainty": "likely"},
    "equal": {"value": 70.0, "source": "another", "certainty": "known"},
    "speed": {"value": 1.0, "source": "none", "certainty": "known"},
  }
  results = _run_with_result(tmp_path, expected=expected)
  results["official"] = official
  path = tmp_path / "run" / "inference_eval" / "held_out-results.json"
  path.write_text(json.dumps(results))
  page = example.make_page(tmp_path, tmp_path / "run")
  _, *rows = page.tables["run: measured against expected"]
  assert rows == [
    ["rougeL", "41.5", "45.0", "-3.5", "likely", "a paper"],
    ["equal", "75.0", "70.0", "+5.0", "known", "another"],
    ["speed", "–", "1.0", "–", "known", "none"],
  ]
  rows = page.tables["run: official figures of sni"]
  assert rows[1:] == [["rougeL", "41.50"], ["instances", "48"]]


def test_an_evaluation_of_the_papers_stands_beside_its_numbers(tmp_path):
  model = {
    "kind": "HyperTuning",
    "backbone": {
      "kind": "T5Config",
      "emb_dim": 1024,
      "mlp_dim": 2816,
      "num_heads": 16,
      "num_encoder_layers": 24,
    },
    "adapters": {"kind": "PrefixSpec", "length": 32},
    "train_backbone": False,
  }
  settings = {
    "targets": {"mixture_or_task": "p3_t0_eval", "split": "validation"},
    "num_demonstrations": 16,
    "instruction_readers": [],
  }
  official = {"benchmark": "p3", "overall": {"mean_anli_as_one": 50.0}}
  results = _run_with_result(tmp_path, model=model)
  results["settings"] = results["settings"] | settings
  results["official"] = {"right": official}
  path = tmp_path / "run" / "inference_eval" / "held_out-results.json"
  path.write_text(json.dumps(results))
  page = example.make_page(tmp_path, tmp_path / "run")
  rows = page.tables["run: measured against expected"]
  assert len(rows) == 1 + 9
  source = "quoted by TAGI and HyperLoRA"
  assert rows[-1] == [
    "mean_anli_as_one",
    "50.0",
    "54.6",
    "-4.6",
    "known",
    source,
  ]


def test_costs_and_seconds_are_shown_with_the_machine(tmp_path):
  cost = {
    "trained_parameters": 1_000,
    "frozen_parameters": 2_000,
    "adapter_parameters": 30,
    "flops_per_target": {
      "input_alone": 400,
      "demonstrations_in_input": 1200,
      "with_adapter": 480,
      "writing_adapter": 5000,
    },
  }
  _run_with_result(tmp_path, cost=cost)
  timings = {
    "device_kind": "cpu",
    "devices": 1,
    "controls": {"right": {"seconds_per_target": 0.0125, "targets": 40}},
  }
  path = tmp_path / "run" / "inference_eval" / "held_out-timings.json"
  path.write_text(json.dumps(timings))
  page = example.make_page(tmp_path, tmp_path / "run")
  assert page.tables["Parameters"][1] == ["run", "1,000", "2,000", "30"]
  arithmetic = page.tables["Arithmetic of one query (matrix-product flops)"][1]
  assert arithmetic[2:] == ["480", "1,200", "400", "5,000", "2.50"]
  assert page.tables["Measured seconds for one target"][1] == [
    "run",
    "held_out",
    "its own demonstrations",
    "0.0125",
    "40",
    "1 x cpu",
  ]


def test_more_demonstrations_are_a_curve_of_one_run(tmp_path):
  example.write_run(tmp_path / "run", [])
  for number, pattern in ((1, "wwwr"), (4, "rrrw"), (2, "rrww")):
    settings = example.SETTINGS | {"num_demonstrations": number}
    example.write_result(
      tmp_path / f"shots{number}",
      "x",
      example.answers({"a": pattern, "b": pattern}),
      settings=settings,
      checkpoint=str(tmp_path / "run"),
    )
  paths = [tmp_path / f"shots{number}" for number in (1, 4, 2)]
  page = example.make_page(tmp_path, *paths)
  rows = page.tables["x: answers exactly right (%) against demonstrations"]
  assert [row[:3] for row in rows[1:]] == [
    ["run", "1", "25.0 [25.0, 25.0]"],
    ["run", "2", "50.0 [50.0, 50.0]"],
    ["run", "4", "75.0 [75.0, 75.0]"],
  ]


def test_examples_are_the_first_then_wrong_and_right_ones(tmp_path):
  found = example.answers({"a": "rwwwrrr"})
  example.write_result(tmp_path / "few", "x", found)
  first = example.make_page(tmp_path, tmp_path / "few")
  shown = re.findall(r"few, x, target (\d) of 7", first.text)
  # Rows 1 to 3 are wrong, 4 to 6 right, besides the first.
  assert shown == ["1", "2", "3", "5", "6"]


@pytest.mark.parametrize(
  "content, message",
  [
    (None, "there is no such folder or file"),
    ({}, "holds neither a run (metrics.jsonl, model-info.txt, checkpoints)"),
    ({"x-results.json": "{"}, "x-results.json: not JSON"),
    ({"x-results.json": "{}"}, "has no 'name', only"),
    (
      {"x-results.json": "ok", "x-predictions.jsonl": '{"task": "a"}\n'},
      "x-predictions.jsonl, line 1 has no 'row'",
    ),
  ],
)
def test_what_cannot_be_reported_is_refused(tmp_path, capsys, content, message):
  folder = tmp_path / "given"
  if content is not None:
    folder.mkdir()
    example.write_result(tmp_path / "ok", "x", example.answers({"a": "r"}))
    good = (tmp_path / "ok" / "x-results.json").read_text()
    for name, text in content.items():
      (folder / name).write_text(good if text == "ok" else text)
  assert main.main(["report", str(folder)]) == 1
  shown = capsys.readouterr().err
  assert str(folder) in shown and message in shown
  assert not (tmp_path / "report.html").exists()


def test_outputs_that_cannot_be_written_are_refused(tmp_path, capsys):
  _run_with_result(tmp_path)
  run = str(tmp_path / "run")
  for option, message in (
    (f"--out={tmp_path}/no/page.html", "--out: there is no folder"),
    (f"--out={run}", "is a folder, a file is needed"),
    (f"--out={tmp_path}/report.md", "are the same file"),
  ):
    assert main.main(["report", run, option]) == 1
    assert message in capsys.readouterr().err


def test_a_report_lies_beside_its_first_path_by_default(tmp_path, capsys):
  _run_with_result(tmp_path)
  assert main.main(["report", str(tmp_path / "run")]) == 0
  shown = capsys.readouterr().out
  for name in ("report.html", "report.md"):
    assert (tmp_path / name).is_file() and str(tmp_path / name) in shown


def test_a_report_imports_no_jax(tmp_path):
  _run_with_result(tmp_path)
  program = f"""
import sys
from hyperjax import main
for name in ("numpy", "matplotlib", "jinja2"):
  assert name not in sys.modules, name
assert main.main(["report", {str(tmp_path / "run")!r}]) == 0
for name in ("jax", "gin", "seqio", "tensorflow", "rouge_score"):
  assert name not in sys.modules, name
"""
  subprocess.run(
    [sys.executable, "-c", program],
    check=True,
    cwd=conftest.ROOT,
    env=os.environ | {"PYTHONPATH": str(conftest.ROOT)},
  )
