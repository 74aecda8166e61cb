"""A run that begins with a t5x checkpoint, and its restart."""

import shutil

import pytest

from hyperjax.artifacts import run_file
from hyperjax.interop import weights
from tests import runs_example
from tests.interop import t5x_files


def _backbone(folder):
  return run_file.read(folder).backbone


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_run_begins_with_a_t5x_checkpoint_and_finds_it_again(
  tmp_path, scheme
):
  """A URL is read as one of gs:// is."""
  runs_example.write_tasks(tmp_path / "tokens")
  step = tmp_path / "t5x" / "checkpoint_70"
  config = runs_example.CONFIG
  t5x_files.write_legacy(step, t5x_files.arrays_of(config))
  run = runs_example.multitask(
    tmp_path / "tokens",
    tmp_path / "run",
    f"{scheme}{tmp_path / 't5x'}",
    steps=1,
  )
  run.execute()
  wanted = weights.identity(t5x_files.source_of(config))
  backbone = _backbone(tmp_path / "run")
  assert backbone.identity == wanted
  assert backbone.source.removeprefix(scheme).rstrip("/") == str(step)
  runs_example.multitask(
    tmp_path / "tokens", tmp_path / "run", None, steps=2
  ).execute()
  assert _backbone(tmp_path / "run") == backbone
  shutil.rmtree(step)
  t5x_files.write_legacy(step, t5x_files.arrays_of(config, seed=1))
  changed = runs_example.multitask(
    tmp_path / "tokens", tmp_path / "run", None, steps=3
  )
  with pytest.raises(ValueError, match="is not the backbone of this run"):
    changed.execute()
