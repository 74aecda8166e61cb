"""Data files: JSON read with errors that name file and line, whole writes."""

import contextlib
import functools
import glob
import gzip
import json
import os
import pathlib
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hyperjax import paths
from hyperjax.data import json_text

_OPEN_FILES = 1 << 16
_LONGEST_LINE = 1 << 26  # bytes, unpacked


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """A whole file that is one JSON object.

  Raises:
    ValueError: it cannot be read, or is no JSON object.
  """
  return json_text.parsed(str(path), _content(path))


def read_json_list(path: pathlib.Path) -> list[Any]:
  """A whole file that is one JSON list.

  Raises:
    ValueError: it cannot be read, or is no JSON list.
  """
  return json_text.parsed(str(path), _content(path), list)


def read_json_lines(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
  """Objects of a .jsonl, .json or .json.gz file with line numbers from 1.

  Raises:
    ValueError: a line is not a JSON object, or longer than 64 MiB, or the file
      is cut short.
  """
  number = 0
  try:
    with path.open("rb") as file, _unpacked(path, file) as lines:
      # A packed file of any size may be one line: no more of it is unpacked.
      while line := lines.readline(_LONGEST_LINE + 1):
        number += 1
        where = f"{path}, line {number}"
        if len(line) > _LONGEST_LINE:
          raise ValueError(f"{where} is longer than {_LONGEST_LINE:,} bytes")
        if line.strip():
          yield number, json_text.parsed(where, line)
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(
      f"{path} cannot be read after line {number}: {error}"
    ) from error


def _unpacked(path: pathlib.Path, file: Any) -> Any:
  return gzip.open(file) if path.suffix == ".gz" else file


def read_lines(path: pathlib.Path) -> list[str]:
  """Lines of a text file, without their ends.

  Raises:
    ValueError: it cannot be read, or is not UTF-8.
  """
  text = json_text.decoded(str(path), _content(path)).removesuffix("\n")
  return [line.removesuffix("\r") for line in text.split("\n")]


def field(value: Any, name: str, where: str) -> Any:
  """A field of an object that must be there.

  Raises:
    ValueError: it is not.
  """
  if not isinstance(value, Mapping):
    raise ValueError(
      f"{where}: a JSON object is needed, got {str(value)[:40]!r}"
    )
  if name not in value:
    raise ValueError(f"{where} has no {name!r}, only {_listed(value)}")
  return value[name]


def whole_field(
  value: Any, name: str, where: str, least: int = 0, most: int = 2**63 - 1
) -> int:
  """A field that must be there and be a whole number from `least` to `most`.

  Raises:
    ValueError: it is not.
  """
  found = field(value, name, where)
  if type(found) is not int or not least <= found <= most:
    raise ValueError(
      f"{where}: {name!r} must be a whole number from {least} to {most}, got "
      f"{json_text.shown(found)}"
    )
  return found


def list_field(value: Any, name: str, where: str) -> list[Any]:
  """A field that must be there and be a list.

  Raises:
    ValueError: it is not.
  """
  found = field(value, name, where)
  if not isinstance(found, list):
    raise ValueError(
      f"{where}: {name!r} must be a list, got {json_text.shown(found)}"
    )
  return found


def is_file(path: pathlib.Path) -> bool:
  """Whether there is such a file; a name that no file can have is of none."""
  return path.is_file() if paths.is_bucket(path) else os.path.isfile(path)


def is_folder(path: pathlib.Path) -> bool:
  """Whether there is such a folder; as `is_file`."""
  return path.is_dir() if paths.is_bucket(path) else os.path.isdir(path)


def listed(
  folder: pathlib.Path, pattern: str, setting: str
) -> list[pathlib.Path]:
  """Files of a folder by pattern, sorted.

  Raises:
    ValueError: the folder is missing, or no file matches.
  """
  require_folder(folder, setting)
  if paths.is_bucket(folder):
    found = sorted(folder.glob(pattern))
  else:
    found = sorted(map(pathlib.Path, glob.glob(str(folder / pattern))))
  if not found:
    raise ValueError(f"{setting}: no file in {folder} matches {pattern!r}")
  return found


def require_folder(folder: pathlib.Path, setting: str) -> None:
  """Refuses a data folder that is not there, naming the setting to change."""
  if not folder.is_dir():
    raise ValueError(f"{setting}: there is no folder {folder}")


@contextlib.contextmanager
def whole_folder(
  folder: pathlib.Path,
  check: Callable[[pathlib.Path], None],
  last: str | None = None,
) -> Iterator[pathlib.Path]:
  """Yields where to make a folder that becomes `folder` once it is whole.

  Nothing is there yet. It lies in a hidden folder beside `folder`, which has
  room for what is needed meanwhile and is removed at the end; where an exception
  comes nothing is left, nor any parent that was made. A process killed between
  the last two renames leaves what was replaced under its hidden name.

  What is to be in a bucket is made in a temporary folder of this machine, and then
  copied there.

  Args:
    folder: where; parents that lack are made.
    check: raises where `folder` is something not to be lost; it is asked at the
      beginning, and again at the end, since another may have come meanwhile.
    last: the file by which the folder is known for what it is: in a bucket it is
      written after all others, so that no half of them is taken for the whole.
  """
  check(folder)
  if paths.is_bucket(folder):
    with tempfile.TemporaryDirectory(prefix="hyperjax-") as hidden:
      made = pathlib.Path(hidden) / folder.name
      yield made
      check(folder)
      paths.sent(made, folder, last)
    return
  target = folder.absolute()
  above = [parent for parent in target.parents if not parent.exists()]
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
      ".partial", f".{target.name}.", target.parent, ignore_cleanup_errors=True
    ) as hidden:
      made = pathlib.Path(hidden) / target.name
      yield made
      check(folder)
      _take_place(made, target, pathlib.Path(hidden).with_suffix(".replaced"))
  except BaseException:
    with contextlib.suppress(OSError):  # another's files may be there by now
      for parent in above:
        parent.rmdir()
    raise


def _take_place(
  made: pathlib.Path, target: pathlib.Path, replaced: pathlib.Path
) -> None:
  """Renames `made` to `target`; what is there returns where that fails."""
  if target.exists():
    target.rename(replaced)
  try:
    made.rename(target)
  except OSError:
    if replaced.exists():
      replaced.rename(target)
    raise
  shutil.rmtree(replaced, ignore_errors=True)


@functools.cache
def allow_many_open() -> None:
  """Raises this process's limit of open files as far as it may.

  Each memory-mapped file counts as open, and stores have hundreds of tasks or
  parts of several files, where the usual limit is 1,024.
  """
  try:
    import resource
  except ImportError:
    return  # Windows has no such limit
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else hard
  if soft != resource.RLIM_INFINITY and soft < wanted:
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes JSON whole, for people to read too."""
  paths.replace(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_arrays(
  path: pathlib.Path,
  arrays: Mapping[str, Any],
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes numpy arrays as safetensors.

  safetensors' own `save_file` makes files that their owner alone can read.
  """
  from safetensors import numpy as safetensors  # a cost of files alone

  about = None if metadata is None else dict(metadata)
  path.write_bytes(safetensors.save(dict(arrays), about))


def stamp(path: pathlib.Path) -> list[Any]:
  """Name, size and time of change: what made stored tokens out of a file.

  Raises:
    ValueError: it is not there.
  """
  try:
    status = path.stat()
  except OSError as error:
    raise ValueError(f"{path} cannot be read: {error}") from error
  return [path.name, status.st_size, status.st_mtime_ns]


def stamps(found: Sequence[pathlib.Path]) -> list[list[Any]]:
  """The `stamp` of each; of files in a bucket its folder is listed once.

  Raises:
    ValueError: one is not there.
  """
  if not any(map(paths.is_bucket, found)):
    return [stamp(path) for path in found]
  parents = {path.parent for path in found}
  entries = {parent: paths.listing(parent) for parent in parents}
  listed = []
  for path in found:
    entry = entries[path.parent].get(path.name)
    if entry is None:
      raise ValueError(f"{path} cannot be read: it is gone")
    listed.append([path.name, entry.size, int(entry.modified * 1e9)])
  return listed


def text_field(value: Any, name: str, where: str) -> str:
  """A field that must be there and be text.

  Raises:
    ValueError: it is not, or holds half of a surrogate pair, which no
      tokenizer takes.
  """
  text = field(value, name, where)
  check_text(text, f"{where}: {name!r}")
  return text


def text_list(
  value: Any,
  name: str,
  where: str,
  at_least: int = 0,
  takes_text: bool = False,
) -> list[str]:
  """A field that must be a list of texts; with `takes_text` also one of them.

  Raises:
    ValueError: it is not, or too short.
  """
  texts = field(value, name, where)
  if takes_text and isinstance(texts, str):
    texts = [texts]
  if not isinstance(texts, list) or len(texts) < at_least:
    needed = f"a list of {'at least one string' if at_least else 'strings'}"
    if takes_text:
      needed = "a string or a list of them"
    raise ValueError(
      f"{where}: {name!r} must be {needed}, got {json_text.shown(texts)}"
    )
  for text in texts:
    check_text(text, f"{where}: {name!r}")
  return texts


def check_text(text: Any, where: str) -> None:
  """Refuses what is no string, or none that can be encoded."""
  if not isinstance(text, str):
    raise ValueError(f"{where} must be a string, got {json_text.shown(text)}")
  try:
    text.encode()
  except UnicodeEncodeError as error:
    raise ValueError(f"{where} is not valid Unicode: {error}") from error


def _content(path: pathlib.Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise ValueError(f"{path} cannot be read: {error}") from error


def _listed(value: Mapping[str, Any]) -> str:
  return json_text.cut(", ".join(value))
