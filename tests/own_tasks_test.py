"""docs/own_tasks.md, word for word: its files and its commands."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from hyperjax import metrics
from tests import conftest

pytestmark = [pytest.mark.seqio, pytest.mark.slow]
pytest.importorskip("seqio")


def _files(text):
  """Each block of code under the file name that was mentioned last before."""
  found = {}
  for block in re.finditer(r"```\w*\n(.*?)```", text, re.DOTALL):
    names = re.findall(r"`(\w+\.(?:py|gin))`", text[: block.start()])
    found[names[-1]] = block[1]
  return found


def test_a_task_of_ones_own_is_trained_on_and_scored_through_gin_alone(
  tmp_path,
):
  text = (conftest.ROOT / "docs" / "own_tasks.md").read_text()
  files = _files(text)
  assert set(files) == {"my_tasks.py", "shop_train.gin", "shop_eval.gin"}
  for name, content in files.items():
    (tmp_path / name).write_text(content)
  shown = re.sub(r"\\\n\s*", " ", text)
  commands = re.findall(r"^ {4}(hyperjax .*)$", shown, re.MULTILINE)
  # The first takes a large T5; documents_test builds it.
  _, *commands = commands
  assert [line.split()[1] for line in commands] == ["inspect", "train", "eval"]
  environment = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(conftest.ROOT), str(tmp_path)]),
    "HYPERJAX_CACHE": str(tmp_path / "tokens"),
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
  }
  said = []
  # Instead of the demo's hypermodel a T5, after two steps.
  initial = "hyperjax train --gin_file=runs/demo_pretrain.gin"
  initial += " --gin.TRAIN_STEPS=2 --gin.MODEL_DIR=backbone"
  for line in [initial, *commands]:
    line = line.replace("runs/demo_prefix/hyperpretrain", "backbone")
    done = subprocess.run(
      [sys.executable, "-m", "hyperjax.main", *shlex.split(line)[1:]],
      cwd=tmp_path,
      env=environment,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    said.append(done.stdout)
  assert "shop" in said[1] and "carla oslo" in said[1]
  lines = metrics.read(tmp_path / "runs/shop" / metrics.METRICS)
  assert lines[-1]["step"] == 20
  results = tmp_path / "runs/shop/inference_eval/shop-results.json"
  scores = json.loads(results.read_text())["scores"]
  assert scores["right"]["targets"] == 2
