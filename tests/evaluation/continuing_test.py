"""`hyperjax eval` that is killed and started again."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests import conftest

pytestmark = pytest.mark.slow

# A row at a time of a task at a time.
EVAL = """
from __gin__ import dynamic_registration
from hyperjax.data.store import mixtures
from hyperjax.evaluation import few_shot

include "stages/evaluate.gin"

EVALUATIONS = (@few_shot.FewShotEvaluation(),)
EVAL_TOKENS_PER_BATCH = 1
TARGET_LOSSES = True
few_shot.FewShotEvaluation.name = "rules"
few_shot.FewShotEvaluation.targets = @held/mixtures.StoredTasks()
few_shot.FewShotEvaluation.demonstrations = @mixtures.StoredTasks()
few_shot.FewShotEvaluation.num_demonstrations = 3
few_shot.FewShotEvaluation.contexts_per_batch = 1
mixtures.StoredTasks.mixture_or_task = "rules"
mixtures.StoredTasks.keep_records = True
held/mixtures.StoredTasks.split = "validation"
"""
RESULTS = ("predictions.jsonl", "results.json", "loss.json")


@pytest.fixture
def command(served, tmp_path):
  """By its folder of results, the command that writes them."""
  gin_file = tmp_path / "eval.gin"
  stored = f"mixtures.StoredTasks.cache_dir = '{served / 'tokens'}'\n"
  gin_file.write_text(EVAL + stored)

  def to(folder, *options):
    given = [sys.executable, "-m", "hyperjax.main", "eval"]
    given += [f"--gin_file={gin_file}", f"--gin.EVAL_OUTPUT_DIR={folder}"]
    return [*given, f"--gin.CHECKPOINT_PATH={served / 'lora'}", *options]

  return to


def _run(command):
  return subprocess.run(
    command, check=True, cwd=conftest.ROOT, capture_output=True, text=True
  ).stdout


@pytest.mark.parametrize("name", ["answered.jsonl", "answered-losses.jsonl"])
def test_a_killed_evaluation_goes_on_to_the_very_same_results(
  command, tmp_path, name
):
  _run(command(tmp_path / "whole"))
  process = subprocess.Popen(
    command(tmp_path / "out"), cwd=conftest.ROOT, stdout=subprocess.DEVNULL
  )
  kept = tmp_path / "out" / f"rules-{name}"
  deadline = time.monotonic() + 600
  while not (kept.exists() and kept.read_bytes().count(b"\n") > 1):
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.01)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  assert not (tmp_path / "out" / "rules-results.json").exists()
  said = _run(command(tmp_path / "out"))
  assert f"rules-{name} goes on: 1 of 2 tasks are answered" in said
  for of in RESULTS:
    found, wanted = (
      (tmp_path / folder / f"rules-{of}").read_bytes()
      for folder in ("out", "whole")
    )
    assert found == wanted, of
  left = {path.name for path in (tmp_path / "out").iterdir()}
  assert left == {path.name for path in (tmp_path / "whole").iterdir()}
  assert not any("answered" in each for each in left)


def test_results_do_not_depend_on_what_is_answered_together(command, tmp_path):
  """Predictions alike to the byte, with other tokens a batch and lengths."""
  _run(command(tmp_path / "one"))
  _run(
    command(
      tmp_path / "many",
      "--gin.EVAL_TOKENS_PER_BATCH=4000",
      "--gin.few_shot.FewShotEvaluation.least_length=4",
      "--gin.few_shot.FewShotEvaluation.contexts_per_batch=16",
    )
  )
  found, wanted = (
    (tmp_path / folder / "rules-predictions.jsonl").read_bytes()
    for folder in ("one", "many")
  )
  assert found == wanted
