"""Whether the chunks of zarr arrays are there, and as long as they must be.

By itself TensorStore takes a missing chunk for zeros, and a gzip chunk without its
end for whole; and it asks for as much memory as an array's header speaks of, the
lack of which ends the process.
"""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

_TRAILER = slice(-4, None)  # of a gzip file: how long it is unpacked
# To how many times its length something can be packed.
_RATIOS = {None: 1, "gzip": 1100, "zlib": 1100}
_RATIO = 1 << 16  # of any other way
_LARGE = 1 << 27  # bytes of a chunk that must be there in proportion
_LARGEST = 1 << 50  # of any
_MANY = 1 << 12  # chunks of an array; if it has more, names are counted first


@dataclasses.dataclass(frozen=True)
class _Layout:
  """Which chunks an array has."""

  counts: tuple[int, ...]  # of chunks along each axis
  size: int  # bytes of a chunk, unpacked
  packing: str | None  # the name of what packs it, of zarr 2
  key: Callable[[tuple[int, ...]], str]  # the file of a chunk

  @property
  def count(self) -> int:
    return math.prod(self.counts)


@contextlib.contextmanager
def explained(where: str) -> Iterator[None]:
  """Turns TensorStore's errors into one line that says what is concerned."""
  try:
    yield
  except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
    text = str(error).partition(" [")[0]  # what follows is for its developers
    raise ValueError(f"{where}: {text}") from error


def check(arrays: Iterable[tuple[str, Any, str]]) -> None:
  """Refuses arrays whose chunks cannot hold what their headers speak of.

  What is asked of chunks is asked of all of them at once.

  Args:
    arrays: path for messages, `tensorstore.TensorStore`, driver.

  Raises:
    ValueError: a chunk of zarr 2 is missing or cut short, a large one of either
      is too short, or there are fewer chunks than the array has.
  """
  asked = []
  for where, handle, driver in arrays:
    with explained(where):
      layout = _layout(handle, driver)
    _check_extents(where, handle, layout)
    for places in itertools.product(*map(range, layout.counts)):
      key = layout.key(places)
      asked += [
        (f"{where}: chunk {key}", handle.kvstore.read(key, byte_range=own), end)
        for own, end in _looks(layout, driver)
      ]
  for where, read, end in asked:
    with explained(where):
      found = read.result()
    if found.state != "value":
      raise ValueError(f"{where} is missing")
    if end is not None and found.value != end:
      raise ValueError(f"{where} is cut short, or of another size")


def _looks(
  layout: _Layout, driver: str
) -> Iterator[tuple[slice, bytes | None]]:
  """The bytes to be looked at in each chunk, and what they must be if known."""
  if driver == "zarr" and layout.packing == "gzip":
    yield _TRAILER, (layout.size % 2**32).to_bytes(4, "little")
  elif driver == "zarr":
    yield slice(0, 0), b""
  if layout.size > _LARGE:
    packing = layout.packing if driver == "zarr" else "any"
    last = layout.size // _RATIOS.get(packing, _RATIO)
    yield slice(last - 1, last), None


def _check_extents(where: str, handle: Any, layout: _Layout) -> None:
  if layout.size > _LARGEST:
    raise ValueError(
      f"{where}: its header speaks of {layout.size} bytes a chunk"
    )
  if layout.count > _MANY:
    with explained(where):
      found = len(handle.kvstore.list().result())
    if layout.count > found:
      raise ValueError(
        f"{where}: its header speaks of {layout.count} chunks, there are "
        f"{found} files"
      )


def _layout(handle: Any, driver: str) -> _Layout:
  chunk = handle.chunk_layout.write_chunk.shape
  counts = tuple(
    math.ceil(size / own) for size, own in zip(handle.shape, chunk, strict=True)
  )
  size = math.prod(chunk) * handle.dtype.numpy_dtype.itemsize
  metadata = handle.spec().to_json()["metadata"]
  packing = (metadata.get("compressor") or {}).get("id")
  return _Layout(counts, size, packing, _key(metadata, driver))


def _key(
  metadata: Mapping[str, Any], driver: str
) -> Callable[[tuple[int, ...]], str]:
  if driver == "zarr":
    separator = metadata.get("dimension_separator", ".")
    return lambda places: separator.join(map(str, places)) or "0"
  encoding = metadata["chunk_key_encoding"]
  start = ["c"] if encoding["name"] == "default" else []
  separator = encoding.get("configuration", {}).get("separator", "/")
  return lambda places: separator.join([*start, *map(str, places)]) or "0"
