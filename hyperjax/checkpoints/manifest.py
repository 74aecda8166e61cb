"""A manifest names every file of a checkpoint, with its size and its SHA-256.

It is written last, before the checkpoint gets its name, and read first: whatever
opens arrays takes its files for whole, and a damaged header may end the process.
Checkpoints of earlier versions have none and are taken as they are.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable
from typing import Any

FILE, FORMAT = "manifest.json", 1
# Orbax notes in it when the checkpoint got its name; nothing is read from it that
# it could not do without.
_LATER = "_CHECKPOINT_METADATA"
_BLOCK = 1 << 22  # bytes that a thread reads at once
_THREADS = 8  # hashing leaves Python's lock to others
_DIGITS = 64
_LARGEST = 1 << 26  # bytes of a manifest, which names some thousand files


class Damaged(ValueError):  # noqa: N818 - a state of files
  """A checkpoint's files are not those that were written."""


def write(folder: pathlib.Path) -> None:
  """Writes the manifest of all files that are in a folder now."""
  names = sorted(_names(folder))
  digests = _digests(folder, names)
  listed = {
    name: [(folder / name).stat().st_size, digests[name]] for name in names
  }
  content = json.dumps({"format": FORMAT, "files": listed}, indent=1)
  with open(folder / FILE, "w") as file:
    file.write(content + "\n")
    file.flush()
    os.fsync(file.fileno())


def check(
  folder: pathlib.Path, is_promised: bool, index: int = 0, count: int = 1
) -> None:
  """Refuses a checkpoint whose files are others than were written.

  Args:
    folder: of the checkpoint.
    is_promised: whether it was written with a manifest.
    index: which part of the files is read, where several processes share them.
    count: of parts.

  Raises:
    Damaged: names the files, and what is wrong with each.
  """
  if not (folder / FILE).exists():
    if is_promised:
      raise Damaged(f"{folder} is damaged: it has lost its {FILE}")
    return
  files = read(folder / FILE)
  own = sorted(files)[index::count]
  wrong, same_size = [], []
  for name in own:
    try:
      size = (folder / name).stat().st_size
    except OSError:
      wrong.append(f"{name} is gone")
      continue
    if size == files[name][0]:
      same_size.append(name)
    else:
      wrong.append(f"{name} has {size:,} bytes instead of {files[name][0]:,}")
  found = _digests(folder, same_size)
  wrong += [
    f"{name} holds other bytes than were written"
    for name in same_size
    if found[name] != files[name][1]
  ]
  if wrong:
    more = f", and {len(wrong) - 3} more files" if len(wrong) > 3 else ""
    raise Damaged(f"{folder} is damaged: {', '.join(wrong[:3])}{more}")


def read(path: pathlib.Path) -> dict[str, tuple[int, str]]:
  """Size in bytes and SHA-256 of each file, by its path in the checkpoint.

  Raises:
    Damaged: it is no manifest.
  """
  try:
    if path.stat().st_size > _LARGEST:
      raise ValueError(f"it has more than {_LARGEST:,} bytes")
    content = json.loads(path.read_bytes())
    if content["format"] != FORMAT:
      raise ValueError(f"format must be {FORMAT}")
    return {name: _entry(name, x) for name, x in content["files"].items()}
  except (
    *(OSError, ValueError, KeyError, TypeError, AttributeError),
    RecursionError,
  ) as error:
    raise Damaged(
      f"{path.parent} is damaged: {path.name} is no list of its files: "
      f"{error!s:.80}"
    ) from error


def _entry(name: str, value: Any) -> tuple[int, str]:
  size, digest = value
  parts = pathlib.PurePosixPath(name).parts
  if (
    not parts
    or ".." in parts
    or parts[0] == "/"
    or "\0" in name
    or type(size) is not int
    or not isinstance(digest, str)
    or len(digest) != _DIGITS
  ):
    raise ValueError(f"{name!r:.40} must be a file, with its size and hash")
  return size, digest


def _names(folder: pathlib.Path) -> Iterable[str]:
  for path in folder.rglob("*"):
    name = path.relative_to(folder).as_posix()
    if path.is_file() and name not in (FILE, _LATER):
      yield name


def _digests(folder: pathlib.Path, names: list[str]) -> dict[str, str]:
  """SHA-256 of each file; "" of one that cannot be read to its end."""
  if not names:
    return {}
  threads = max(1, min(_THREADS, os.cpu_count() or 1))
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    found = pool.map(lambda name: _digest(folder / name), names)
    return dict(zip(names, found, strict=True))


def _digest(path: pathlib.Path) -> str:
  digest, block = hashlib.sha256(), bytearray(_BLOCK)
  view = memoryview(block)
  try:
    with open(path, "rb", buffering=0) as file:
      while size := file.readinto(block):
        digest.update(view[:size])
  except OSError:
    return ""
  return digest.hexdigest()
