"""What is kept for updates: read as written, or refused by file."""

import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors

from hyperjax.artifacts import adapter_folder, encoded_examples
from tests.artifacts import adapter_folder_test

FILE = "encoded.safetensors"


def _kept(dtype=np.float32, seed=0):
  values = np.random.default_rng(seed).normal(size=(5, 4)).astype(dtype)
  adapter = adapter_folder_test._adapter(seed=seed)
  return dataclasses.replace(
    adapter, encoded=encoded_examples.Encoded(values, num_rows=2)
  )


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=str)
def test_it_is_read_as_it_was_computed_and_only_if_asked_for(tmp_path, dtype):
  adapter = _kept(dtype)
  adapter.save(tmp_path / "a")
  assert adapter_folder.read(tmp_path / "a").encoded is None
  found = adapter_folder.read(tmp_path / "a", with_encoded=True)
  assert found.identity == adapter.identity
  assert found.encoded.num_rows == 2
  assert found.encoded.values.dtype == dtype
  np.testing.assert_array_equal(found.encoded.values, adapter.encoded.values)


def test_it_is_written_only_where_it_is_kept_and_always_the_same(tmp_path):
  for name in ("a", "b"):
    _kept().save(tmp_path / name)
  one, other = [(tmp_path / name / FILE).read_bytes() for name in ("a", "b")]
  assert one == other
  plain = dataclasses.replace(_kept(), encoded=None)
  plain.save(tmp_path / "a", overwrite=True)
  assert not (tmp_path / "a" / FILE).exists()
  assert adapter_folder.read(tmp_path / "a", with_encoded=True).encoded is None


def test_nothing_is_left_of_a_write_that_fails(tmp_path):
  adapter = _kept()
  adapter.save(tmp_path / "a")
  before = (tmp_path / "a" / FILE).read_bytes()
  bad = dataclasses.replace(adapter.info, origin={"not JSON": {1, 2}})
  for folder in ("a", "b"):
    with pytest.raises(TypeError):
      dataclasses.replace(_kept(seed=1), info=bad).save(tmp_path / folder, True)
  assert [path.name for path in tmp_path.iterdir()] == ["a"]
  assert (tmp_path / "a" / FILE).read_bytes() == before


def _cut(path):
  path.write_bytes(path.read_bytes()[:-5])


def _empty(path):
  path.write_bytes(b"")


def _flip(path):
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(bytes(content))


def _other_file(path):
  safetensors.save_file({"x": np.zeros(2, np.float32)}, path)


def _lacking(path):
  about = {"about": json.dumps({"adapter": "ab"})}
  safetensors.save_file({"encoded": np.zeros((1, 2), np.float32)}, path, about)


def _of_another(path):
  folder = path.parent.with_name("other")
  _kept(seed=1).save(folder)
  (folder / FILE).rename(path)


@pytest.mark.parametrize(
  "damage, message",
  [
    (_cut, "is not a whole safetensors file"),
    (_empty, "is not a whole safetensors file"),
    (_flip, "is damaged: its values hash to something else"),
    (_other_file, "holds no encoder's output"),
    (_lacking, "has no 'rows', only adapter"),
    (_of_another, "is of the adapter [0-9a-f]{16}, the one beside it is"),
  ],
)
def test_a_damaged_file_is_refused_by_name_and_the_adapter_stays_good(
  tmp_path, damage, message
):
  _kept().save(tmp_path / "a")
  damage(tmp_path / "a" / FILE)
  with pytest.raises(ValueError, match=message) as it:
    adapter_folder.read(tmp_path / "a", with_encoded=True)
  assert str(tmp_path / "a" / FILE) in str(it.value)
  assert adapter_folder.read(tmp_path / "a").identity == _kept().identity
