"""What is misspelt or misplaced on a command line, and what help ends with."""

import os
import shlex
import subprocess
import sys

import pytest

from hyperjax import main
from hyperjax.commands import arguments, shown
from tests import conftest

pytestmark = pytest.mark.usefixtures("no_configuration")

DEMO = "--gin_file=runs/demo_pretrain.gin"
RUN = "--gin.MODEL_DIR=/x"


def _said(capsys, *given):
  status = main.main(list(given))
  [line] = capsys.readouterr().err.strip().splitlines()
  return status, line


@pytest.mark.parametrize(
  "given, line",
  [
    (
      ("adapt", "--modle=/x", "--examples", "a.csv", "--out=/o"),
      "hyperjax adapt: unknown option --modle=/x; did you mean --model?",
    ),
    (
      ("adapter", "average", "a", "b", "--wieghts", "1", "--out=c"),
      "hyperjax adapter: unknown option --wieghts; did you mean --weights?",
    ),
    (
      ("adapter", "inf", "a"),
      "hyperjax adapter: there is no adapter inf; did you mean info?",
    ),
    (
      ("score", "answers.jsonl"),
      "hyperjax score: there is no score answers.jsonl; there are sni, metaicl, "
      "p3, own",
    ),
    (
      ("train", DEMO, RUN, "--train_steps=3"),
      "hyperjax train: unknown option --train_steps=3; did you mean "
      "--gin.TRAIN_STEPS=...?",
    ),
    (
      ("train", DEMO, RUN, "--steps=3"),
      "hyperjax train: unknown option --steps=3; did you mean "
      "--gin.EVAL_STEPS=... or --gin.TRAIN_STEPS=...?",
    ),
    (
      ("report", "--zebra"),
      "hyperjax report: unknown option --zebra",
    ),
    (
      ("train", "runs/demo_pretrain.gin", RUN),
      "hyperjax train: runs/demo_pretrain.gin stands without an option; did you "
      "mean --gin_file=runs/demo_pretrain.gin?",
    ),
    (
      ("train", DEMO, RUN, "TRAIN_STEPS=3"),
      "hyperjax train: TRAIN_STEPS=3 stands without an option; did you mean "
      "--gin.TRAIN_STEPS=3?",
    ),
    (
      ("train", DEMO, "--gin.MODEL_DIR", "/x"),
      "hyperjax train: --gin.MODEL_DIR needs a value: --gin.MODEL_DIR=/x",
    ),
    (
      ("export", "a", "--adapter=a", "--to=peft", "--out=o"),
      "hyperjax export: a stands without an option; it takes --adapter, --to, "
      "--out, --backbone",
    ),
    (
      ("train", DEMO, RUN, "--gin.loop.Periods.sav=3"),
      "hyperjax train: --gin.loop.Periods.sav=3: Configurable 'loop.Periods' "
      "doesn't have a parameter named 'sav'. Did you mean save?",
    ),
    (
      ("train", DEMO, RUN, "--gin.lop.Periods.save=3"),
      "hyperjax train: --gin.lop.Periods.save=3: No configurable matching "
      "'lop.Periods'. Did you mean loop.Periods?",
    ),
    (
      ("train", DEMO, RUN, "--gin_bindings=A = @optimizers.AdmW()"),
      "hyperjax train: --gin_bindings=A = @optimizers.AdmW(): No configurable "
      "matching reference '@optimizers.AdmW()'. Did you mean optimizers.AdamW?",
    ),
    (
      ("train", DEMO, RUN, "--gin.runs.Train.data=mine"),
      "hyperjax train: Train.data must be a Data of hyperjax.data.sources, got "
      "'mine'",
    ),
    (
      ("train", "--gin_file=runs/mtf_own.gin", "--gin.ADAPTERS=prefix"),
      "hyperjax train: --gin.ADAPTERS=prefix: no gin file declares ADAPTERS: add "
      "--gin_file=adapters/both.gin or adapters/ia3.gin or adapters/lora.gin or "
      "adapters/memory.gin or adapters/prefix.gin before",
    ),
  ],
)
def test_a_slip_is_told_what_was_meant(capsys, given, line):
  assert _said(capsys, *given) == (1, line)


@pytest.mark.parametrize(
  "given, line",
  [
    (("tain",), "hyperjax: there is no command tain; did you mean train?"),
    (("zebra",), "hyperjax: there is no command zebra"),
    (("-v",), "hyperjax: -v stands before the command that it is for"),
  ],
)
def test_without_a_command_nothing_is_done(capsys, given, line):
  assert _said(capsys, *given) == (2, line)


def test_an_own_gin_file_that_is_misspelt_is_found(capsys, tmp_path):
  (tmp_path / "mine.gin").touch()
  (tmp_path / "other.gin").touch()
  for file, folders in (
    (f"{tmp_path}/mien.gin", ""),
    ("mien.gin", f"--gin_search_paths={tmp_path}"),
  ):
    given = ["train", f"--gin_file={file}", *filter(None, [folders])]
    assert _said(capsys, *given) == (
      1,
      f"hyperjax train: --gin_file={file}: there is none; did you mean "
      f"{tmp_path}/mine.gin?",
    )


COMMANDS = shown.subcommands(arguments.parser())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_an_example_that_is_understood(name):
  *_, example = COMMANDS[name].format_help().partition("example:\n")
  line = example.replace("\\\n", " ").strip()
  assert f"{line} ".startswith(f"hyperjax {name} ")
  known, rest = main.parse(shlex.split(line)[1:])
  assert known.command == name.split()[0]
  assert all(text.startswith("--gin.") for text in rest)


def test_modules_beside_which_it_is_run_are_found(tmp_path, monkeypatch):
  """But what is installed comes first."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", list(sys.path))
  (tmp_path / "own_parts_of_mine.gin").write_text(
    "from __gin__ import dynamic_registration\nimport own_parts_of_mine\n"
    "own_parts_of_mine.unused.x = 1\n"
  )
  (tmp_path / "own_parts_of_mine.py").write_text("def unused(x): ...\n")
  (tmp_path / "numpy.py").write_text("raise SystemExit('not this one')\n")
  assert main.main(["eval", "--gin_file=own_parts_of_mine.gin"]) == 1
  assert "own_parts_of_mine" in sys.modules
  assert sys.path[-1] == str(tmp_path)


def test_it_says_its_versions_and_devices():
  environment = {"JAX_PLATFORMS": "cpu", "PATH": "", "HOME": "/nowhere"}
  found = subprocess.run(
    [sys.executable, "-m", "hyperjax", "--version"],
    capture_output=True,
    text=True,
    check=True,
    cwd=conftest.ROOT,
    env=environment,
  )
  import jax

  import hyperjax

  python = ".".join(map(str, sys.version_info[:3]))
  assert found.stdout.splitlines() == [
    f"hyperjax {hyperjax.__version__}",
    f"jax {jax.__version__}, Python {python}",
    "devices: 1 cpu",
  ]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_completes_commands_and_options(shell, capsys):
  pytest.importorskip("shtab")
  with pytest.raises(SystemExit) as ended:
    main.main(["--print_completion", shell])
  assert ended.value.code == 0
  script = capsys.readouterr().out
  assert all(x in script for x in ("adapt", "keep_encoded", "gin_file"))


def test_a_script_that_nobody_reads_ends_in_silence():
  pytest.importorskip("shtab")
  reading, writing = os.pipe()
  os.close(reading)
  with os.fdopen(writing, "wb") as unread:
    ended = subprocess.run(
      [sys.executable, "-m", "hyperjax", "--print_completion", "bash"],
      check=False,
      stdout=unread,
      stderr=subprocess.PIPE,
    )
  assert (ended.returncode, ended.stderr) == (141, b"")
