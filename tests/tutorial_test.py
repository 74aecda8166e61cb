"""docs/tutorial.md is run as it stands, with fewer steps and no shell but a loop's."""

import json
import re
import shlex
import subprocess
import sys

import pytest

from hyperjax import main
from tests import conftest

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


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  """The tutorial's folder after all of its commands, and what they were."""
  folder = tmp_path_factory.mktemp("tutorial")
  for name, content in _files():
    (folder / name).write_text(content)
  commands = list(_commands())
  gin = pytest.importorskip("gin")
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folder)
    patch.setattr(sys, "path", list(sys.path))
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for command in commands:
      name, *given = shlex.split(command)
      if name == "python":
        environment = {"PYTHONPATH": str(conftest.ROOT)}
        subprocess.run([sys.executable, *given], check=True, env=environment)
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
  assert programs == {"pip", "hyperjax", "python", "tensorboard"}
  results = json.loads(
    (
      folder / "runs/stage2/inference_eval/mine_held_out-results.json"
    ).read_text()
  )
  assert {"right", "none", "other"} <= results["intervals"].keys()
  answers = (folder / "answers.jsonl").read_text().splitlines()
  assert len(answers) == 2 and "prediction" in json.loads(answers[0])
  assert (folder / "exported" / "adapter_model.safetensors").is_file()
  assert (folder / "merged" / "config.json").is_file()


@pytest.mark.slow
@pytest.mark.seqio
def test_a_sweep_ends_with_a_table_that_tells_its_runs_apart(done):
  text = (done[0] / "report.md").read_text()
  assert "rate-1e-3" in text and "rate-4e-3" in text
  assert "0.001" in text and "0.004" in text
