"""Which format a folder is in; what is in none is refused with a reason."""

import logging
import shutil

import pytest

from hyperjax.interop import formats, hf_write, weights
from tests.interop import t5x_files


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  """The T5 of seed 0 in t5x's format and that of seed 1 in Hugging Face's."""
  folder = tmp_path_factory.mktemp("models")
  t5x_files.write_legacy(folder / "t5x/checkpoint_4", t5x_files.arrays_of())
  hf_write.write_folder(folder / "hf", t5x_files.source_of(seed=1))
  return folder


def test_each_format_is_recognised(models):
  for name, seed in (("t5x", 0), ("t5x/checkpoint_4", 0), ("hf", 1)):
    wanted = weights.identity(t5x_files.source_of(seed=seed))
    source = formats.open_source(models / name)
    assert weights.identity(source) == wanted, name


def test_hugging_face_goes_before_t5x(models, tmp_path, caplog):
  both = tmp_path / "both"
  shutil.copytree(models / "hf", both)
  shutil.copytree(models / "t5x", both, dirs_exist_ok=True)
  with caplog.at_level(logging.WARNING):
    source = formats.open_source(both)
  wanted = weights.identity(t5x_files.source_of(seed=1))
  assert weights.identity(source) == wanted
  assert "config.json of a Hugging Face folder and a checkpoint of t5x" in (
    caplog.text
  )


def test_what_only_a_t5x_checkpoint_leaves_open_is_given_to_it_alone(models):
  given = {"relpos_max_distance": 64}
  config = formats.open_source(models / "t5x", **given).config
  assert config.relpos_max_distance == 64
  with pytest.raises(ValueError, match=r"has a config.json that tells"):
    formats.open_source(models / "hf", **given)


@pytest.mark.parametrize(
  "file, message",
  [
    ("", "holds no T5: neither config.json"),
    ("pytorch_model.bin", "pytorch_model.bin, a pickle, which is never read"),
    ("weights.pkl", "weights.pkl, a pickle, which is never read"),
    ("model.pt", "model.pt, a pickle, which is never read"),
    ("tf_model.h5", "tf_model.h5, weights of TensorFlow"),
    ("model.ckpt-1000.index", "weights of TensorFlow"),
    ("model.safetensors", "no config.json beside model.safetensors"),
  ],
)
def test_a_folder_in_no_format_is_refused_with_the_reason(
  tmp_path, file, message
):
  if file:
    (tmp_path / file).write_bytes(b"\x80\x04.")
  with pytest.raises(ValueError, match=message):
    formats.open_source(tmp_path)


@pytest.mark.parametrize("file", ["pytorch_model.bin", "tf_model.h5"])
def test_a_config_does_not_make_other_weights_readable(models, tmp_path, file):
  shutil.copy(models / "hf" / "config.json", tmp_path)
  (tmp_path / file).write_bytes(b"\x80\x04.")
  with pytest.raises(ValueError, match=f"{file}, (a pickle|weights of Tens)"):
    formats.open_source(tmp_path)


def test_weights_are_named_before_what_a_trainer_left_beside_them(
  models, tmp_path
):
  shutil.copy(models / "hf" / "config.json", tmp_path)
  for name in ("optimizer.pt", "pytorch_model.bin", "rng_state.pth"):
    (tmp_path / name).write_bytes(b"\x80\x04.")
  with pytest.raises(ValueError, match=r"pytorch_model\.bin, a pickle"):
    formats.open_source(tmp_path)


@pytest.mark.parametrize(
  "file", ["generation_config.json", "model.safetensors.index.json"]
)
def test_each_file_that_was_not_fetched_is_known(models, tmp_path, file):
  shutil.copytree(models / "hf", tmp_path / "t5")
  if "index" in file:
    (tmp_path / "t5" / "model.safetensors").unlink()
  (tmp_path / "t5" / file).write_text(
    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n"
  )
  with pytest.raises(ValueError, match="is a pointer of Git LFS"):
    formats.open_source(tmp_path / "t5")


def test_files_and_places_that_are_not_there_are_named(models, tmp_path):
  with pytest.raises(ValueError, match=r"is a file; a folder is needed"):
    formats.open_source(models / "hf" / "model.safetensors")
  with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
    formats.open_source(tmp_path / "nowhere")
  (tmp_path / "checkpoint_3").mkdir()
  with pytest.raises(ValueError, match="checkpoint_3 is not whole"):
    formats.open_source(tmp_path)


def test_other_formats_are_not_read_from_buckets(models):
  with pytest.raises(ValueError, match="copy the folder here"):
    formats.open_source(f"file://{models}/hf")
  with pytest.raises(ValueError, match="unsupported URL scheme"):
    formats.open_source("nothing://bucket/t5")


def test_a_path_may_go_up_and_folders_may_have_a_checkpoints_name(
  models, monkeypatch
):
  (models / "hf" / "checkpoint").mkdir()
  monkeypatch.chdir(models / "hf")
  for path, seed in (("../t5x", 0), ("../hf", 1)):
    wanted = weights.identity(t5x_files.source_of(seed=seed))
    assert weights.identity(formats.open_source(path)) == wanted
