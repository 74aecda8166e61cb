"""adapt --update: folders in, folders out, and what is said of them."""

import json

import pytest

from hyperjax import main, serving
from hyperjax.artifacts import adapter_folder
from tests import served_example
from tests.commands import serving_commands_test as commands

PAIRS = served_example.pairs(7, 6)


def _file(path, pairs):
  return commands._write_lines(
    path, [{"input": given, "output": answer} for given, answer in pairs]
  )


def _run(*given):
  return main.main([str(x) for x in given])


@pytest.fixture
def work(tmp_path):
  """Old and new examples, and inputs."""
  _file(tmp_path / "old.jsonl", PAIRS[:2])
  _file(tmp_path / "more.jsonl", PAIRS[2:4])
  asked = "".join(f"{text}\n" for text in served_example.questions())
  (tmp_path / "in.txt").write_text(asked)
  return tmp_path


def _adapt(model, examples, out, *given):
  options = ("--model", model, "--examples", examples, "--out", out)
  return _run("adapt", *options, *given, "--no-verdict")


def _files(folder):
  return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("kind", served_example.KINDS)
def test_an_exact_update_says_what_it_read_and_its_distance(
  separate, work, capsys, kind
):
  model, old, new = separate / kind, work / "old", work / "new"
  assert not _adapt(model, work / "old.jsonl", old, "--keep_encoded")
  capsys.readouterr()
  given = ("--update", old, "--check", work / "old.jsonl")
  given += ("--check_inputs", work / "in.txt")
  assert not _adapt(model, work / "more.jsonl", new, *given)
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].endswith(
    f"more.jsonl: 2 of 2 examples read, 20 tokens of at most 3 rows of 12; "
    f"adapter in {new}"
  )
  assert lines[1:3] == [
    "  exact: written from what the encoder gave of 2 examples before, and of 2 "
    "now",
    "  4 rows are read, in training at most 3",
  ]
  assert lines[3].startswith("  against 4 of 4 examples read at once: arrays")
  assert float(lines[3].split(" by ")[1].split()[0]) < 1e-4
  assert lines[4].startswith("  10 inputs: 100.0% of answers equal, divergence")
  assert len(lines) == 5
  assert _files(new) == {
    "adapter.json",
    "adapter.safetensors",
    "encoded.safetensors",
  }
  python = serving.load(str(model))
  read = adapter_folder.read(old, with_encoded=True)
  wanted = python.update(read, PAIRS[2:4])
  found = adapter_folder.read(new)
  assert (found.identity, found.info) == (wanted.identity, wanted.info)


def test_a_folder_is_updated_in_place_and_shows_its_history(
  separate, work, capsys
):
  model, folder = separate / "lora", work / "a"
  assert not _adapt(model, work / "old.jsonl", folder, "--keep_encoded")
  before = adapter_folder.read(folder).identity
  given = (model, work / "more.jsonl", folder, "--update", folder)
  capsys.readouterr()
  assert _adapt(*given)
  assert "a exists; --overwrite replaces it" in capsys.readouterr().err
  assert adapter_folder.read(folder).identity == before
  assert not _adapt(*given, "--overwrite")
  assert not _adapt(*given, "--overwrite", "--no-keep_encoded")
  shown = capsys.readouterr().out.splitlines()
  assert "  2 were read before, and count twice now: lines 1, 2" in shown
  assert _files(folder) == {"adapter.json", "adapter.safetensors"}
  assert not _run("adapter", "info", folder, "--json")
  [info] = json.loads(capsys.readouterr().out)
  assert info["encoded"] is None
  origin = info["origin"]
  assert origin["demonstrations"]["count"] == 6
  assert [(x["by"], x["count"]) for x in origin["updates"]] == [
    ("encoded", 2),
    ("encoded", 2),
  ]
  assert origin["updates"][0]["of"] == before
  assert not _run("adapter", "info", folder)
  shown = capsys.readouterr().out
  assert "    updates 2:\n      by: encoded\n" in shown
  assert "examples:" not in shown


def test_a_mean_says_that_it_is_one_and_what_it_leaves_out(
  served, separate, work, capsys
):
  for model, option in (
    (served / "lora", ()),
    (separate / "lora", ("--by_mean",)),
  ):
    out = work / model.parent.name
    assert not _adapt(model, work / "old.jsonl", out)
    given = ("--update", out, "--overwrite", *option)
    given += ("--check", work / "old.jsonl")
    capsys.readouterr()
    assert not _adapt(model, work / "more.jsonl", out, *given)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == (
      "  approximate: the mean of two adapters, by their 2 and 2 examples"
    )
    assert lines[2].startswith("  cut to the rank of either, which leaves out ")
    # One row of 36 tokens has room for three of ten.
    read = 3 if model.parent == served else 4
    assert lines[3].startswith(f"  against {read} of 4 examples read at once: ")
    assert adapter_folder.read(out).info.origin["updates"][0]["by"] == "mean"


def test_a_mistake_gets_one_line_and_leaves_the_folder_as_it_was(
  served, separate, work, capsys
):
  model, folder = separate / "lora", work / "a"
  assert not _adapt(model, work / "old.jsonl", folder, "--keep_encoded")
  plain = work / "plain"
  assert not _adapt(model, work / "old.jsonl", plain)
  before = {path.name: path.read_bytes() for path in folder.iterdir()}
  long = _file(work / "long.jsonl", [("red " * 40, "x")])
  more, update = work / "more.jsonl", ("--update", folder)
  for at, examples, given, message in (
    (model, more, ("--update", plain), "plain has no encoded.safetensors, whi"),
    (model, long, update, "long.jsonl: none of 1 examples fits: the shortest"),
    (model, more, (*update, "--check", more), "2 of the 2 examples that "),
    (model, more, (*update, "--instruction", "x"), "keeps the instruction of"),
    (model, more, ("--by_mean",), "--by_mean is of updates: it needs --update"),
    (model, more, ("--check", more), "--check is of updates: it needs --upd"),
    (
      model,
      more,
      (*update, "--check_inputs", more),
      "so it needs the old ones",
    ),
    (
      model,
      more,
      (*update, "--by_mean", "--keep_encoded"),
      "--by_mean and --keep_encoded exclude each other",
    ),
    (
      served / "lora",
      more,
      update,
      "a was written from examples encoded each ",
    ),
    (separate / "prefix", more, update, "a was written by the hypermodel "),
    (served / "lora", more, ("--keep_encoded",), "makes an update exact"),
    (model, more, ("--update", work / "no"), "no: there is no such adapter"),
  ):
    capsys.readouterr()
    assert _adapt(at, examples, folder, *given, "--overwrite") == 1
    shown = capsys.readouterr().err.strip()
    assert message in shown and len(shown.splitlines()) == 1, shown
    now = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert now == before
  (folder / "encoded.safetensors").write_bytes(b"cut")
  assert _adapt(model, more, work / "new", *update) == 1
  assert "encoded.safetensors is not a whole" in capsys.readouterr().err
  assert not (work / "new").exists()


def test_what_is_added_is_answered_by_the_adapter_before(
  separate, work, capsys
):
  model, old, new = separate / "lora", work / "old", work / "new"
  assert not _adapt(model, work / "old.jsonl", old, "--keep_encoded")
  capsys.readouterr()
  given = ("--model", model, "--examples", work / "more.jsonl", "--out", new)
  assert not _run("adapt", *given, "--update", old)
  [line] = [x for x in capsys.readouterr().out.splitlines() if "  check: " in x]
  python = serving.load(str(model))
  answers = python.predict(
    [text for text, _ in PAIRS[2:4]], adapter_folder.read(old)
  )
  right = sum(x == y for x, (_, y) in zip(answers, PAIRS[2:4], strict=True))
  begin = f"  check: before these examples answers {right} of 2 held-out"
  assert line.startswith(begin)
  check = adapter_folder.read_info(new)[0].check
  assert check["of"] == adapter_folder.read(old).identity
  assert sum(check["columns"]["adapter"]["scores"]) == right
  assert line.endswith(check["sentence"])
  assert _run("adapt", *given, "--update", old, "--require=0.5") == 1
  assert "--require is not of updates" in capsys.readouterr().err
