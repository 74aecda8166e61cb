"""A T5 written as a run folder is a T5 to every run."""

import pytest

from hyperjax.artifacts import restore, t5_folder
from hyperjax.artifacts.run_record import BackboneRef, Merged
from hyperjax.interop import weights
from hyperjax.models import problems
from tests import adapter_example, runs_example, testing

MERGED = Merged(BackboneRef("ab" * 32, "/t5"), "cd" * 32)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_written_t5_is_read_as_the_same_t5(tmp_path, dtype):
  source = adapter_example.backbone(tmp_path / "hf", dtype=dtype)
  t5_folder.write(tmp_path / "run", source, MERGED)
  found = restore.open_t5(tmp_path / "run")
  assert found.config.param_dtype == dtype
  assert weights.identity(found) == weights.identity(source)
  weights.check_function(found, source.config)


def test_it_serves_as_initial_checkpoint(tmp_path):
  source = adapter_example.backbone(tmp_path / "hf")
  t5_folder.write(tmp_path / "run", source, MERGED)
  trainer = testing.make_trainer(testing.hypertuning(testing.SPECS["lora"]))
  given = restore.load(str(tmp_path / "run"), trainer)
  own = weights.identity(source)
  assert given.backbone == BackboneRef(own, str(tmp_path / "run"), 0)
  assert given.record.merged == MERGED
  assert given.frozen and given.params["hypermodel"]


@pytest.mark.slow
def test_training_does_not_go_on_in_it(tmp_path, world):
  """It holds no optimizer's state, and no position in that data."""
  run = runs_example.backbone(world / "tokens", tmp_path / "run")
  assert isinstance(run.problem, problems.LanguageModel)
  source = restore.open_t5(world / "backbone")
  t5_folder.write(tmp_path / "run", source, MERGED)
  with pytest.raises(ValueError, match="in which no training goes on"):
    run.execute()
