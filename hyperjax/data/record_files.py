"""TFRecord files: their frames, looked at before TensorFlow reads them.

A record is its length (8 bytes, little-endian), a sum of that (4), its content and
a sum of that (4). TensorFlow compares the sums and names a byte; but it asks for
as much memory as a length says, the lack of which ends the process.
"""

import itertools
import mmap
import pathlib
import re
import struct
from collections.abc import Iterator

_HEADER, _SUM = 12, 4


def check(path: pathlib.Path, shown: pathlib.Path | None = None) -> None:
  """Refuses a file whose records do not fill it.

  Args:
    path: of this machine.
    shown: what it is called, where it is a copy.

  Raises:
    ValueError: it cannot be read, or a record ends after it; record and byte
      are named.
  """
  for _ in _starts(path, shown or path):
    pass


def named(path: pathlib.Path, message: str) -> str:
  """What TensorFlow says of a file, with the record for the byte in it."""
  found = re.search(r"\bat (\d+)", message)
  if found is None:
    return message
  # Of a record's content or of its length: its beginning, or a little behind.
  begun = itertools.takewhile(
    lambda start: start <= int(found[1]), _starts(path, path)
  )
  return f"{message} (record {len(list(begun)) - 1})"


def _starts(path: pathlib.Path, shown: pathlib.Path) -> Iterator[int]:
  """The byte at which each record begins."""
  try:
    with path.open("rb") as file:
      if not path.stat().st_size:
        return
      content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
  except OSError as error:
    raise ValueError(f"{shown} cannot be read: {error}") from error
  with content:
    start, number, size = 0, 0, len(content)
    while start < size:
      end = start + _HEADER
      if end <= size:
        end += struct.unpack_from("<Q", content, start)[0] + _SUM
      if end > size:
        raise ValueError(
          f"{shown} is damaged or cut short: record {number}, at byte {start}, "
          f"ends at byte {end}, the file at {size}"
        )
      yield start
      start, number = end, number + 1
