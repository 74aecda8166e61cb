"""`hyperjax import`: the same T5 in the folder, checked, or nothing there."""

import importlib.util
import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorstore

from hyperjax import main
from hyperjax.interop import hf, hf_write, logits, weights
from tests import conftest, testing
from tests.interop import t5x_files

VOCABULARY = conftest.ROOT / "tasks" / "records.model"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  folder = tmp_path_factory.mktemp("t5x")
  t5x_files.write_legacy(folder / "checkpoint_4", t5x_files.arrays_of())
  return folder


def _run(source, target, *options):
  return main.main(
    ["import", "--from", str(source), "--to", str(target), *options]
  )


@pytest.fixture
def without_transformers(monkeypatch):
  monkeypatch.setattr(logits, "has_transformers", lambda: False)


@pytest.mark.parametrize("layout", ["legacy", "orbax"])
def test_a_real_t5x_checkpoint_becomes_a_folder_of_the_same_t5(
  tmp_path, capsys, layout, without_transformers
):
  folder = conftest.MODELS / "t5x_tiny"
  assert _run(folder / f"t5_tiny_{layout}", tmp_path / "t5", "--check") == 0
  printed = capsys.readouterr().out
  assert "a T5 of 57,856 parameters, 2+2 layers, 2 heads of 16" in printed
  assert "logits of the source: largest difference 0\n" in printed
  target = hf.open_folder(tmp_path / "t5")
  assert f"identity: {weights.identity(target)}" in printed
  wanted = np.load(folder / "t5_tiny_params.npz")
  for name in wanted.files:
    np.testing.assert_array_equal(target.read(name), wanted[name], name)


@pytest.mark.parametrize("name", ["t5_1_0", "t5_1_1"])
def test_a_hugging_face_folder_becomes_one_of_the_same_t5(tmp_path, name):
  saved = conftest.MODELS / "hf_tiny" / name
  assert _run(saved, tmp_path / "t5") == 0
  before, after = hf.open_folder(saved), hf.open_folder(tmp_path / "t5")
  assert after.config == before.config
  assert weights.identity(after) == weights.identity(before)


@pytest.mark.slow
def test_a_run_that_trained_a_t5_becomes_a_folder(tmp_path, world):
  assert _run(world / "backbone", tmp_path / "t5") == 0
  run = json.loads((tmp_path / "t5" / "config.json").read_text())
  assert run["model_type"] == "t5"
  source = hf.open_folder(tmp_path / "t5")
  assert weights.load(source, source.config).identity


def test_what_the_checkpoint_leaves_open_is_in_the_config(tmp_path, checkpoint):
  options = ("--relpos_max_distance=64", "--mlp_activations=silu,linear")
  assert _run(checkpoint, tmp_path / "t5", *options) == 0
  config = hf.open_folder(tmp_path / "t5").config
  assert config.relpos_max_distance == 64
  assert config.mlp_activations == ("silu", "linear")


def test_a_cast_is_of_another_identity_and_says_how_far_it_is(
  tmp_path, checkpoint, capsys, without_transformers
):
  options = ("--dtype=bfloat16", "--check")
  assert _run(checkpoint, tmp_path / "t5", *options) == 0
  printed = capsys.readouterr().out
  assert "identity" not in printed
  apart = float(printed.partition("largest difference ")[2].split()[0])
  assert 0 < apart < 30
  found = hf.open_folder(tmp_path / "t5").read("token_embedder/embedding")
  assert found.dtype.name == "bfloat16"


def test_a_check_that_fails_exits_with_an_error(
  tmp_path, checkpoint, capsys, monkeypatch, without_transformers
):
  """As if the writer had lost the order of two arrays."""
  written = hf_write.write_folder

  def wrong(folder, source, *rest, **options):
    swap = {"query": "key", "key": "query"}

    def read(name):
      *stem, part, last = name.split("/")
      return source.read("/".join([*stem, swap.get(part, part), last]))

    other = weights.T5Source("swapped", source.config, source.shapes, read)
    written(folder, other, *rest, **options)

  monkeypatch.setattr(hf_write, "write_folder", wrong)
  assert _run(checkpoint, tmp_path / "t5", "--check") == 1
  error = capsys.readouterr().err
  assert "is not its source: the source's identity is" in error
  assert "logits of the source differ by" in error


def test_the_vocabulary_beside_the_source_comes_along(tmp_path, capsys):
  config = testing.CONFIG
  large = type(config)(**{**vars(config), "vocab_size": 400})
  arrays = t5x_files.arrays_of(large)
  t5x_files.write_legacy(tmp_path / "t5x" / "checkpoint_4", arrays)
  source = tmp_path / "t5x" / "checkpoint_4"
  assert _run(source, tmp_path / "without") == 0
  assert "without a tokenizer" in capsys.readouterr().out
  shutil.copy(VOCABULARY, tmp_path / "t5x" / "spiece.model")
  for name, given in (("of the step", source), ("of all", source.parent)):
    assert _run(given, tmp_path / name) == 0
    copied = tmp_path / name / "spiece.model"
    assert copied.read_bytes() == VOCABULARY.read_bytes()
  assert "without a tok" not in capsys.readouterr().out


def test_another_models_vocabulary_is_refused(tmp_path, checkpoint, capsys):
  option = f"--vocabulary={VOCABULARY}"
  assert _run(checkpoint, tmp_path / "t5", option) == 1
  error = capsys.readouterr().err
  assert "ids with its extra ones" in error and "only 40" in error
  assert not list(tmp_path.iterdir())


def _damage(folder, kind):
  array = folder / "target.decoder.layers_2.mlp.wo.kernel"
  chunk = array / "0.0"
  if kind == "cut":
    chunk.write_bytes(chunk.read_bytes()[:-20])
  if kind == "flipped":
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 8
    chunk.write_bytes(content)
  if kind == "no chunk":
    chunk.unlink()
  if kind == "no array":
    shutil.rmtree(array)
  if kind == "no file":
    (folder / "checkpoint").unlink()
  if kind == "cut file":
    file = folder / "checkpoint"
    file.write_bytes(file.read_bytes()[:-1])
  if kind == "other shape":
    shutil.rmtree(array)
    store = tensorstore.KvStore.open(f"file://{array}/").result()
    t5x_files.write_zarr(store, np.ones((20, 13), np.float32))


@pytest.mark.parametrize(
  "kind",
  [
    "cut",
    "flipped",
    "no chunk",
    "no array",
    "no file",
    "cut file",
    "other shape",
  ],
)
def test_a_broken_checkpoint_leaves_one_message_and_nothing_else(
  tmp_path, checkpoint, capsys, kind
):
  shutil.copytree(checkpoint, tmp_path / "t5x")
  _damage(tmp_path / "t5x" / "checkpoint_4", kind)
  assert _run(tmp_path / "t5x", tmp_path / "new" / "out" / "t5") == 1
  error = capsys.readouterr().err
  assert error.startswith("hyperjax import: ")
  assert "checkpoint_4" in error and "Traceback" not in error
  assert [file.name for file in tmp_path.iterdir()] == ["t5x"]


def test_a_target_that_exists_is_left_alone(tmp_path, checkpoint, capsys):
  (tmp_path / "t5").mkdir()
  assert _run(checkpoint, tmp_path / "t5") == 1
  assert "exists already" in capsys.readouterr().err
  assert not list((tmp_path / "t5").iterdir())


def test_unknown_places_and_options_are_refused(tmp_path, checkpoint, capsys):
  assert _run(tmp_path / "nowhere", tmp_path / "t5") == 1
  assert "there is no folder" in capsys.readouterr().err
  assert _run(checkpoint, tmp_path / "t5", "--gin.X=1") == 1
  assert "unknown option --gin.X=1" in capsys.readouterr().err


LAYOUTS = {
  "1.1": testing.CONFIG,
  "1.0": testing.TIED,
  "tied, not scaled": type(testing.TIED)(
    **{**vars(testing.TIED), "scale_decoder_output": False}
  ),
}


@pytest.mark.slow
@pytest.mark.skipif(
  not all(map(importlib.util.find_spec, ("torch", "transformers"))),
  reason="torch and transformers are not installed",
)
@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_transformers_computes_the_same_logits(tmp_path, name, dtype):
  source = t5x_files.source_of(LAYOUTS[name])
  target = tmp_path / "t5"
  hf_write.write_folder(target, source, dtype, shard_bytes=5000)
  ours = logits.of_source(hf.open_folder(target))
  largest, is_near = logits.difference(logits.of_transformers(target), ours)
  assert is_near, largest
  assert pathlib.Path(target, "model.safetensors.index.json").is_file()
