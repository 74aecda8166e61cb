"""A run started again with other settings: what is refused, and what is said."""

import dataclasses
import re
import shutil

import pytest

from hyperjax import adapters, checkpoints, optimizers
from hyperjax.artifacts import run_file
from hyperjax.data.store import mixtures
from tests import runs_example

pytestmark = pytest.mark.slow


def _multitask(world, folder, **changes):
  return runs_example.multitask(
    world / "tokens", folder, world / "backbone", **changes
  )


def _tasks(world, folder, rate=1.0, rows=40):
  """The same tasks with another rate or other rows."""
  runs_example.write_tasks(folder, num_rows=rows)
  stored = mixtures.open_mixture(folder, runs_example.MIXTURE, "train")
  folders = [
    (task.name, rate if i else 1.0, folder / task.name / "train")
    for i, task in enumerate(stored)
  ]
  mixtures.write_mixture(folder, runs_example.MIXTURE, "train", False, folders)
  return mixtures.StoredTasks(runs_example.MIXTURE, str(folder))


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
  folder = tmp_path_factory.mktemp("trained") / "run"
  _multitask(world, folder, steps=2).execute()
  return folder


@pytest.fixture
def folder(trained, tmp_path):
  """A copy of that run."""
  shutil.copytree(trained, tmp_path / "run")
  return tmp_path / "run"


def _changed(world, folder, name):
  run = _multitask(world, folder, steps=4)
  data = run.data
  wider = {**runs_example.LENGTHS, "demonstrations": 30}
  return {
    "optimizer": lambda: {
      "optimizer": optimizers.Adafactor(optimizers.Constant(1e-3))
    },
    "seed": lambda: {"seed": 1},
    "rate": lambda: {
      "data": dataclasses.replace(
        data, tasks=_tasks(world, folder.parent / "x", rate=2.0)
      )
    },
    "rows": lambda: {
      "data": dataclasses.replace(
        data, tasks=_tasks(world, folder.parent / "x", rows=41)
      )
    },
    "demonstrations": lambda: {
      "data": dataclasses.replace(data, num_demonstrations=(2, 3))
    },
    "room": lambda: {"data": dataclasses.replace(data, feature_lengths=wider)},
    "adapters": lambda: {
      "problem": dataclasses.replace(run.problem, adapters=adapters.LoraSpec(2))
    },
  }[name]()


@pytest.mark.parametrize(
  "name, message",
  [
    ("optimizer", r"optimizer.kind +AdamW +Adafactor +the optimizer's state"),
    ("seed", r"data.seed +0 +1 +its contexts would be others"),
    ("rate", r"data.tasks +copy_3 1.0 40 +copy_3 2.0 40 +its contexts"),
    ("rows", r"data.tasks +copy_1 1.0 40, copy_3 1.0 40 +copy_1 1.0 41, "),
    ("demonstrations", r"num_demonstrations +\[1, 3\] +\[2, 3\] +its contexts"),
    ("room", r"reads.lengths.demonstrations +24 +30 +its contexts"),
    ("adapters", r"adapters.kind +PrefixSpec +LoraSpec +its arrays"),
  ],
)
@pytest.mark.parametrize("steps", [4, 2], ids=["going on", "at its last step"])
def test_a_run_does_not_go_on_with_other_data_or_other_arrays(
  world, folder, capsys, name, message, steps
):
  """Nor is it said to be trained to its last step, if that can be seen."""
  run = _multitask(world, folder, steps=steps)
  other = dataclasses.replace(run, **_changed(world, folder, name))
  if steps == 2 and name in ("rate", "rows"):
    other.execute()  # only what opens the data would see it
    assert "is already trained to step 2" in capsys.readouterr().out
    return
  with pytest.raises(ValueError, match=message):
    other.execute()
  assert sorted(x.name for x in (folder / "checkpoints").iterdir()) == ["2"]


def test_a_run_goes_on_with_other_settings_and_says_which(
  world, folder, capsys, caplog
):
  caplog.set_level("INFO", "hyperjax")
  run = _multitask(
    world,
    folder,
    steps=4,
    batch_size=32,
    optimizer=optimizers.AdamW(optimizers.Constant(5e-3)),
  )
  run.execute()
  said = capsys.readouterr().out
  for row in (
    r"training.batch_size +16 +32",
    r"training.optimizer.learning_rate.value +0.001 +0.005",
    r"training.steps +2 +4",
  ):
    assert re.search(row, said)
  assert "training.batch_size, training.optimizer.learning_rate.value" in (
    caplog.text
  )
  record = run_file.read(folder)
  assert record.training.batch_size == 32 and record.training.steps == 4
  assert record.backbone.source == str(world / "backbone")
  # The position is in contexts: 8 in each of two batches, then 16 in each.
  saver = checkpoints.Checkpoints(folder / "checkpoints", read_only=True)
  assert saver.facts(4).position == 2 * 8 + 2 * 16
  saver.close()
  # At its last step the same is said, and nothing is done.
  dataclasses.replace(run, batch_size=16).execute()
  said = capsys.readouterr().out
  assert re.search(r"training.batch_size +32 +16", said)
  assert "already trained to step 4" in said
  assert run_file.read(folder) == record


def test_a_damaged_record_stops_a_run_before_anything_is_done(world, folder):
  (folder / "run.json").write_text('{"format": 1, "problem": 3}')
  with pytest.raises(
    ValueError, match=r"run\.json: problem must be a JSON obj"
  ):
    _multitask(world, folder, steps=4).execute()
  (folder / "run.json").unlink()
  with pytest.raises(ValueError, match=r"has checkpoints but no run\.json"):
    _multitask(world, folder, steps=4).execute()
  assert sorted(x.name for x in (folder / "checkpoints").iterdir()) == ["2"]
