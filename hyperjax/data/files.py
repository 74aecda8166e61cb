"""Reading the JSON files of data sets; errors name file and line."""

import glob
import gzip
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any


def read_json(path: pathlib.Path) -> Any:
  """A whole file of JSON.

  Raises:
    ValueError: it cannot be read, or is not JSON.
  """
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except OSError as error:
    raise ValueError(f"{path} cannot be read: {error}") from error
  except ValueError as error:
    raise ValueError(f"{path} is not JSON: {error}") from error


def read_json_lines(path: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
  """Objects of a .jsonl, .json or .json.gz file with line numbers from 1.

  Raises:
    ValueError: a line is not a JSON object, or the file is cut short.
  """
  opener = gzip.open if path.suffix == ".gz" else open
  try:
    with opener(path, "rt", encoding="utf-8") as lines:
      for number, line in enumerate(lines, 1):
        if line.strip():
          yield number, _object(path, number, line)
  except (OSError, EOFError, UnicodeDecodeError) as error:
    raise ValueError(f"{path} cannot be read: {error}") from error


def field(value: Mapping[str, Any], name: str, where: str) -> Any:
  """A field that must be there.

  Raises:
    ValueError: it is not.
  """
  if name not in value:
    raise ValueError(f"{where} has no {name!r}, only {', '.join(value)}")
  return value[name]


def listed(
  folder: pathlib.Path, pattern: str, setting: str
) -> list[pathlib.Path]:
  """Files of a folder by pattern, sorted.

  Raises:
    ValueError: the folder is missing, or no file matches.
  """
  require_folder(folder, setting)
  found = sorted(map(pathlib.Path, glob.glob(str(folder / pattern))))
  if not found:
    raise ValueError(f"{setting}: no file in {folder} matches {pattern!r}")
  return found


def require_folder(folder: pathlib.Path, setting: str) -> None:
  """Refuses a data folder that is not there, naming the setting to change."""
  if not folder.is_dir():
    raise ValueError(f"{setting}: there is no folder {folder}")


def stamp(path: pathlib.Path) -> list[Any]:
  """Name, size and time of change: what made stored tokens out of a file."""
  try:
    status = os.stat(path)
  except OSError as error:
    raise ValueError(f"{path} cannot be read: {error}") from error
  return [path.name, status.st_size, status.st_mtime_ns]


def _object(path: pathlib.Path, number: int, line: str) -> dict[str, Any]:
  try:
    value = json.loads(line)
  except ValueError as error:
    raise ValueError(f"{path}, line {number}: not JSON: {error}") from error
  if not isinstance(value, dict):
    raise ValueError(
      f"{path}, line {number}: a JSON object is needed, got {line[:40]!r}"
    )
  return value
