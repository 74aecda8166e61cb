"""Hugging Face folders with flax's msgpack: the same T5 as with safetensors."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax import serialization, traverse_util

from hyperjax.interop import hf, hf_write, weights
from tests import conftest, testing
from tests.interop import t5x_files


def _flax(arrays):
  """Arrays of safetensors as transformers' FlaxT5 lays them out."""
  found = {}
  for name, array in arrays.items():
    *stem, _ = name.split(".")
    if stem[-1] in ("shared", "relative_attention_bias"):
      found["/".join([*stem, "embedding"])] = array
    elif stem[-1].endswith("layer_norm"):
      found["/".join([*stem, "weight"])] = array
    else:
      found["/".join([*stem, "kernel"])] = np.ascontiguousarray(array.T)
  return found


def _save(file, flat):
  tree = traverse_util.unflatten_dict(flat, sep="/")
  file.write_bytes(serialization.msgpack_serialize(tree))


def _folder(folder, config=testing.CONFIG, dtype=np.float32):
  """A folder of flax's, and its arrays as they are in it."""
  hf_write.write_folder(folder, t5x_files.source_of(config, dtype=dtype))
  single = folder / "model.safetensors"
  flat = _flax(safetensors.numpy.load_file(single))
  single.unlink()
  _save(folder / "flax_model.msgpack", flat)
  return flat


def _identity(folder):
  return weights.identity(hf.open_folder(folder))


@pytest.mark.parametrize("name", ["t5_1_0", "t5_1_1"])
def test_a_real_t5_is_the_same_in_flax_format(tmp_path, name):
  saved = conftest.MODELS / "hf_tiny" / name
  (tmp_path / "config.json").write_text((saved / "config.json").read_text())
  flat = _flax(safetensors.numpy.load_file(saved / "model.safetensors"))
  assert "encoder/block/0/layer/0/SelfAttention/q/kernel" in flat
  assert "decoder/block/1/layer/2/layer_norm/weight" in flat
  _save(tmp_path / "flax_model.msgpack", flat)
  assert hf.open_folder(tmp_path).config == hf.open_folder(saved).config
  assert _identity(tmp_path) == _identity(saved)


@pytest.mark.parametrize("config", [testing.CONFIG, testing.TIED])
@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_unequal_shapes_and_types_read_back(tmp_path, config, dtype):
  _folder(tmp_path / "t5", config, dtype)
  wanted = t5x_files.source_of(config, dtype=dtype)
  found = hf.open_folder(tmp_path / "t5")
  for name, shape in wanted.shapes.items():
    assert found.shapes[name] == shape
  assert weights.identity(found) == weights.identity(wanted)


def _shard(folder, flat):
  (folder / "flax_model.msgpack").unlink()
  names = sorted(flat)
  where = {}
  for i, own in enumerate((names[::2], names[1::2]), 1):
    file = f"flax_model-0000{i}-of-00002.msgpack"
    _save(folder / file, {name: flat[name] for name in own})
    where |= dict.fromkeys(own, file)
  index = folder / "flax_model.msgpack.index.json"
  index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
  return index


def test_shards_read_as_the_single_file_does(tmp_path):
  flat = _folder(tmp_path / "t5")
  single = _identity(tmp_path / "t5")
  index = _shard(tmp_path / "t5", flat)
  assert _identity(tmp_path / "t5") == single
  facts = json.loads(index.read_text())
  facts["weight_map"]["shared/embedding"] = "../flax_model.msgpack"
  index.write_text(json.dumps(facts))
  with pytest.raises(ValueError, match="not a file of this folder"):
    hf.open_folder(tmp_path / "t5")


def test_a_shard_that_is_not_as_the_index_says_is_refused(tmp_path):
  flat = _folder(tmp_path / "t5")
  index = _shard(tmp_path / "t5", flat)
  facts = json.loads(index.read_text())
  names = sorted(flat)
  facts["weight_map"][names[0]] = facts["weight_map"][names[1]]
  index.write_text(json.dumps(facts))
  with pytest.raises(ValueError, match=r"lacks .*, which flax_model"):
    hf.open_folder(tmp_path / "t5")
  (tmp_path / "t5" / "flax_model-00002-of-00002.msgpack").unlink()
  with pytest.raises(ValueError, match=r"00002-of-00002.msgpack is missing"):
    hf.open_folder(tmp_path / "t5")


def test_safetensors_go_before_flax(tmp_path):
  _folder(tmp_path / "a")
  hf_write.write_folder(tmp_path / "b", t5x_files.source_of(seed=1))
  wanted = _identity(tmp_path / "b")
  both = tmp_path / "b" / "flax_model.msgpack"
  both.write_bytes((tmp_path / "a" / "flax_model.msgpack").read_bytes())
  assert _identity(tmp_path / "b") == wanted


def test_a_damaged_file_is_named(tmp_path):
  _folder(tmp_path / "t5")
  file = tmp_path / "t5" / "flax_model.msgpack"
  content = file.read_bytes()
  file.write_bytes(content[:-1])
  with pytest.raises(ValueError, match=r"flax_model.msgpack: damaged"):
    hf.open_folder(tmp_path / "t5")
  file.write_bytes(serialization.msgpack_serialize({"shared": {"x": 3}}))
  with pytest.raises(ValueError, match="'shared/x' must be an array, got 3"):
    hf.open_folder(tmp_path / "t5")


def test_an_output_layer_that_differs_in_shape_or_type_is_no_copy(tmp_path):
  """As of equal ones it is a copy, and of one that differs in a value not."""
  flat = _folder(tmp_path / "t5", testing.TIED)
  embedding = flat["shared/embedding"]
  for copy, is_tied in (
    (embedding, True),
    (embedding[:-1], False),
    (embedding.astype(np.float64), False),
    (
      embedding * (np.arange(embedding.size).reshape(embedding.shape) > 0),
      False,
    ),
  ):
    given = {**flat, "lm_head/kernel": np.ascontiguousarray(copy.T)}
    _save(tmp_path / "t5" / "flax_model.msgpack", given)
    found = hf.open_folder(tmp_path / "t5")
    assert found.config.logits_via_embedding == is_tied
    if not is_tied:
      assert found.shapes["decoder/logits_dense/kernel"] == copy.T.shape


def test_an_unknown_array_is_named_as_it_is(tmp_path):
  flat = _folder(tmp_path / "t5")
  given = {**flat, "encoder/extra/bias": np.zeros(3, np.float32)}
  _save(tmp_path / "t5" / "flax_model.msgpack", given)
  found = hf.open_folder(tmp_path / "t5")
  with pytest.raises(ValueError, match=r"extra: encoder\.extra\.bias"):
    weights.load(found, found.config)


def test_an_array_in_two_shards_is_refused(tmp_path):
  flat = _folder(tmp_path / "t5")
  _shard(tmp_path / "t5", flat)
  _save(tmp_path / "t5" / "flax_model-00001-of-00002.msgpack", flat)
  with pytest.raises(
    ValueError, match=r"00002-of-.* and so does another shard"
  ):
    hf.open_folder(tmp_path / "t5")


def test_a_type_that_no_weights_have_is_named(tmp_path):
  flat = _folder(tmp_path / "t5")
  given = {**flat, "shared/embedding": np.zeros((40, 12), np.uint8)}
  _save(tmp_path / "t5" / "flax_model.msgpack", given)
  with pytest.raises(
    ValueError, match=r"model\.msgpack: shared/embedding: unknown type 'uint8'"
  ):
    hf.open_folder(tmp_path / "t5")
