"""Flax's msgpack files, arrays by place."""

import io

import ml_dtypes
import msgpack
import numpy as np
import pytest
from flax import serialization

from hyperjax.interop import msgpack_file

ARRAYS = {
  "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
  "low": np.arange(5).astype(ml_dtypes.bfloat16),
  "half": np.ones((1, 2, 3), np.float16),
  "none": np.zeros((0, 4), np.float32),
  "scalar": np.array(7.0, np.float32),
  "long": np.arange(70_000, dtype=np.int32),
}
VALUES = {
  "numbers": [0, 127, 128, 70_000, 2**40, -1, -33, -40_000, -(2**40), 1.5],
  "texts": ["", "a" * 31, "ü" * 40, "b" * 300, "c" * 70_000],
  "constants": [None, True, False],
  "bytes": [b"", b"x" * 300, b"y" * 70_000],
  "map": {str(i): i for i in range(20)},
  "long map": {str(i): i for i in range(70_000)},
  "long list": list(range(70_000)),
}


def _read(found, file):
  if isinstance(found, dict):
    return {name: _read(value, file) for name, value in found.items()}
  return found.read(file) if isinstance(found, msgpack_file.Inline) else found


def test_what_flax_writes_is_read(tmp_path):
  path = tmp_path / "tree"
  path.write_bytes(serialization.msgpack_serialize({"a": ARRAYS, "b": VALUES}))
  with path.open("rb") as file:
    found = _read(msgpack_file.scan(file), file)
  assert found["b"] == VALUES
  assert found["a"].keys() == ARRAYS.keys()
  for name, array in ARRAYS.items():
    assert found["a"][name].dtype == array.dtype
    np.testing.assert_array_equal(found["a"][name], array)


def test_an_array_in_pieces_is_put_together(monkeypatch):
  monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 64)
  array = np.arange(77, dtype=np.float32).reshape(7, 11)
  file = io.BytesIO(serialization.msgpack_serialize({"a": array}))
  found = msgpack_file.scan(file)["a"]
  assert len(found.pieces) == 5
  np.testing.assert_array_equal(found.read(file), array)


def test_a_number_is_no_weight_and_passed_over():
  tree = {"step": np.float32(3), "complex": 1j, "key": np.zeros(2, np.uint8)}
  file = io.BytesIO(serialization.msgpack_serialize(tree))
  found = msgpack_file.scan(file)
  assert found["step"] is found["complex"] is None
  assert found["key"].dtype == "uint8"


class _Watched(io.BytesIO):
  read_bytes = 0

  def read(self, size=-1, /):
    found = super().read(size)
    self.read_bytes += len(found)
    return found


def test_scanning_jumps_over_the_values_of_arrays():
  tree = {"a": np.zeros(1_000_000, np.float32)}
  file = _Watched(serialization.msgpack_serialize(tree))
  msgpack_file.scan(file)
  assert file.read_bytes < 100


@pytest.mark.parametrize(
  "content, message",
  [
    (b"", "1 bytes are needed from byte 0"),
    (b"\xc1", "begins no value"),
    (b"\x81\xa1", "1 bytes are needed"),
    (b"\x81\x01\x02", "a name is needed, got 1"),
    (b"\x82\xa1a\x01\xa1a\x02", "'a' is there twice"),
    (b"\x80\x00", "the content ends at byte 1, the file at 2"),
    (b"\xa2\xff\xff", "can't decode"),
    (b"\x81\xa1a" * 80 + b"\x00", "nested deeper than 64"),
    (b"\xd4\x09\x00", "an extension 9"),
    (b"\xdf\xff\xff\xff\xff", "1 bytes are needed"),
    (b"\xdb\xff\xff\xff\xff", "4294967295 bytes are needed"),
  ],
)
def test_damage_is_named(content, message):
  with pytest.raises(ValueError, match=message):
    msgpack_file.scan(io.BytesIO(content))


def _array(shape, dtype, values):
  payload = msgpack.packb((shape, dtype, values))
  return msgpack.packb({"a": msgpack.ExtType(1, payload)})


@pytest.mark.parametrize(
  "content, message",
  [
    (_array([2], "float32", b"1234"), "4 bytes .* should be float32"),
    (_array([-1], "float32", b"1234"), r"an array of shape \[-1\]"),
    (_array(["2"], "float32", b"12345678"), "an array of shape"),
    (_array([1], "float32", "1234"), "no values in the array"),
    (msgpack.packb({"a": msgpack.ExtType(1, b"\x01\x02")}), "no array at"),
  ],
)
def test_an_array_that_is_none_is_named(content, message):
  with pytest.raises(ValueError, match=message):
    msgpack_file.scan(io.BytesIO(content))


def test_an_object_array_is_never_made():
  found = msgpack_file.scan(io.BytesIO(_array([1], "object", b"12345678")))
  with pytest.raises(ValueError, match="unknown type 'object'"):
    found["a"].read(io.BytesIO(b"12345678"))


def test_arrays_within_arrays_end_somewhere():
  inner = b"\xc9" + (2**24).to_bytes(4, "big") + b"\x01\x93"
  with pytest.raises(ValueError, match="nested deeper than 64 levels"):
    msgpack_file.scan(io.BytesIO(inner * 5000))


@pytest.mark.parametrize("size", [-1, 2**41, "2", None])
def test_pieces_of_what_has_no_extents_are_refused(size):
  piece = np.zeros(0, np.float32)
  tree = {
    "__msgpack_chunked_array__": True,
    "shape": {"0": size, "1": 0},
    "chunks": {"0": piece},
  }
  content = serialization.msgpack_serialize({"a": tree})
  with pytest.raises(ValueError, match="damaged: an array of shape"):
    msgpack_file.scan(io.BytesIO(content))
