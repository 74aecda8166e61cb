"""adapt, predict and adapter as commands: files in, files out, one-line errors."""

import dataclasses
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from hyperjax import main, serving
from hyperjax.artifacts import adapter_folder
from tests import conftest, served_example

ASKED = served_example.questions()


def _run(*given):
  return main.main([str(x) for x in given])


def _refusal(capsys, *given):
  status = _run(*given)
  shown = capsys.readouterr().err.strip()
  assert status == 1, shown
  return shown


def _write_lines(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return path


def _rows(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def work(served, tmp_path_factory):
  """Examples of two rules, their adapters of both kinds, and inputs."""
  folder = tmp_path_factory.mktemp("work")
  for rule in served_example.RULES:
    pairs = served_example.pairs(rule)
    rows = [{"input": given, "output": answer} for given, answer in pairs]
    _write_lines(folder / f"rule{rule}.jsonl", rows)
  files = [folder / f"rule{rule}.jsonl" for rule in served_example.RULES]
  for kind in served_example.SPECS:
    model, out = served / kind, folder / kind
    assert not _run(
      "adapt",
      *("--model", model, "--examples", *files, "--out", out),
      "--no-verdict",
    )
  (folder / "inputs.txt").write_text("".join(f"{text}\n" for text in ASKED))
  return folder


def test_one_file_makes_the_adapter_that_python_makes(
  served, work, tmp_path, capsys
):
  pairs = served_example.pairs(7, 5)
  pairs.insert(1, (pairs[0][0] * 10, pairs[0][1]))
  pairs.insert(3, pairs[0])
  (tmp_path / "e.csv").write_text(
    "input,output\n" + "".join(f"{x},{y}\n" for x, y in pairs)
  )
  given = ("--model", served / "lora", "--examples", tmp_path / "e.csv")
  assert not _run("adapt", *given, "--out", tmp_path / "a")
  found = adapter_folder.read(tmp_path / "a")
  wanted = serving.load(str(served / "lora")).adapt(pairs)
  said = found.info.check
  assert found.identity == wanted.identity
  assert found.info == dataclasses.replace(wanted.info, check=said)
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].endswith(
    f"e.csv: 3 of 7 examples read, 30 tokens of at most 36; adapter in "
    f"{tmp_path / 'a'}"
  )
  assert lines[1] == (
    "  not read: 1 given before (line 5); 1 longer than the room for any, 36 "
    "tokens (line 3); 2 for lack of room (lines 7-8); --select chooses which are "
    "read"
  )
  # The check, by the same numbers as from Python.
  model = serving.load(str(served / "lora"))
  verdict = serving.check(model, [*pairs])
  assert lines[2] == f"  check: {verdict.sentence()}"
  assert said == json.loads(
    json.dumps(verdict.as_json() | {"remarks": said["remarks"]})
  )
  assert (
    "1 input is cut to the 8 tokens that the T5 reads (line 3)"
    in (said["remarks"])
  )


@pytest.mark.slow
def test_separate_examples_are_counted_by_row(served, tmp_path, capsys):
  """Three rows of twelve tokens, where they were one of thirty-six."""
  lengths = {**served_example.LENGTHS, "demonstrations": 12}
  served_example.train(
    tmp_path / "run",
    served / "tokens",
    "prefix",
    served / "backbone",
    lengths=lengths | {"num_demonstrations": 3},
  )
  pairs = served_example.pairs(7, 4)
  pairs.insert(1, (pairs[0][0] * 10, pairs[0][1]))
  rows = [{"input": given, "output": answer} for given, answer in pairs]
  examples = _write_lines(tmp_path / "e.jsonl", rows)
  given = ("--model", tmp_path / "run", "--examples", examples)
  capsys.readouterr()
  assert not _run("adapt", *given, "--out", tmp_path / "a")
  lines = capsys.readouterr().out.splitlines()
  assert (
    "e.jsonl: 3 of 5 examples read, 30 tokens of at most 3 rows of 12"
    in (lines[0])
  )
  assert lines[1].startswith(
    "  not read: 1 longer than the room for any, 12 tokens (line 2); 1 for lack "
    "of room (line 5)"
  )
  # Each is read by itself: in another order they say the same.
  found = adapter_folder.read(tmp_path / "a").arrays
  model = serving.load(str(tmp_path / "run"))
  other = model.adapt([pairs[3], pairs[0], pairs[2]]).arrays
  for one, two in zip(
    jax.tree.leaves(found), jax.tree.leaves(other), strict=True
  ):
    np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_adapting_twice_writes_the_same_bytes(served, work, tmp_path, capsys):
  given = ("--model", served / "prefix", "--examples", work / "rule7.jsonl")
  given += ("--no-verdict",)
  out = ("--out", tmp_path / "a")
  assert not _run("adapt", *given, *out)
  first = {x.name: x.read_bytes() for x in (tmp_path / "a").iterdir()}
  assert "a exists; --overwrite replaces it" in _refusal(
    capsys, "adapt", *given, *out
  )
  assert not _run("adapt", *given, *out, "--overwrite")
  assert first == {x.name: x.read_bytes() for x in (tmp_path / "a").iterdir()}
  assert set(first) == {"adapter.json", "adapter.safetensors"}


def test_a_broken_line_of_any_file_leaves_nothing(
  served, work, tmp_path, capsys
):
  bad = _write_lines(tmp_path / "bad.jsonl", [{"input": "a"}])
  given = ("--examples", work / "rule7.jsonl", bad, "--out", tmp_path / "out")
  shown = _refusal(capsys, "adapt", "--model", served / "lora", *given)
  assert "bad.jsonl, line 1 has no 'output', only input" in shown
  long = [{"input": "red " * 40, "output": "x"}]
  _write_lines(tmp_path / "bad.jsonl", long)
  shown = _refusal(capsys, "adapt", "--model", served / "lora", *given)
  assert "bad.jsonl: none of 1 examples fits: the shortest takes 43" in shown
  assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]


def test_what_is_no_hypermodels_run_is_named(served, work, tmp_path, capsys):
  out = ("--out", tmp_path / "a")
  given = ("--examples", work / "rule7.jsonl", *out)
  for model, message in (
    (tmp_path / "nothing", "nothing: there is no such folder"),
    (work, "is no run: it has no checkpoint in checkpoints/"),
    (served / "backbone", "is a run of LanguageModel, which trains no hyper"),
  ):
    shown = _refusal(capsys, "adapt", "--model", model, *given)
    assert message in shown and len(shown.splitlines()) == 1
  model = ("--model", served / "lora")
  for option, message in (
    (("--instruction", "do it"), "this model was trained without any"),
    (("--vocabulary", tmp_path / "x"), "x: there is no such file"),
    (("--vocabulary", work / "inputs.txt"), "is not the tokenizer of"),
  ):
    shown = _refusal(capsys, "adapt", *model, *given, *option)
    assert message in shown and len(shown.splitlines()) == 1
  twice = tmp_path / "rule7.csv"
  twice.write_text("a,b\n")
  files = ("--examples", work / "rule7.jsonl", twice, *out)
  shown = _refusal(capsys, "adapt", *model, *files)
  assert "--examples has two files named 'rule7'" in shown
  assert not (tmp_path / "a").exists()


def _predict(served, kind, *given):
  return _run("predict", "--model", served / kind, *given)


@pytest.mark.parametrize("kind", served_example.SPECS)
def test_lines_are_answered_under_their_own_adapters(
  served, work, tmp_path, kind
):
  """As with each adapter alone, fields of a line kept."""
  names = [str(work / kind / f"rule{rule}") for rule in served_example.RULES]
  rows = [
    {"id": i, "input": text, "adapter": names[i % 2], "more": [1]}
    for i, text in enumerate(ASKED)
  ]
  inputs = _write_lines(tmp_path / "in.jsonl", rows)
  alone = []
  for name in names:
    out = tmp_path / "alone.jsonl"
    given = ("--inputs", work / "inputs.txt", "--out", out, "--overwrite")
    assert not _predict(served, kind, *given, "--adapter", name)
    alone.append([row["prediction"] for row in _rows(out)])
  assert alone[0] != alone[1]
  for size in (3, 16):
    out = tmp_path / f"{size}.jsonl"
    given = ("--inputs", inputs, "--out", out, "--batch_size", size)
    assert not _predict(served, kind, *given)
    assert _rows(out) == [
      row | {"prediction": alone[i % 2][i]} for i, row in enumerate(rows)
    ]


def test_lines_with_outputs_end_with_figures_also_when_all_is_there(
  served, work, tmp_path, capsys
):
  """Of a table with other columns, whose answers `score own` takes."""
  model = serving.load(str(served / "lora"))
  adapter = adapter_folder.read(work / "lora" / "rule7")
  answers = model.predict(ASKED[:4], adapter)
  outputs = [answers[0], "one", answers[2], answers[3]]
  rows = zip(outputs, "wxyz", ASKED, strict=False)
  table = "".join(f'"{out}";{name};"{text}"\n' for out, name, text in rows)
  (tmp_path / "in.csv").write_text(f"label;id;text\n{table}")
  out = tmp_path / "out.jsonl"
  given = ("--inputs", tmp_path / "in.csv", "--out", out)
  given += ("--adapter", work / "lora" / "rule7", "--batch_size", 2)
  for again in range(2):
    capsys.readouterr()
    assert not _predict(served, "lora", *given)
    *_, note, last = capsys.readouterr().out.splitlines()
    if not again:
      assert (
        note == "  note: 'text' is read as input, 'label' is read as output"
      )
    assert last.startswith(
      "  of 4 lines with an output, with 95% intervals: accuracy 75.0 [25.0, 10"
    )
  found = _rows(out)
  assert [row["id"] for row in found] == list("wxyz")
  [[wanted]] = model.score(ASKED[1:2], [adapter], [[model.encode("one")]])
  assert found[1]["output_log_likelihood"] == pytest.approx(wanted, rel=1e-4)
  assert "log_likelihood" not in found[1]
  assert not _run("score", "own", out, "--json", "-")
  scored = json.loads(capsys.readouterr().out)["overall"]
  assert (scored["lines"], scored["accuracy"]["mean"]) == (4, 75)
  mean = sum(row["output_log_likelihood"] for row in found) / 4
  assert scored["log-likelihood"]["mean"] == pytest.approx(mean, abs=1e-3)


def test_standard_input_is_answered_on_standard_output(
  served, work, capsys, monkeypatch
):
  class Given:
    buffer = io.BytesIO(f"{ASKED[0]}\n{' '.join(ASKED[:3])}\n".encode())

  monkeypatch.setattr("sys.stdin", Given)
  given = ("--inputs", "-", "--out", "-", "--adapter", work / "lora" / "rule7")
  assert not _predict(served, "lora", *given)
  shown = capsys.readouterr()
  rows = [json.loads(line) for line in shown.out.splitlines()]
  assert [row["input"] for row in rows] == [ASKED[0], " ".join(ASKED[:3])]
  assert all("prediction" in row for row in rows)
  assert shown.err.splitlines()[:2] == [
    "standard output: 2 answers",
    "  1 input was cut to 8 tokens (line 2)",
  ]


@pytest.mark.slow
def test_a_score_below_what_is_required_is_an_exit_status_of_its_own(
  served, work, tmp_path, capsys
):
  """Of each file of a folder; the adapters are there all the same."""
  for name in ("rule7", "rule300"):
    shutil.copy(work / f"{name}.jsonl", tmp_path)
  (tmp_path / "notes.md").write_text("none of these")
  given = ("adapt", "--model", served / "lora", "--examples", tmp_path)
  given += ("--metric", "rouge_l", "--out", work / "required", "--overwrite")
  capsys.readouterr()
  assert not _run(*given, "--require", "0")
  scores = {}
  for name in ("rule300", "rule7"):
    said = adapter_folder.read(work / "required" / name).info.check
    assert said["metric"] == "rouge_l"
    scores[name] = said["columns"]["adapter"]["score"]
  least = max(scores.values()) + 0.01
  before = (work / "required" / "rule7" / "adapter.json").read_bytes()
  assert _run(*given, "--require", least) == 4
  # The check, too, is the same whenever it is made.
  after = (work / "required" / "rule7" / "adapter.json").read_bytes()
  assert after == before
  shown = capsys.readouterr().err
  assert f"2 of 2 adapters do not reach --require={least:g}: " in shown
  assert f"rule7 ({scores['rule7']:.2f})" in shown
  lines = _refusal(capsys, *given, "--no-verdict", "--require", "0.5")
  assert "--metric is of the check, which --no-verdict omits" in lines


def test_a_folder_of_one_file_is_a_folder_of_one_adapter(
  served, work, tmp_path, capsys
):
  """There may be more tomorrow."""
  (tmp_path / "tasks").mkdir()
  given = ("adapt", "--model", served / "lora", "--out", tmp_path / "out")
  given += ("--no-verdict", "--examples", tmp_path / "tasks")
  assert "tasks: no file of examples is in it" in _refusal(capsys, *given)
  shutil.copy(work / "rule7.jsonl", tmp_path / "tasks")
  for name in ("a.txt", ".hidden"):
    (tmp_path / "tasks" / name).write_text("a")
  assert not _run(*given)
  shown = capsys.readouterr().err
  assert (
    "warning: " in shown and "tasks: passed over, by name: a.txt\n" in shown
  )
  assert adapter_folder.read(tmp_path / "out" / "rule7").info.check is None


@pytest.mark.slow
def test_what_is_combined_has_no_check_and_what_is_updated_that_of_before(
  work, served, tmp_path, capsys
):
  given = ("adapt", "--model", served / "lora")
  one = tmp_path / "one"
  assert not _run(*given, "--examples", work / "rule7.jsonl", "--out", one)
  said = adapter_folder.read_info(one)[0].check
  capsys.readouterr()
  assert not _run("adapter", "info", one)
  assert f"\n  check: {said['sentence']}\n" in capsys.readouterr().out
  both = (one, work / "lora" / "rule300")
  assert not _run("adapter", "average", *both, "--out", tmp_path / "mean")
  more = ("--update", one, "--examples", work / "rule300.jsonl")
  assert not _run(*given, *more, "--out", tmp_path / "updated")
  assert adapter_folder.read_info(tmp_path / "mean")[0].check is None
  updated = adapter_folder.read_info(tmp_path / "updated")[0].check
  assert updated["of"] == adapter_folder.read(one).identity


def test_scores_are_of_the_answer_the_output_and_the_choices(
  served, work, tmp_path
):
  model = serving.load(str(served / "lora"))
  adapter = adapter_folder.read(work / "lora" / "rule7")
  rows = [
    {"input": ASKED[0]},
    {"input": ASKED[1], "output": "one", "choices": ["two", "red ; red"]},
  ]
  inputs = _write_lines(tmp_path / "in.jsonl", rows)
  given = ("--inputs", inputs, "--out", tmp_path / "out.jsonl", "--scores")
  given += ("--adapter", work / "lora" / "rule7")
  assert not _predict(served, "lora", *given)
  first, second = _rows(tmp_path / "out.jsonl")
  assert first.keys() == {"input", "prediction", "log_likelihood"}
  texts = ["one", "two", "red ; red"]
  [wanted] = model.score(
    ASKED[1:2], [adapter], [[model.encode(text) for text in texts]]
  )
  found = [second["output_log_likelihood"], *second["choice_log_likelihoods"]]
  assert found == pytest.approx(wanted, rel=1e-4)
  answers = model.answer(ASKED[:2], [adapter])
  wanted = model.score(ASKED[:2], [adapter], [[x] for x in answers.tokens])
  assert [[first["log_likelihood"]], [second["log_likelihood"]]] == [
    pytest.approx(own, rel=1e-4) for own in wanted
  ]


@pytest.mark.parametrize(
  "options",
  [
    pytest.param((), id="greedy"),
    pytest.param(
      ("--temperature", "1", "--seed", "3"),
      id="sampled",
      marks=pytest.mark.slow,
    ),
    pytest.param(
      ("--num_beams", "2", "--scores"), id="beams", marks=pytest.mark.slow
    ),
  ],
)
def test_a_cut_file_is_continued_to_the_very_same_bytes(
  served, work, tmp_path, options
):
  out = tmp_path / "out.jsonl"
  given = ("--inputs", work / "inputs.txt", "--out", out, "--batch_size", 4)
  given += ("--adapter", work / "prefix" / "rule7", *options)
  assert not _predict(served, "prefix", *given)
  whole = out.read_bytes()
  assert len(_rows(out)) == len(ASKED) == 10
  ends = [i + 1 for i, x in enumerate(whole) if x == ord("\n")]
  for size in (0, ends[1], ends[3], ends[5] + 7, len(whole) - 1, len(whole)):
    out.write_bytes(whole[:size])
    assert not _predict(served, "prefix", *given)
    assert out.read_bytes() == whole


@pytest.mark.slow
def test_a_killed_command_started_again_writes_the_very_same_file(
  served, work, tmp_path
):
  rows = [{"input": text, "id": i} for i, text in enumerate(ASKED * 200)]
  inputs = _write_lines(tmp_path / "in.jsonl", rows)
  given = ["--model", served / "lora", "--inputs", inputs, "--batch_size", 2]
  given += ["--adapter", work / "lora" / "rule7"]
  assert not _run("predict", *given, "--out", tmp_path / "whole.jsonl")
  out = tmp_path / "out.jsonl"
  command = [sys.executable, "-m", "hyperjax.main", "predict", *given]
  command += ["--out", out]
  process = subprocess.Popen(list(map(str, command)), cwd=conftest.ROOT)
  deadline = time.monotonic() + 600
  while not (out.exists() and out.stat().st_size > 500):
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.02)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  assert out.read_bytes().count(b"\n") < len(rows)
  subprocess.run(list(map(str, command)), check=True, cwd=conftest.ROOT)
  assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_file_of_other_inputs_options_or_adapters_is_not_continued(
  served, work, tmp_path, capsys
):
  out, inputs = tmp_path / "out.jsonl", tmp_path / "in.txt"
  inputs.write_text("one\ntwo\n")
  adapter = tmp_path / "a"
  shutil.copytree(work / "lora" / "rule7", adapter)
  given = ("predict", "--model", served / "lora", "--inputs", inputs)
  given += ("--out", out, "--adapter", adapter)
  assert not _run(*given)
  before = out.read_bytes()
  shown = _refusal(capsys, *given, "--num_beams", 2)
  assert "out.jsonl was made with other settings" in shown
  assert "decoder was {'kind': 'Sampling'" in shown
  inputs.write_text("one\nthree\n")
  assert "inputs_sha256 was" in _refusal(capsys, *given)
  inputs.write_text("one\ntwo\n")
  shutil.rmtree(adapter)
  shutil.copytree(work / "lora" / "rule300", adapter)
  assert "adapters was" in _refusal(capsys, *given)
  assert out.read_bytes() == before
  out.write_bytes(before.replace(b"one", b"six"))
  shutil.rmtree(adapter)
  shutil.copytree(work / "lora" / "rule7", adapter)
  assert "line 1, does not answer input line 1" in _refusal(capsys, *given)
  assert not _run(*given, "--overwrite")
  assert out.read_bytes() == before


def test_adapters_that_cannot_meet_are_refused_before_anything_is_written(
  served, work, tmp_path, capsys
):
  def refusal(kind, *adapters):
    rows = [{"input": "one", "adapter": x and str(x)} for x in adapters]
    inputs = _write_lines(tmp_path / "in.jsonl", rows)
    given = ("--inputs", inputs, "--out", tmp_path / "out.jsonl")
    shown = _refusal(capsys, "predict", "--model", served / kind, *given)
    assert not (tmp_path / "out.jsonl").exists() and "\n" not in shown
    return shown

  lora = work / "lora" / "rule7"
  assert "line 2 names no adapter and others do" in refusal("lora", lora, None)
  assert "line 2: " in refusal("lora", lora, tmp_path / "nothing")
  other = tmp_path / "other"
  shutil.copytree(lora, other)
  info = json.loads((other / "adapter.json").read_text())
  info["backbone"]["identity"] = "0" * 64
  (other / "adapter.json").write_text(json.dumps(info))
  assert "other is an adapter of the T5 0000000000000000" in refusal(
    "lora", lora, other
  )


@pytest.mark.parametrize(
  "options, message",
  [
    (("--num_beams", 2, "--temperature", 1), "exclude each other"),
    (("--top_k", 3), "--top_k and --top_p need a --temperature above 0"),
    (("--out", "/nowhere/out.jsonl"), "there is no folder /nowhere"),
    (("--inputs", "/nowhere/in.txt"), "in.txt cannot be read"),
    (("--adapter", "/nowhere/a"), ": --adapter: /nowhere/a: there is no such"),
    (("--backbone", "/nowhere/t5"), "was /nowhere/t5, which is not there"),
  ],
  ids=lambda x: x[0] if isinstance(x, tuple) else "",
)
def test_a_mistake_gets_one_line_and_leaves_no_file(
  served, work, tmp_path, capsys, options, message
):
  given = ["--model", served / "lora", "--inputs", work / "inputs.txt"]
  given += ["--out", tmp_path / "out.jsonl", *options]
  shown = _refusal(capsys, "predict", *given)
  assert message in shown and len(shown.splitlines()) == 1
  assert not list(tmp_path.iterdir())


def test_without_an_adapter_the_plain_t5_answers(served, work, tmp_path):
  given = ("--inputs", work / "inputs.txt", "--out", tmp_path / "out.jsonl")
  assert not _predict(served, "lora", *given)
  model = serving.load(str(served / "prefix"))
  assert [row["prediction"] for row in _rows(tmp_path / "out.jsonl")] == (
    model.predict(ASKED)
  )


def test_adapter_folders_are_shown_and_averaged(work, tmp_path, capsys):
  both = [work / "lora" / f"rule{rule}" for rule in served_example.RULES]
  out = tmp_path / "mean"
  given = ("--weights", 1, 3, "--out", out)
  assert not _run("adapter", "average", *both, *given)
  assert not _run(
    "adapter", "interpolate", *both, "--weight", 0.75, "--out", tmp_path / "i"
  )
  mean = adapter_folder.read(out)
  assert mean.identity == adapter_folder.read(tmp_path / "i").identity
  assert mean.info.spec.rank == 4
  capsys.readouterr()
  assert not _run("adapter", "info", out, both[0], "--json")
  shown = json.loads(capsys.readouterr().out)
  assert [x["spec"]["rank"] for x in shown] == [4, 2]
  assert shown[1]["origin"]["demonstrations"]["count"] == 3
  assert not _run("adapter", "info", both[0])
  lines = capsys.readouterr().out.splitlines()
  assert lines[:2] == [str(both[0]), "  kind: LoraSpec"]
  given = (*both, work / "prefix" / "rule7", "--out", tmp_path / "no")
  shown = _refusal(capsys, "adapter", "average", *given)
  assert "are of different kinds" in shown
  assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_neither_seqio_nor_tensorflow_nor_gin_is_imported(
  served, work, tmp_path
):
  program = """
import sys
for name in ("seqio", "tensorflow", "gin"):
  sys.modules[name] = None
from hyperjax import main
sys.exit(main.main(sys.argv[1:]))
"""
  given = ["--model", served / "lora"]
  adapt = ["adapt", *given, "--examples", work / "rule7.jsonl", "--out"]
  predict = ["predict", *given, "--inputs", work / "inputs.txt", "--out"]
  for command in ([*adapt, tmp_path / "a"], [*predict, tmp_path / "out.jsonl"]):
    subprocess.run(
      [sys.executable, "-c", program, *map(str, command)],
      check=True,
      cwd=pathlib.Path(conftest.ROOT),
    )


def test_an_adapter_to_compare_with_is_read_before_the_model(tmp_path, capsys):
  (tmp_path / "e.csv").write_text("input,output\na,b\n")
  given = ("--model", tmp_path / "no", "--examples", tmp_path / "e.csv")
  given += ("--out", tmp_path / "out", "--shared", tmp_path / "nope")
  shown = _refusal(capsys, "adapt", *given)
  assert f": --shared: {tmp_path}/nope: there is no such adapter" in shown


def test_a_first_row_that_may_be_a_header_is_warned_of_first(tmp_path, capsys):
  (tmp_path / "e.csv").write_text("Frage;Antwort\na;b\n")
  for command, option in (("adapt", "--examples"), ("predict", "--inputs")):
    given = ("--model", tmp_path / "no", option, tmp_path / "e.csv")
    assert _run(command, *given, "--out", tmp_path / "out") == 1
    first, _ = capsys.readouterr().err.splitlines()
    assert first.startswith(
      f"hyperjax {command}: warning: {tmp_path}/e.csv, li"
    )
    assert "'Frage | Antwort'" in first
