"""What a command has compiled the next one reads."""

import os
import re
import subprocess
import sys

import jax
import pytest

from hyperjax.commands import compiled
from tests import runs_example

# The name of Trainer's step. Of other programs some are compiled so fast that they are
# not kept.
STEP = "jit_train_step"


def _run(folder, *arguments):
  """Names of programs that a command compiled, and of those that it only read."""
  environment = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))
  }
  environment |= {
    "XDG_CACHE_HOME": str(folder / "cache"),
    "JAX_LOG_COMPILES": "true",
    "JAX_EXPLAIN_CACHE_MISSES": "true",
  }
  done = subprocess.run(
    [sys.executable, "-m", "hyperjax.main", *arguments],
    env=environment,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  missed = re.findall(r"COMPILATION CACHE MISS for '(\w+)'", done.stderr)
  hit = re.findall(r"compilation cache hit for '(\w+)'", done.stderr)
  return set(missed), set(hit)


def test_without_a_home_the_folder_that_is_named_is_taken_or_none(monkeypatch):
  for name in ("HOME", "XDG_CACHE_HOME", "JAX_COMPILATION_CACHE_DIR"):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setattr(os, "getuid", lambda: 2**31)  # of nobody
  before = jax.config.jax_compilation_cache_dir
  compiled.keep()
  assert jax.config.jax_compilation_cache_dir == before
  monkeypatch.setenv(compiled.SETTING, "/named")
  try:
    compiled.keep()
    assert jax.config.jax_compilation_cache_dir == "/named"
  finally:
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.slow
def test_a_run_that_goes_on_compiles_no_step_whatever_its_length_and_rate(
  world, tmp_path
):
  (tmp_path / "run.gin").write_text(runs_example.GIN)

  def train(name, *settings):
    return _run(
      tmp_path,
      "train",
      f"--gin_file={tmp_path / 'run.gin'}",
      f"--gin.mixtures.StoredTasks.cache_dir={world / 'tokens'}",
      f"--gin.INITIAL_CHECKPOINT_PATH={world / 'backbone'}",
      f"--gin.MODEL_DIR={tmp_path / name}",
      *settings,
    )

  missed, hit = train("run", "--gin.TRAIN_STEPS=1")
  assert STEP in missed and STEP not in hit
  rate = "--gin.optimizers.LinearDecay.peak=2e-4"
  missed, hit = train("run", "--gin.TRAIN_STEPS=3", rate)
  assert STEP in hit and STEP not in missed
  # Another run, from other random weights.
  missed, hit = train("other", "--gin.TRAIN_STEPS=1", "--gin.RANDOM_SEED=7")
  assert STEP in hit and STEP not in missed
