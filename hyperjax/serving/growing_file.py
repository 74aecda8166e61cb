"""A file of JSON lines that grows, and goes on after a kill.

Beside FILE lies FILE.settings.json: what its lines are made with. A file is
continued only with the same settings; a last line that was cut is made again.

An object in a bucket does not grow: there it is replaced by a longer one every minute
and at the end.
"""

import json
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax import paths, trees
from hyperjax.data import files

PERIOD = 60.0  # seconds after which an object is replaced


class GrowingFile:
  """Lines that are added some at a time; each addition reaches the file."""

  def __init__(
    self,
    path: pathlib.Path,
    settings: Mapping[str, Any],
    overwrite: bool = False,
  ):
    """Looks at what is there; `begin` is the first to change anything.

    Args:
      path: of the file; its folder must be there.
      settings: all that decides its lines, as JSON.
      overwrite: begin anew, whatever is there.

    Raises:
      ValueError: a file is there that was made with other settings, or with
        none that are known.
    """
    if not paths.is_bucket(path):
      files.require_folder(path.absolute().parent, f"--out {path}")
    self._path, self._settings = path, json.loads(json.dumps(settings))
    self._beside = path.with_name(f"{path.name}.settings.json")
    self.lines: list[bytes] = []  # the whole ones that are there
    self._content: list[bytes] = []  # of an object, all lines
    self._flushed = time.monotonic()
    if path.exists() and not overwrite:
      _check_same(path, self._beside, self._settings)
      self.lines = path.read_bytes().split(b"\n")[:-1]

  def begin(self, count: int) -> None:
    """Leaves the first `count` of `lines` in the file, and nothing else."""
    if not count:
      # First: a file must never lie beside settings that it is not made with.
      self._path.unlink(missing_ok=True)
    files.write_json(self._beside, self._settings)
    if paths.is_bucket(self._path):
      self._content = [line + b"\n" for line in self.lines[:count]]
      self.flush()
      return
    with open(self._path, "ab") as file:
      file.truncate(sum(len(line) + 1 for line in self.lines[:count]))

  def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
    """Appends rows as JSON, whole as far as a reader can see."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    if paths.is_bucket(self._path):
      self._content += [line.encode() for line in lines]
      if time.monotonic() - self._flushed > PERIOD:
        self.flush()
      return
    with open(self._path, "ab") as file:
      file.write("".join(lines).encode())

  def flush(self) -> None:
    """Brings all lines into the bucket, where the file lies in one."""
    if paths.is_bucket(self._path):
      paths.replace(self._path, b"".join(self._content))
      self._flushed = time.monotonic()


def opened(
  path: pathlib.Path, settings: Mapping[str, Any], overwrite: bool
) -> "GrowingFile | Printed":
  """As `GrowingFile`; "-" is standard output."""
  if path == pathlib.Path("-"):
    return Printed()
  return GrowingFile(path, settings, overwrite)


class Printed:
  """The same on standard output, where nothing is continued."""

  def __init__(self):
    self.lines: list[bytes] = []

  def begin(self, count: int) -> None:
    assert count == 0  # there were none

  def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows as JSON, so that a reader gets them at once."""
    for row in rows:
      print(json.dumps(row, ensure_ascii=False))
    self.flush()

  def flush(self) -> None:
    sys.stdout.flush()


def _check_same(
  path: pathlib.Path, beside: pathlib.Path, settings: Mapping[str, Any]
) -> None:
  if not beside.is_file():
    raise ValueError(
      f"{path} exists, and no {beside.name} says what it was made with; "
      "--overwrite begins anew"
    )
  before = files.read_json(beside)
  wrong = [
    f"{name} was {before.get(name)!r:.80}, is now {settings.get(name)!r:.80}"
    for name in sorted(before.keys() | settings.keys())
    if before.get(name) != settings.get(name)
  ]
  if wrong:
    raise ValueError(
      f"{path} was made with other settings; --overwrite begins anew:"
      f"{trees.listing(wrong)}"
    )
