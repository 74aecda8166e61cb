"""Runs whose newest checkpoint is damaged: they go on from the one before."""

import hashlib
import json
import shutil

import jax
import numpy as np
import pytest

from hyperjax import checkpoints
from hyperjax.loop import Periods
from tests import damaged_checkpoints_test, runs_example

pytestmark = pytest.mark.slow

STEPS = 6


def _run(world, folder, steps=STEPS):
  return runs_example.multitask(
    world / "tokens",
    folder,
    world / "backbone",
    steps=steps,
    periods=Periods(log=1, save=2),
  )


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
  """A run that has the checkpoints 2 and 4 of 6 steps, undamaged."""
  folder = tmp_path_factory.mktemp("trained") / "run"
  _run(world, folder, steps=4).execute()
  return folder


@pytest.fixture(scope="module")
def undamaged(world, trained, tmp_path_factory):
  """What that run comes to where it goes on from step 2."""
  folder = tmp_path_factory.mktemp("undamaged") / "run"
  shutil.copytree(trained, folder)
  shutil.rmtree(folder / "checkpoints" / "4")
  _run(world, folder).execute()
  return folder


def _content(folder):
  """Metrics as bytes, and a hash of the last checkpoint's arrays."""
  of_step = folder / "checkpoints" / str(STEPS)
  digest = hashlib.sha256()
  for item in ("params", "opt_state"):
    reader = checkpoints.folder.ocp.StandardCheckpointer()
    tree = reader.restore(of_step / item)
    reader.close()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
      digest.update(jax.tree_util.keystr(path).encode())
      digest.update(np.asarray(leaf).tobytes())
  facts = json.loads((of_step / "facts" / "metadata").read_text())
  return (folder / "metrics.jsonl").read_bytes(), digest.hexdigest(), facts


@pytest.mark.parametrize("name", damaged_checkpoints_test.DAMAGE)
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(
  world, trained, undamaged, tmp_path, caplog, capsys, name
):
  folder = tmp_path / "run"
  shutil.copytree(trained, folder)
  damaged_checkpoints_test.DAMAGE[name](folder / "checkpoints" / "4")
  damaged = sorted(x.name for x in (folder / "checkpoints" / "4").rglob("*"))
  _run(world, folder).execute()
  assert "continuing" in (said := capsys.readouterr().out)
  assert "from step 2" in said
  (warned,) = [x for x in caplog.messages if "is damaged" in x]
  assert "it is now damaged-4, and the run goes on from step 2" in warned
  assert _content(folder) == _content(undamaged)
  kept = folder / "checkpoints" / "damaged-4"
  assert sorted(x.name for x in kept.rglob("*")) == damaged
  names = sorted(x.name for x in (folder / "checkpoints").iterdir())
  assert names == ["2", "4", "6", "damaged-4"]
