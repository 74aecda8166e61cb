"""What is installed decides what works: the rest names its extra in one line."""

import subprocess
import sys

import pytest

from hyperjax import main
from tests import conftest, served_example

# Of all extras: what `pip install hyperjax` does not bring.
EXTRA = (
  "gcsfs",
  "gin",
  "jinja2",
  "libtpu",
  "matplotlib",
  "prometheus_client",
  "s3fs",
  "seqio",
  "starlette",
  "tensorboard",
  "tensorflow",
  "tensorflow_text",
  "uvicorn",
)

SERVE = f"""
import json, pathlib, sys
for name in {EXTRA}:
  sys.modules[name] = None

from hyperjax import main

served, folder = map(pathlib.Path, sys.argv[1:])
examples, inputs = folder / "examples.jsonl", folder / "inputs.txt"
for given in (
  ("adapt", f"--model={{served / 'lora'}}", "--examples", examples,
   "--out", folder / "adapter"),
  ("predict", f"--model={{served / 'lora'}}", "--adapter", folder / "adapter",
   "--inputs", inputs, "--out", folder / "answers.jsonl", "--scores"),
  ("adapter", "info", folder / "adapter"),
  ("export", "--adapter", folder / "adapter", "--to=peft", "--no-verify",
   "--out", folder / "peft"),
):
  assert main.main([str(x) for x in given]) == 0, given
"""


@pytest.mark.slow
def test_adapters_are_written_used_and_exported_without_any_extra(
  served, tmp_path
):
  rows = served_example.pairs(served_example.RULES[0])
  lines = [f'{{"input": "{x}", "output": "{y}"}}\n' for x, y in rows]
  (tmp_path / "examples.jsonl").write_text("".join(lines))
  (tmp_path / "inputs.txt").write_text(rows[0][0] + "\n")
  subprocess.run(
    [sys.executable, "-c", SERVE, str(served), str(tmp_path)],
    check=True,
    cwd=conftest.ROOT,
  )
  assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 1
  assert (tmp_path / "peft" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
  "given, missing, wanted",
  [
    (
      ("train", "--gin_file=runs/demo_pretrain.gin"),
      "gin",
      "hyperjax train: it needs the package gin-config: pip install "
      "'hyperjax[train]'",
    ),
    (
      ("plan", "--gin_file=runs/demo_pretrain.gin", "--devices=1"),
      "gin",
      "hyperjax plan: it needs the package gin-config: pip install "
      "'hyperjax[plan]'",
    ),
    (
      ("report", "{run}"),
      "jinja2",
      "hyperjax report: it needs the package jinja2: pip install "
      "'hyperjax[report]'",
    ),
  ],
)
def test_a_command_names_the_extra_that_it_lacks(
  given, missing, wanted, monkeypatch, capsys, tmp_path
):
  for name in [x for x in sys.modules if x.partition(".")[0] == missing]:
    monkeypatch.delitem(sys.modules, name)
  # What is imported already would not ask for it again.
  for name in ("hyperjax.report.render", "hyperjax.report.content"):
    monkeypatch.delitem(sys.modules, name, raising=False)
  if report := sys.modules.get("hyperjax.report"):
    monkeypatch.delattr(report, "render", raising=False)
  monkeypatch.setitem(sys.modules, missing, None)
  assert main.main([x.format(run=tmp_path) for x in given]) == 1
  assert capsys.readouterr().err.strip() == wanted


def test_a_folder_named_as_a_package_is_not_taken_for_it(
  monkeypatch, capsys, tmp_path
):
  """A checkout has a folder gin, which Python imports where gin is not installed."""
  (tmp_path / "gin").mkdir()
  program = f"""
import sys
sys.path[:] = [{str(tmp_path)!r}, {str(conftest.ROOT)!r}] + [
  x for x in sys.path if "site-packages" not in x]
from hyperjax import main
sys.exit(main.main(["tasks"]))
"""
  found = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, cwd="/"
  )
  assert found.stderr.strip().endswith("pip install 'hyperjax[train]'")
