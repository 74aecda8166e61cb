"""Flax's msgpack files, read without their arrays: these are found by place.

msgpack and flax read a whole file into memory. Here arrays become `Inline`,
which says where in the file their bytes lie, so that each can be read alone.
The format is small enough: https://github.com/msgpack/msgpack/blob/master/spec.md.
Nothing in it can run code.
"""

import dataclasses
import io
import math
import struct
from collections.abc import Mapping
from typing import IO, Any

import ml_dtypes
import numpy as np

_DEEPEST = 64  # maps within maps
_LARGEST = 1 << 40  # extent of an array
# Flax's kinds of extensions.
_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3
# How flax marks an array that it wrote in pieces.
_PIECES = "__msgpack_chunked_array__"
# First byte: bytes of the length that follows.
_STRINGS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_BINARY = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_LISTS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}
_EXTENSIONS = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_FIXED_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_NUMBERS = {
  0xCA: ">f",
  0xCB: ">d",
  0xCC: ">B",
  0xCD: ">H",
  0xCE: ">I",
  0xCF: ">Q",
  0xD0: ">b",
  0xD1: ">h",
  0xD2: ">i",
  0xD3: ">q",
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


@dataclasses.dataclass(frozen=True)
class Inline:
  """An array inside a file: in one piece, or in flat pieces one after another."""

  shape: tuple[int, ...]
  dtype: str  # numpy's name
  pieces: tuple[tuple[int, int], ...]  # (offset, bytes)

  def read(self, file: Any) -> np.ndarray:
    """The values; `file` is a buffered reader of the same file.

    Raises:
      ValueError: the file ends before them.
    """
    dtype = np_dtype(self.dtype)
    array = np.empty(math.prod(self.shape), dtype)
    buffer = array.view(np.uint8).data
    start = 0
    for offset, size in self.pieces:
      file.seek(offset)
      if file.readinto(buffer[start : start + size]) != size:
        raise ValueError(f"the file ends within an array at byte {offset}")
      start += size
    return array.reshape(self.shape)


def scan(file: IO[bytes]) -> Any:
  """What a file holds: maps, lists and values, with `Inline` for its arrays.

  Raises:
    ValueError: the file is damaged, or is no msgpack.
  """
  scanner = _Scanner(file)
  try:
    found = scanner.value(0)
  except (struct.error, UnicodeDecodeError, TypeError) as error:
    raise ValueError(f"damaged at byte {file.tell()}: {error}") from error
  if file.tell() != scanner.size:
    raise ValueError(
      f"damaged: the content ends at byte {file.tell()}, the file at "
      f"{scanner.size}"
    )
  return found


def np_dtype(name: str) -> np.dtype:
  """The type of an array by its name in a file.

  Raises:
    ValueError: it is none that weights have.
  """
  if name in ("bfloat16", "V2"):  # old versions of flax wrote the second
    return np.dtype(ml_dtypes.bfloat16)
  if name not in ("float16", "float32", "float64", "int32", "int64", "uint32"):
    raise ValueError(f"unknown type {name!r}")
  return np.dtype(name)


class _Scanner:
  """Reads value after value; jumps over the bytes of arrays."""

  def __init__(self, file: IO[bytes]):
    self._file = file
    self.size = file.seek(0, io.SEEK_END)
    file.seek(0)

  def value(self, depth: int) -> Any:
    if depth > _DEEPEST:
      raise ValueError(f"damaged: nested deeper than {_DEEPEST} levels")
    first = self._take(1)[0]
    if first <= 0x7F:
      return first
    if first <= 0x8F:
      return self._map(first & 0x0F, depth)
    if first <= 0x9F:
      return self._list(first & 0x0F, depth)
    if first <= 0xBF:
      return self._take(first & 0x1F).decode()
    if first >= 0xE0:
      return first - 0x100
    if first in _CONSTANTS:
      return _CONSTANTS[first]
    if first in _NUMBERS:
      code = _NUMBERS[first]
      return struct.unpack(code, self._take(struct.calcsize(code)))[0]
    if first in _STRINGS:
      return self._take(self._length(_STRINGS[first])).decode()
    if first in _BINARY:
      return self._take(self._length(_BINARY[first]))
    if first in _LISTS:
      return self._list(self._length(_LISTS[first]), depth)
    if first in _MAPS:
      return self._map(self._length(_MAPS[first]), depth)
    if first in _EXTENSIONS:
      return self._extension(self._length(_EXTENSIONS[first]), depth)
    if first in _FIXED_EXTENSIONS:
      return self._extension(_FIXED_EXTENSIONS[first], depth)
    raise ValueError(f"damaged: byte {self._file.tell() - 1} begins no value")

  def _take(self, count: int) -> bytes:
    start = self._file.tell()
    if count > self.size - start:
      raise ValueError(
        f"damaged: {count} bytes are needed from byte {start}, the file has "
        f"{self.size}"
      )
    return self._file.read(count)

  def _length(self, count: int) -> int:
    return int.from_bytes(self._take(count), "big")

  def _list(self, count: int, depth: int) -> list[Any]:
    return [self.value(depth + 1) for _ in range(count)]

  def _map(self, count: int, depth: int) -> Any:
    found: dict[str, Any] = {}
    for _ in range(count):
      key = self.value(depth + 1)
      if not isinstance(key, str):
        raise ValueError(f"damaged: a name is needed, got {key!r}")
      if key in found:
        raise ValueError(f"damaged: {key!r} is there twice")
      found[key] = self.value(depth + 1)
    return _joined(found) if _PIECES in found else found

  def _extension(self, size: int, depth: int) -> Any:
    kind = self._take(1)[0]
    start = self._file.tell()
    if kind != _ARRAY:
      if kind not in (_COMPLEX, _SCALAR):
        raise ValueError(f"damaged: an extension {kind} at byte {start}")
      self._take(size)  # no weight is a scalar
      return None
    if self._take(1)[0] != 0x93:
      raise ValueError(f"damaged: no array at byte {start}")
    shape, dtype = self.value(depth + 1), self.value(depth + 1)
    first = self._take(1)[0]
    if first not in _BINARY:
      raise ValueError(f"damaged: no values in the array at byte {start}")
    length = self._length(_BINARY[first])
    offset = self._file.tell()
    if offset + length != start + size or start + size > self.size:
      raise ValueError(f"damaged: the array at byte {start} is cut short")
    self._file.seek(offset + length)
    return _array(shape, dtype, offset, length)


def _array(shape: Any, dtype: Any, offset: int, length: int) -> Inline:
  if isinstance(dtype, bytes):  # as old versions of flax wrote it
    dtype = dtype.decode()
  _check_shape(shape)
  # What is no weight (a step, a random key) may be of any type.
  known = _weight_type(dtype)
  if known and math.prod(shape) * known.itemsize != length:
    raise ValueError(
      f"damaged: an array of {length} bytes at byte {offset} that should be "
      f"{dtype} {tuple(shape)}"
    )
  return Inline(tuple(shape), str(dtype), ((offset, length),))


def _check_shape(shape: Any) -> None:
  """Refuses what is no shape; one of no values says nothing of its extents."""
  if not isinstance(shape, list | tuple) or not all(
    type(size) is int and 0 <= size <= _LARGEST for size in shape
  ):
    raise ValueError(f"damaged: an array of shape {shape!r:.80}")


def _weight_type(name: Any) -> np.dtype | None:
  try:
    return np_dtype(name)
  except ValueError:
    return None


def _joined(found: Mapping[str, Any]) -> Inline:
  """An array that flax wrote in pieces, because it was too large for one."""
  try:
    shape = tuple(found["shape"][str(i)] for i in range(len(found["shape"])))
    pieces = [found["chunks"][str(i)] for i in range(len(found["chunks"]))]
    _check_shape(shape)
    places = tuple(place for piece in pieces for place in piece.pieces)
    dtypes = {piece.dtype for piece in pieces}
    sizes = sum(math.prod(piece.shape) for piece in pieces)
    whole = len(dtypes) == 1 and sizes == math.prod(shape)
  except (KeyError, AttributeError, TypeError) as error:
    raise ValueError(f"damaged: pieces of an array: {error!r}") from error
  if not whole:
    raise ValueError(f"damaged: the pieces of an array are no {shape}")
  return Inline(shape, dtypes.pop(), places)
