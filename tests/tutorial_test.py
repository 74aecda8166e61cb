"""docs/tutorial.md is run as it stands, with fewer steps and no shell but a loop's."""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request

import pytest

from hyperjax import main
from tests import conftest
from tests.commands.hosts import several

TEXT = (conftest.ROOT / "docs" / "tutorial.md").read_text()
STEPS = {"runs/demo_pretrain.gin": 2, "stage1.gin": 2, "stage2.gin": 2}


def _files():
  """Each block that is a file, under the name that was mentioned last before."""
  for block in re.finditer(r"```\w*\n(.*?)```", TEXT, re.DOTALL):
    names = re.findall(r"`(\w+\.(?:py|gin|csv|txt))`", TEXT[: block.start()])
    yield names[-1], block[1]


def _commands():
  """Indented lines in their order, loops unrolled."""
  prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL).replace("\\\n", " ")
  for line in re.findall(r"^ {4}(\S.*)$", prose, re.MULTILINE):
    loop = re.fullmatch(r"for (\w+) in (.*?); do (.*); done", line)
    values = loop[2].split() if loop else [""]
    for value in values:
      yield loop[3].replace(f"${loop[1]}", value) if loop else line


@contextlib.contextmanager
def _served(given):
  """A server as its command starts it, once it is ready."""
  command = [sys.executable, "-m", "hyperjax.main", *given]
  process = subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env=os.environ | {"PYTHONPATH": str(conftest.ROOT)},
  )
  try:
    lines = iter(process.stdout.readline, "")
    assert any(line.startswith("ready") for line in lines)
    yield
  finally:
    process.terminate()
    process.communicate(timeout=60)


def _asked(given):
  """What curl would print, of an address, one header and a body."""
  [address, option, header, data, body] = given
  assert (option, data) == ("-H", "-d")
  headers = dict([header.split(": ")])
  request = urllib.request.Request(address, body.encode(), headers)
  with urllib.request.urlopen(request, timeout=60) as answer:
    return answer.read()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  """The tutorial's folder after all of its commands, and what they were."""
  folder = tmp_path_factory.mktemp("tutorial")
  for name, content in _files():
    (folder / name).write_text(content)
  gin = pytest.importorskip("gin")
  # What else listens on this machine is nobody's business here.
  port = str(several.free_port())
  commands = [command.replace("8000", port) for command in _commands()]
  with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as servers:
    patch.chdir(folder)
    patch.setattr(sys, "path", list(sys.path))
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for command in commands:
      name, *given = shlex.split(command)
      if name == "python":
        environment = {"PYTHONPATH": str(conftest.ROOT)}
        subprocess.run([sys.executable, *given], check=True, env=environment)
      elif name == "curl":
        (folder / "answer.json").write_bytes(_asked(given))
      elif given[0] == "serve":
        servers.enter_context(_served(given))
      elif name == "hyperjax":
        gin.clear_config(clear_constants=True)
        file = [x.partition("=")[2] for x in given if "gin_file" in x]
        if given[0] == "train":
          given.append(f"--gin.TRAIN_STEPS={STEPS[file[0]]}")
        assert main.main(given) == 0, command
  gin.clear_config(clear_constants=True)
  return folder, commands


@pytest.mark.slow
@pytest.mark.seqio
def test_every_command_of_the_tutorial_does_what_the_next_one_needs(done):
  folder, commands = done
  programs = {command.split()[0] for command in commands}
  assert programs == {"pip", "hyperjax", "python", "tensorboard", "curl"}
  results = json.loads(
    (
      folder / "runs/stage2/inference_eval/mine_held_out-results.json"
    ).read_text()
  )
  assert {"right", "none", "other"} <= results["intervals"].keys()
  answers = (folder / "answers.jsonl").read_text().splitlines()
  assert len(answers) == 2 and "prediction" in json.loads(answers[0])
  # The same T5 and adapter, asked the same.
  answer = json.loads((folder / "answer.json").read_text())
  written = json.loads(answers[0])["prediction"]
  assert answer["choices"][0]["text"] == written
  assert (folder / "exported" / "adapter_model.safetensors").is_file()
  assert (folder / "merged" / "config.json").is_file()


@pytest.mark.slow
@pytest.mark.seqio
def test_a_sweep_ends_with_a_table_that_tells_its_runs_apart(done):
  text = (done[0] / "report.md").read_text()
  assert "rate-1e-3" in text and "rate-4e-3" in text
  assert "0.001" in text and "0.004" in text
