"""Flax's msgpack files, arrays by place."""

import io
import struct

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
  "numbers": [0, 127, 128, 70_000, 2**40, -1, -32, -33, -40_000, -(2**40), 1.5],
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


@pytest.mark.parametrize(
  "content, value",
  [
    (b"\xca" + struct.pack(">f", 1.5), 1.5),
    (b"\xcb" + struct.pack(">d", 1e-300), 1e-300),
    (b"\xcc\xff", 255),
    (b"\xcd\xff\xfe", 65534),
    (b"\xce\xff\xff\xff\xfe", 2**32 - 2),
    (b"\xcf" + b"\xff" * 7 + b"\xfe", 2**64 - 2),
    (b"\xd0\x80", -128),
    (b"\xd1\x80\x01", -(2**15) + 1),
    (b"\xd2\x80\x00\x00\x01", -(2**31) + 1),
    (b"\xd3\x80" + bytes(6) + b"\x01", -(2**63) + 1),
    (b"\xe0", -32),
    (b"\xff", -1),
    (b"\x7f", 127),
    (b"\xc0", None),
    (b"\xc2", False),
    (b"\xc3", True),
    (b"\xc4\x01a", b"a"),
    (b"\xc5\x00\x01a", b"a"),
    (b"\xc6\x00\x00\x00\x01a", b"a"),
    (b"\xd9\x01a", "a"),
    (b"\xda\x00\x01a", "a"),
    (b"\xdb\x00\x00\x00\x01a", "a"),
    (b"\xbf" + b"a" * 31, "a" * 31),
    (b"\x9f" + b"\x07" * 15, [7] * 15),
    (b"\xdc\x00\x02\x07\x08", [7, 8]),
    (b"\xdd\x00\x00\x00\x02\x07\x08", [7, 8]),
    (b"\x8f" + b"".join(b"\xa1%c\x01" % (97 + i) for i in range(15)), None),
    (b"\xde\x00\x01\xa1a\x07", {"a": 7}),
    (b"\xdf\x00\x00\x00\x01\xa1a\x07", {"a": 7}),
    # Scalars and complex numbers are passed over.
    *((bytes([0xD4 + i, 3]) + bytes(2**i), None) for i in range(5)),
    (b"\xc7\x03\x02abc", None),
    (b"\xc8\x00\x03\x02abc", None),
    (b"\xc9\x00\x00\x00\x03\x02abc", None),
  ],
)
def test_every_kind_of_value_is_read_as_the_format_says(content, value):
  """By the format's table of first bytes; what follows is read on from there."""
  if content[0] == 0x8F:
    value = {chr(97 + i): 1 for i in range(15)}
  found = msgpack_file.scan(io.BytesIO(b"\x92" + content + b"\x05"))
  assert found == [value, 5] and type(found[0]) is type(value)


def test_values_are_nested_as_deep_as_is_said():
  found = msgpack_file.scan(io.BytesIO(b"\x91" * 64 + b"\x05"))
  for _ in range(64):
    [found] = found
  assert found == 5
  with pytest.raises(ValueError, match="deeper than 64 levels"):
    msgpack_file.scan(io.BytesIO(b"\x91" * 65 + b"\x05"))


def test_an_array_without_values_may_be_as_long_as_any():
  found = msgpack_file.scan(io.BytesIO(_array([2**40, 0], "float32", b"")))
  assert found["a"].shape == (2**40, 0)
  with pytest.raises(ValueError, match="an array of shape"):
    msgpack_file.scan(io.BytesIO(_array([2**40 + 1, 0], "float32", b"")))


@pytest.mark.parametrize("kind", ["bfloat16", "V2", b"V2"])
def test_the_two_names_of_bfloat16_are_read(kind):
  content = np.asarray([1.5, -2], ml_dtypes.bfloat16).tobytes()
  file = io.BytesIO(_array([2], kind, content))
  found = msgpack_file.scan(file)["a"].read(file)
  assert found.dtype == ml_dtypes.bfloat16 and found.tolist() == [1.5, -2]
