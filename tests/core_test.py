"""The core stands alone: without seqio, TensorFlow and gin."""

import subprocess
import sys

import pytest

from tests import conftest

# What a machine without them looks like, to imports and to whoever asks first.
BLOCK = """
import sys
for name in ("seqio", "tensorflow", "tensorflow_text", "gin"):
  sys.modules[name] = None
"""

TRAIN = """
import pathlib, sys

import importlib, pkgutil

import hyperjax
from hyperjax import (
  adapters, batch, checkpoints, checks, loop, metrics, optimizers, runs, sharding,
  train_state, trainer, trees,
)

# Whatever is not said to need them.
NEEDS = ("seqio_key", "seqio_cache", "commands.tasks", "seqio_parts", "seqio_tasks",
         "seqio_features", "seqio_vocabulary", "t5x_model")
ROOMS = ("artifacts", "commands", "data", "evaluation", "interop", "models",
         "paths", "report", "serving", "trackers")
for room in ROOMS:
  package = importlib.import_module(f"hyperjax.{room}")
  for found in pkgutil.walk_packages(package.__path__, f"hyperjax.{room}."):
    if not found.name.endswith(NEEDS):
      importlib.import_module(found.name)
from hyperjax.tasks import c4, records, superni
from tests import runs_example

# A run on stored tokens.
folder = pathlib.Path(sys.argv[1])
runs_example.write_tasks(folder / "tokens")
run = runs_example.multitask(folder / "tokens", folder / "run", None, steps=1)
run.execute()
assert metrics.read(folder / "run" / metrics.METRICS)[0]["step"] == 1
assert not any(sys.modules.get(name) for name in ("seqio", "tensorflow", "gin"))
"""


@pytest.mark.slow
def test_the_core_imports_and_trains_with_seqio_tensorflow_and_gin_blocked(
  tmp_path,
):
  subprocess.run(
    [sys.executable, "-c", BLOCK + TRAIN, str(tmp_path)],
    check=True,
    cwd=conftest.ROOT,
  )


def test_importing_the_package_imports_nothing_heavy():
  program = """
import sys
import hyperjax
assert hyperjax.__version__
for name in ("jax", "numpy", "gin", "seqio", "tensorflow", "flax"):
  assert name not in sys.modules, name
"""
  subprocess.run([sys.executable, "-c", program], check=True, cwd=conftest.ROOT)
