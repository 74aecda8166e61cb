"""Whoever begins with a T5 need not say how large it is."""

import dataclasses

import gin
import pytest

from hyperjax import main
from hyperjax.artifacts import adapter_folder, t5_sizes
from tests import adapter_example, runs_example, t5_outline

# As no default has them, and with the vocabulary of the stored tasks.
OTHER = dataclasses.replace(
  runs_example.CONFIG,
  mlp_activations=("relu",),
  logits_via_embedding=True,
  scale_decoder_output=False,
  relpos_max_distance=64,
  dropout_rate=0.0,
)
SIZES = ("emb_dim", "num_heads", "head_dim", "mlp_dim", "mlp_activations")
GIN = """
from __gin__ import dynamic_registration
from hyperjax import adapters
from hyperjax import optimizers
from hyperjax.data import sources
from hyperjax.data.store import mixtures
from hyperjax.models import hypermodel

include "models/from_checkpoint.gin"
include "stages/hypertuning.gin"

DATA = @sources.FewShotEpisodes()
BATCH_SIZE = 8
sources.FewShotEpisodes.tasks = @mixtures.StoredTasks()
sources.FewShotEpisodes.feature_lengths = {
    "demonstrations": 24, "inputs": 6, "targets": 6}
mixtures.StoredTasks.mixture_or_task = "copies"
adapters.PrefixSpec.length = 2
hypermodel.HyperT5Config.head_hidden_dim = 8
optimizers.LinearDecay.peak = 1e-3
"""

pytestmark = pytest.mark.usefixtures("no_configuration")


@pytest.fixture
def t5(tmp_path):
  adapter_example.backbone(tmp_path / "t5", OTHER)
  return tmp_path / "t5"


@pytest.mark.slow
def test_a_chain_of_runs_has_the_sizes_of_its_t5(tmp_path, world, t5):
  """From config.json, then from the run; a run that goes on has its own."""
  (tmp_path / "run.gin").write_text(GIN)

  def options(name, initial):
    gin.clear_config(clear_constants=True)
    t5_sizes._config.cache_clear()
    files = ("adapters/prefix.gin", str(tmp_path / "run.gin"))
    given = [
      f"--gin.mixtures.StoredTasks.cache_dir={world / 'tokens'}",
      f"--gin.INITIAL_CHECKPOINT_PATH={initial}",
      f"--gin.MODEL_DIR={tmp_path / name}",
      "--gin.TRAIN_STEPS=1",
    ]
    return files, given

  files, given = options("one", t5)
  shown = [f"--gin_file={file}" for file in files]
  assert main.main(["train", *shown, *given]) == 0
  info = (tmp_path / "one" / "model-info.txt").read_text()
  wanted = "backbone/encoder/layers/mlp/wi/kernel  float32[1, 8, 16]"
  assert f"frozen   {wanted}" in info
  assert f"trained  {wanted.replace('backbone', 'hypermodel')}" in info

  t5.rename(tmp_path / "elsewhere")
  for name, initial in (("one", t5), ("two", tmp_path / "one")):
    files, given = options(name, initial)
    problem = main.build("train", files, overrides=given)[0].problem
    assert problem.backbone == problem.hypermodel.t5 == OTHER


def _built(initial, *files):
  """The problem of runs/mtf_sni.gin."""
  gin.clear_config(clear_constants=True)
  options = {
    "DATA_DIR": "/data",
    "MODEL_DIR": "/run",
    "INITIAL_CHECKPOINT_PATH": initial,
    "DROPOUT_RATE": 0.1,
  }
  run, _ = main.build(
    "train",
    ["adapters/lora.gin", "runs/mtf_sni.gin", *files],
    overrides=[f"--gin.{name}={value}" for name, value in options.items()],
  )
  return run.problem


def test_dtype_and_the_like_stay_the_runs_own(tmp_path):
  problem = _built(t5_outline.write(tmp_path / "xl", "xl"))
  backbone, own = problem.backbone, problem.hypermodel.t5
  sizes = (backbone.emb_dim, backbone.mlp_dim, backbone.num_heads)
  assert sizes == (2048, 5120, 32)
  assert backbone.param_dtype == backbone.dtype == own.dtype == "bfloat16"
  assert (own.param_dtype, own.remat) == ("float32", "full")
  assert own.dropout_rate == 0.1


def test_a_models_file_given_after_the_run_says_other_sizes(tmp_path):
  """Or the same ones, for runs that were made with such a file."""
  alone = _built(None, "models/t5_1_1_xl.gin")
  assert alone.backbone.emb_dim == 2048
  assert alone == _built(t5_outline.write(tmp_path / "xl", "xl"))
  large = t5_outline.write(tmp_path / "large", "large")
  assert alone == _built(large, "models/t5_1_1_xl.gin")


def test_without_a_t5_the_sizes_are_asked_for(capsys):
  status = main.main(
    [
      "train",
      "--gin_file=adapters/lora.gin",
      "--gin_file=runs/mtf_sni.gin",
      "--gin.DATA_DIR=/data",
      "--gin.MODEL_DIR=/run",
      "--gin.INITIAL_CHECKPOINT_PATH=None",
    ]
  )
  error = capsys.readouterr().err
  assert status == 1 and "give --gin_file=models/t5_1_1_small.gin" in error


def test_an_adapter_folder_has_the_sizes_of_its_t5(tmp_path):
  source = adapter_example.backbone(tmp_path / "t5", OTHER)
  folder = tmp_path / "adapter"
  adapter_folder.write(folder, adapter_example.adapter(source))
  for name in SIZES:
    found = t5_sizes.of_checkpoint(name, str(folder))
    assert found == getattr(OTHER, name), name
