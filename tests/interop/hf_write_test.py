"""Hugging Face folders written: the same T5 in them, whole or not there."""

import dataclasses
import json

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from hyperjax.interop import hf, hf_shards, hf_write, weights
from tests import testing
from tests.interop import t5x_files

EXACT = dataclasses.replace(
  testing.CONFIG, mlp_activations=("gelu_exact", "linear")
)
CONFIGS = {
  "1.1": testing.CONFIG,
  "1.0": testing.TIED,
  "gated relu": dataclasses.replace(
    testing.CONFIG, mlp_activations=("relu", "linear")
  ),
  "exact gelu": EXACT,
  "exact gelu, no gate": dataclasses.replace(
    testing.CONFIG, mlp_activations=("gelu_exact",)
  ),
  "tied, not scaled": dataclasses.replace(
    testing.TIED, scale_decoder_output=False
  ),
  "own output, scaled": dataclasses.replace(
    testing.CONFIG, scale_decoder_output=True
  ),
  "other buckets": dataclasses.replace(
    testing.CONFIG,
    relpos_buckets=12,
    relpos_max_distance=50,
    layer_norm_epsilon=1e-5,
  ),
}


def _loaded(source):
  return weights.load(source, source.config)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_written_folder_is_the_same_t5(tmp_path, name):
  source = t5x_files.source_of(CONFIGS[name])
  hf_write.write_folder(tmp_path / "t5", source)
  back = hf.open_folder(tmp_path / "t5")
  scaled = source.config.scale_decoder_output
  if scaled is None:
    scaled = source.config.logits_via_embedding
  assert back.config == dataclasses.replace(
    source.config, scale_decoder_output=scaled
  )
  assert weights.load(back, source.config).identity == _loaded(source).identity


def test_transformers_keys_are_those_of_the_published_t5s(tmp_path):
  wanted = {
    "1.0": ("relu", "relu", False, True, True),
    "1.1": ("gated-gelu", "gelu_new", True, False, False),
  }
  for name, values in wanted.items():
    hf_write.write_folder(tmp_path / name, t5x_files.source_of(CONFIGS[name]))
    facts = json.loads((tmp_path / name / "config.json").read_text())
    keys = (
      "feed_forward_proj",
      "dense_act_fn",
      "is_gated_act",
      "tie_word_embeddings",
      "scale_decoder_outputs",
    )
    assert tuple(facts[key] for key in keys) == values
    assert facts["torch_dtype"] == "float32"
    assert facts["decoder_start_token_id"] == facts["pad_token_id"] == 0
    assert facts["eos_token_id"] == 1


def test_shards_hold_every_array_once_and_are_no_larger_than_asked(tmp_path):
  source = t5x_files.source_of()
  hf_write.write_folder(tmp_path / "t5", source, shard_bytes=4096)
  files = sorted((tmp_path / "t5").glob("*.safetensors"))
  count = len(files)
  assert count > 3
  assert [file.name for file in files] == [
    f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)
  ]
  found = {}
  total = 0
  for file in files:
    arrays = safetensors.numpy.load_file(file)
    size = sum(array.nbytes for array in arrays.values())
    assert size <= 4096 or len(arrays) == 1
    total += size
    found |= dict.fromkeys(arrays, file.name)
  index = json.loads(
    (tmp_path / "t5" / "model.safetensors.index.json").read_text()
  )
  assert index == {"metadata": {"total_size": total}, "weight_map": found}
  assert total == 4 * sum(np.prod(shape) for shape in source.shapes.values())
  assert _loaded(hf.open_folder(tmp_path / "t5")) is not None


def test_one_array_is_in_memory_at_a_time(tmp_path):
  source = t5x_files.source_of()
  alive = []

  class Counted(np.ndarray):
    def __del__(self):
      if self.base is None:
        alive.remove(id(self))

  def read(name):
    assert not alive, f"{name} is read while another array is kept"
    array = np.ndarray.__new__(Counted, source.shapes[name], np.float32)
    alive.append(id(array))
    array[...] = source.read(name)
    return array

  hf_write.write_folder(tmp_path / "t5", dataclasses.replace(source, read=read))
  assert not alive
  back = _loaded(hf.open_folder(tmp_path / "t5"))
  assert back.identity == _loaded(source).identity


def test_another_type_is_a_cast_of_every_array(tmp_path):
  source = t5x_files.source_of()
  hf_write.write_folder(tmp_path / "low", source, "bfloat16")
  arrays = safetensors.numpy.load_file(tmp_path / "low" / "model.safetensors")
  names = hf.array_names(source.config, "shared.weight")
  for name, hf_name in names.items():
    wanted = np.asarray(source.read(name), ml_dtypes.bfloat16)
    wanted = wanted.T if hf.is_transposed(name) else wanted
    assert arrays[hf_name].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(arrays[hf_name], wanted, name)
  facts = json.loads((tmp_path / "low" / "config.json").read_text())
  assert facts["torch_dtype"] == "bfloat16"


def test_a_long_transposed_array_is_written_row_by_row(tmp_path, monkeypatch):
  monkeypatch.setattr("hyperjax.interop.hf_shards._BYTES_AT_ONCE", 100)
  source = t5x_files.source_of()
  hf_write.write_folder(tmp_path / "t5", source)
  back = _loaded(hf.open_folder(tmp_path / "t5"))
  assert back.identity == _loaded(source).identity


def _listing(folder):
  return sorted(file.name for file in folder.iterdir())


def test_an_existing_target_is_left_alone(tmp_path):
  (tmp_path / "t5").mkdir()
  (tmp_path / "t5" / "mine").write_text("kept")
  with pytest.raises(ValueError, match="t5 exists already"):
    hf_write.write_folder(tmp_path / "t5", t5x_files.source_of())
  assert _listing(tmp_path) == ["t5"]
  assert _listing(tmp_path / "t5") == ["mine"]


def test_nothing_is_left_where_reading_fails(tmp_path):
  source = t5x_files.source_of()

  def read(name):
    if name == "decoder/decoder_norm/scale":
      raise ValueError("a broken chunk")
    return source.read(name)

  broken = dataclasses.replace(source, read=read)
  with pytest.raises(ValueError, match="a broken chunk"):
    hf_write.write_folder(tmp_path / "t5", broken)
  assert _listing(tmp_path) == []


def test_a_t5_that_lacks_an_array_is_refused_before_anything_is_written(
  tmp_path,
):
  source = t5x_files.source_of()
  shapes = dict(source.shapes)
  del shapes["encoder/encoder_norm/scale"]
  partial = dataclasses.replace(source, shapes=shapes)
  with pytest.raises(ValueError, match="missing: encoder/encoder_norm/scale"):
    hf_write.write_folder(tmp_path / "t5", partial)
  assert _listing(tmp_path) == []


def test_what_transformers_has_no_word_for_is_refused(tmp_path):
  odd = dataclasses.replace(testing.CONFIG, mlp_activations=("gelu", "relu"))
  with pytest.raises(ValueError, match=r"\('gelu', 'relu'\) are not among"):
    hf_write.write_folder(tmp_path / "t5", t5x_files.source_of(odd))
  with pytest.raises(ValueError, match="dtype must be one of"):
    hf_write.write_folder(tmp_path / "t5", t5x_files.source_of(), "int8")
  assert _listing(tmp_path) == []


def test_eight_mebibytes_of_an_array_are_written_at_once():
  mebibyte = 1 << 20
  wide = np.zeros((5, mebibyte), np.float32)
  assert [len(x) for x in hf_shards._slices(wide)] == [2, 2, 1]
  # A row at the least; what has no rows is one.
  assert [len(x) for x in hf_shards._slices(np.zeros((3, 3 * mebibyte)))] == [
    *(1, 1, 1)
  ]
  assert [x.shape for x in hf_shards._slices(np.zeros(9 * mebibyte))] == [
    (9 * mebibyte,)
  ]
  assert [x.shape for x in hf_shards._slices(np.zeros(()))] == [(1,)]


def test_a_shard_is_as_large_as_is_asked_and_an_array_may_be_larger(tmp_path):
  """Of 24 bytes: two arrays of 12 together, one of 40 alone, one of 4."""
  sizes = {"a": 3, "b": 3, "c": 10, "d": 1}
  with hf_shards.ShardWriter(tmp_path, sizes, 24) as writer:
    for name, size in sizes.items():
      writer.write(name, np.arange(size), np.dtype(np.float32))
    writer.close()
  index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
  assert index["metadata"] == {"total_size": 4 * 17}
  shards = {name: int(file[6:11]) for name, file in index["weight_map"].items()}
  assert shards == {"a": 1, "b": 1, "c": 2, "d": 3}
  for name, file in index["weight_map"].items():
    found = safetensors.numpy.load_file(tmp_path / file)[name]
    assert found.tolist() == list(range(sizes[name]))
  assert sorted(x.name for x in tmp_path.iterdir()) == [
    *(f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)),
    "model.safetensors.index.json",
  ]
  with safetensors.safe_open(
    tmp_path / "model-00001-of-00003.safetensors", "np"
  ) as file:
    assert file.metadata() == {"format": "pt"}


def test_a_type_that_safetensors_does_not_have_is_refused(tmp_path):
  with (
    hf_shards.ShardWriter(tmp_path, ["a"], 24) as writer,
    pytest.raises(ValueError, match="a is of int64; weights are written as"),
  ):
    writer.write("a", np.zeros(3), np.dtype(np.int64))
  for dtype in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16):
    with hf_shards.ShardWriter(tmp_path, ["a"], 24) as writer:
      writer.write("a", np.array([1.5]), np.dtype(dtype))
      writer.close()
    found = safetensors.numpy.load_file(tmp_path / "model.safetensors")["a"]
    assert (found.dtype, found.tolist()) == (dtype, [1.5])


def test_a_shard_that_is_left_is_closed(tmp_path):
  with (
    pytest.raises(RuntimeError),
    hf_shards.ShardWriter(tmp_path, ["a"], 24) as writer,
  ):
    writer.write("a", np.zeros(3), np.dtype(np.float32))
    raise RuntimeError
  assert writer._file.closed


def test_a_weight_that_is_no_number_is_not_written(tmp_path):
  params = jax.tree.map(np.array, testing.t5_params(testing.CONFIG))
  params["encoder"]["layers"]["mlp"]["wo"]["kernel"][1, 2, 3] = np.inf
  source = weights.from_params("/t5", testing.CONFIG, params)
  with pytest.raises(
    ValueError, match="parameter encoder/layers_1/mlp/wo/kern"
  ):
    hf_write.write_folder(tmp_path / "out", source, "float32")
  assert not (tmp_path / "out").exists()
