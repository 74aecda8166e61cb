"""A T5 written as a run folder is a T5 to every run."""

import pytest

from hyperjax.artifacts import restore, t5_folder
from hyperjax.interop import weights
from hyperjax.models import problems
from tests import adapter_example, runs_example, testing


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_written_t5_is_read_as_the_same_t5(tmp_path, dtype):
  source = adapter_example.backbone(tmp_path / "hf", dtype=dtype)
  t5_folder.write(tmp_path / "run", source, {})
  found = restore.open_t5(tmp_path / "run")
  assert found.config.param_dtype == dtype
  assert weights.identity(found) == weights.identity(source)
  weights.check_function(found, source.config)


def test_it_serves_as_initial_checkpoint(tmp_path):
  source = adapter_example.backbone(tmp_path / "hf")
  t5_folder.write(tmp_path / "run", source, {})
  trainer = testing.make_trainer(testing.hypertuning(testing.SPECS["lora"]))
  given = restore.load(str(tmp_path / "run"), trainer)
  assert given.backbone == {
    "source": str(tmp_path / "run"),
    "identity": weights.identity(source),
    "step": 0,
  }
  assert given.frozen and given.params["hypermodel"]


@pytest.mark.slow
def test_training_does_not_go_on_in_it(tmp_path, world):
  """It holds no optimizer's state, and no position in that data."""
  run = runs_example.backbone(world / "tokens", tmp_path / "run")
  assert isinstance(run.problem, problems.LanguageModel)
  source = restore.open_t5(world / "backbone")
  t5_folder.write(tmp_path / "run", source, {"merged": "x"})
  with pytest.raises(ValueError, match="made with other settings"):
    run.execute()
