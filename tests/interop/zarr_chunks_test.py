"""Headers of zarr arrays that speak of more than their chunks hold."""

import json
import shutil

import numpy as np
import pytest

from hyperjax.interop import zarr_folders
from tests.interop import t5x_files

ARRAY = np.arange(12, dtype=np.float32).reshape(4, 3)


def _zarr3(folder, shape, chunks):
  codec = {"name": "bytes", "configuration": {"endian": "little"}}
  grid = {"name": "regular", "configuration": {"chunk_shape": chunks}}
  keys = {"name": "default", "configuration": {"separator": "/"}}
  metadata = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": shape,
    "data_type": "float32",
    "chunk_grid": grid,
    "chunk_key_encoding": keys,
    "fill_value": 0,
    "codecs": [codec],
  }
  (folder / "a" / "c" / "0").mkdir(parents=True)
  (folder / "a" / "zarr.json").write_text(json.dumps(metadata))
  (folder / "a" / "c" / "0" / "0").write_bytes(ARRAY.tobytes())


def _zarr2(folder, shape, chunks, compressor=None):
  store = zarr_folders.open_store(folder)._kvstore
  t5x_files.write_zarr(store / "a/", ARRAY)
  path = folder / "a" / ".zarray"
  changed = {"shape": shape, "chunks": chunks}
  if compressor is None:
    changed["compressor"] = None
    (folder / "a" / "0.0").write_bytes(ARRAY.tobytes())
  path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def _read(folder):
  return zarr_folders.open_store(folder).zarr(["a"])["a"].read()


@pytest.mark.parametrize("write", [_zarr2, _zarr3])
def test_an_array_that_is_as_its_header_says_is_read(tmp_path, write):
  write(tmp_path, [4, 3], [4, 3])
  np.testing.assert_array_equal(_read(tmp_path), ARRAY)


@pytest.mark.parametrize("write", [_zarr2, _zarr3])
@pytest.mark.parametrize(
  "shape, chunks, message",
  [
    (
      [2**40, 2**10],
      [2**40, 2**10],
      "a: its header speaks of 4503599627370496 bytes a chunk",
    ),
    ([2**40, 3], [4, 3], r"a: its header speaks of 274877906944 chunks, there"),
    ([2**28, 3], [2**28, 3], r"a: chunk .*0: OUT_OF_RANGE"),
  ],
)
def test_a_header_that_speaks_of_too_much_is_not_believed(
  tmp_path, write, shape, chunks, message
):
  write(tmp_path, shape, chunks)
  with pytest.raises(ValueError, match=message):
    _read(tmp_path)


def _sparse(folder, bytes_there, bytes_said, driver="zarr", packing=None):
  """An array of one chunk, of so many bytes by its header and its file."""
  shape = [bytes_said // 4, 1]
  if driver == "zarr3":
    _zarr3(folder, shape, shape)
    chunk = folder / "a" / "c" / "0" / "0"
  else:
    _zarr2(folder, shape, shape, packing)
    chunk = folder / "a" / "0.0"
  if packing:
    path = folder / "a" / ".zarray"
    facts = json.loads(path.read_text())
    facts["compressor"] = {"id": packing, "level": 1}
    path.write_text(json.dumps(facts))
  with chunk.open("wb") as file:
    file.truncate(bytes_there - 4)
    file.seek(0, 2)
    # As a gzip file ends.
    file.write((bytes_said % 2**32).to_bytes(4, "little"))
  return zarr_folders.open_store(folder)


LARGE = 1 << 28


@pytest.mark.parametrize(
  "driver, packing, least",
  [
    ("zarr", None, LARGE),
    ("zarr", "gzip", LARGE // 1100),
    ("zarr", "zlib", LARGE // 1100),
    ("zarr", "bz2", LARGE >> 16),
    ("zarr3", None, LARGE >> 16),
  ],
)
def test_a_large_chunk_is_as_long_as_it_can_be_packed_to(
  tmp_path, driver, packing, least
):
  """Opened and not read: what is in it is none of these."""
  _sparse(tmp_path, least, LARGE, driver, packing).zarr(["a"])
  shutil.rmtree(tmp_path / "a")
  short = _sparse(tmp_path, least - 1, LARGE, driver, packing)
  with pytest.raises(ValueError, match=r"a: chunk .*: OUT_OF_RANGE"):
    short.zarr(["a"])
  shutil.rmtree(tmp_path / "a")
  # What is not large is seen when it is read.
  _sparse(tmp_path, 100, 1 << 27, driver, packing).zarr(["a"])


def test_the_largest_chunk_and_the_most_that_are_not_counted(tmp_path):
  with pytest.raises(ValueError, match="OUT_OF_RANGE"):
    _sparse(tmp_path, 100, 1 << 50).zarr(["a"])
  shutil.rmtree(tmp_path / "a")
  with pytest.raises(ValueError, match="speaks of 1125899906842628 bytes a"):
    _sparse(tmp_path, 100, (1 << 50) + 4).zarr(["a"])
  for count, message in (
    (4096, r"a: chunk 1\.0 is missing"),
    (4097, "a: its header speaks of 4097 chunks, there are 2 files"),
  ):
    shutil.rmtree(tmp_path / "a")
    _zarr2(tmp_path, [4 * count, 3], [4, 3])
    with pytest.raises(ValueError, match=message):
      _read(tmp_path)


def test_chunks_of_zarr_3_are_found_by_either_encoding_of_their_keys(tmp_path):
  _zarr3(tmp_path, [4, 3], [4, 3])
  path = tmp_path / "a" / "zarr.json"
  facts = json.loads(path.read_text())
  content = (tmp_path / "a" / "c" / "0" / "0").read_bytes()
  shutil.rmtree(tmp_path / "a" / "c")
  for encoding, name in (
    ({"name": "default", "configuration": {"separator": "."}}, "c.0.0"),
    ({"name": "v2", "configuration": {"separator": "."}}, "0.0"),
  ):
    path.write_text(json.dumps(facts | {"chunk_key_encoding": encoding}))
    with pytest.raises(ValueError, match="missing"):
      _read(tmp_path)
    (tmp_path / "a" / name).write_bytes(content)
    np.testing.assert_array_equal(_read(tmp_path), ARRAY)
