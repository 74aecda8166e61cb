"""Headers of zarr arrays that speak of more than their chunks hold."""

import json

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
