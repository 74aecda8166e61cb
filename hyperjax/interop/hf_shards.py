"""Safetensors files written array by array, split in shards with an index.

A file of the format is the length of a header, the header (JSON: type, shape
and place of every array) and the arrays. The library's writer takes all arrays
of a file at once; here the room for the header is kept free and filled in
last, so that no more than one array is ever in memory.
"""

import json
import pathlib
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import numpy as np

from hyperjax.interop import hf_arrays

# Numpy's name of a type: safetensors'.
TYPES = {
  "float64": "F64",
  "float32": "F32",
  "float16": "F16",
  "bfloat16": "BF16",
}
_BYTES_AT_ONCE = 2**23
# Of one array in a header: besides its name, type, shape and two places.
_ENTRY_BYTES = 160


class ShardWriter:
  """Writes arrays into shards of a folder, which is worthless until `close`."""

  def __init__(
    self, folder: pathlib.Path, names: Iterable[str], shard_bytes: int
  ):
    """`names` are all that may be written.

    A shard is no larger than `shard_bytes`, unless it is a single array.
    """
    self._folder = folder
    self._room = 64 + sum(len(name) + _ENTRY_BYTES for name in names)
    self._shard_bytes = shard_bytes
    self._shards: list[dict[str, Any]] = []  # a header for each
    self._file: Any = None

  def __enter__(self) -> "ShardWriter":
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: TracebackType | None,
  ) -> None:
    if self._file is not None:
      self._file.close()

  def write(self, name: str, array: np.ndarray, dtype: np.dtype) -> None:
    """Appends an array, cast to `dtype`.

    Raises:
      ValueError: safetensors has no such type.
    """
    if dtype.name not in TYPES:
      raise ValueError(
        f"{name} is of {dtype.name}; weights are written as one of "
        f"{', '.join(TYPES)}"
      )
    start, size = self._place(array.size * dtype.itemsize)
    # Slices of rows, since a transposed array or a cast takes a copy.
    for rows in _slices(array):
      self._file.write(np.ascontiguousarray(rows, dtype).view(np.uint8).data)
    self._shards[-1][name] = {
      "dtype": TYPES[dtype.name],
      "shape": list(array.shape),
      "data_offsets": [start, start + size],
    }

  def close(self) -> None:
    """Completes the last shard and gives the files their names."""
    self._end_shard()
    count = len(self._shards)
    if count == 1:
      self._partial(1).rename(self._folder / hf_arrays.SINGLE)
      return
    where = {}
    for i, shard in enumerate(self._shards, 1):
      file = f"model-{i:05}-of-{count:05}.safetensors"
      self._partial(i).rename(self._folder / file)
      where |= dict.fromkeys(shard, file)
    entries = [entry for shard in self._shards for entry in shard.values()]
    total = sum(np.subtract(*entry["data_offsets"][::-1]) for entry in entries)
    index = {
      "metadata": {"total_size": int(total)},
      "weight_map": dict(sorted(where.items())),
    }
    text = json.dumps(index, indent=2) + "\n"
    (self._folder / hf_arrays.INDEX).write_text(text)

  def _place(self, size: int) -> tuple[int, int]:
    """Where the next array goes in the open shard; begins one where needed."""
    start = 0
    if self._file is not None:
      start = self._file.tell() - 8 - self._room
    if self._file is None or (start and start + size > self._shard_bytes):
      self._end_shard()
      self._shards.append({})
      self._file = self._partial(len(self._shards)).open("wb")
      self._file.seek(8 + self._room)
      start = 0
    return start, size

  def _end_shard(self) -> None:
    if self._file is None:
      return
    # What transformers asks for before it reads a file.
    header = {"__metadata__": {"format": "pt"}} | self._shards[-1]
    text = json.dumps(header, separators=(",", ":")).encode()
    assert len(text) <= self._room
    self._file.seek(0)
    # The format allows spaces after the header.
    self._file.write(self._room.to_bytes(8, "little") + text.ljust(self._room))
    self._file.close()
    self._file = None

  def _partial(self, number: int) -> pathlib.Path:
    return self._folder / f".shard-{number}"


def _slices(array: np.ndarray) -> Iterable[np.ndarray]:
  if array.ndim < 2:
    return [array.reshape(-1)]
  row_bytes = max(1, array[:1].nbytes)
  rows = max(1, _BYTES_AT_ONCE // row_bytes)
  return (array[i : i + rows] for i in range(0, len(array), rows))
