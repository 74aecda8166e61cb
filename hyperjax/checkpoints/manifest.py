"""A manifest names every file of a checkpoint, with its size and its hash.

It is written last, before the checkpoint gets its name, and read first: whatever
opens arrays takes its files for whole, and a damaged header may end the process.
Checkpoints of earlier versions have none and are taken as they are.

Hashes are SHA-256. Of an object in a bucket it is the MD5 that its store says with
its name, so that neither writing nor checking reads arrays again; a checkpoint that
is copied between bucket and disk is checked by what its manifest has.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from hyperjax import paths

FILE, FORMAT = "manifest.json", 1
# Of a checkpoint in a bucket, which has its name from the beginning, orbax writes this
# file last, once all of it is there.
COMMITTED = "commit_success.txt"
# Orbax also notes when the checkpoint got its name; nothing is read from it that it
# could not do without.
_LATER = "_CHECKPOINT_METADATA", COMMITTED
_BLOCK = 1 << 22  # bytes that a thread reads at once
_THREADS = 8  # hashing leaves Python's lock to others
_DIGITS, _MD5, _MD5_DIGITS = 64, "md5:", 32  # SHA-256, unless it says otherwise
_LARGEST = 1 << 26  # bytes of a manifest, which names some thousand files


class Damaged(ValueError):  # noqa: N818 - a state of files
  """A checkpoint's files are not those that were written."""


def write(folder: pathlib.Path, is_copied: bool = False) -> None:
  """Writes the manifest of all files that are in a folder now.

  Args:
    folder: of the checkpoint.
    is_copied: into a bucket; then hashes are MD5, which its store will say.
  """
  entries = _entries(folder)
  digests = {
    name: f"{_MD5}{entry.md5}" for name, entry in entries.items() if entry.md5
  }
  kind = _MD5 if is_copied else ""
  digests |= _digests(folder, {x: kind for x in entries if x not in digests})
  listed = {name: [entries[name].size, digests[name]] for name in entries}
  content = json.dumps({"format": FORMAT, "files": listed}, indent=1)
  if paths.is_bucket(folder):
    paths.replace(folder / FILE, content + "\n")
    return
  with open(folder / FILE, "w") as file:
    file.write(content + "\n")
    file.flush()
    os.fsync(file.fileno())


def check(
  folder: pathlib.Path,
  is_promised: bool,
  index: int = 0,
  count: int = 1,
  items: Collection[str] | None = None,
) -> None:
  """Refuses a checkpoint whose files are others than were written.

  Args:
    folder: of the checkpoint.
    is_promised: whether it was written with a manifest.
    index: which part of the files is read, where several processes share them.
    count: of parts.
    items: folders of it whose files are read; of the others, which nobody opens,
      it is only asked that they are there and of their size. None: all are.

  Raises:
    Damaged: names the files, and what is wrong with each.
  """
  if not (folder / FILE).exists():
    if is_promised:
      raise Damaged(f"{folder} is damaged: it has lost its {FILE}")
    return
  files = read(folder / FILE)
  own = sorted(files)[index::count]
  wrong, same_size, entries = [], [], _entries(folder)
  for name in own:
    if name not in entries:
      wrong.append(f"{name} is gone")
    elif entries[name].size == files[name][0]:
      item, is_below, _ = name.partition("/")
      if items is None or not is_below or item in items:
        same_size.append(name)
    else:
      wrong.append(
        f"{name} has {entries[name].size:,} bytes instead of {files[name][0]:,}"
      )
  found, unread = {}, {}
  for name in same_size:
    wanted, said = files[name][1], entries[name].md5
    if said and wanted == f"{_MD5}{said}":
      found[name] = wanted
    else:
      unread[name] = wanted
  found |= _digests(folder, unread)
  wrong += [
    f"{name} holds other bytes than were written"
    for name in same_size
    if found[name] != files[name][1]
  ]
  if wrong:
    more = f", and {len(wrong) - 3} more files" if len(wrong) > 3 else ""
    raise Damaged(f"{folder} is damaged: {', '.join(wrong[:3])}{more}")


def read(path: pathlib.Path) -> dict[str, tuple[int, str]]:
  """Size in bytes and hash of each file, by its path in the checkpoint.

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
  except paths.StoreFailed:
    raise
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
    or len(digest.removeprefix(_MD5))
    != (_MD5_DIGITS if digest.startswith(_MD5) else _DIGITS)
  ):
    raise ValueError(f"{name!r:.40} must be a file, with its size and hash")
  return size, digest


def _entries(folder: pathlib.Path) -> dict[str, paths.Entry]:
  """The files that a manifest lists, by name."""
  found = paths.listing(folder).items()
  return {name: x for name, x in found if name not in (FILE, *_LATER)}


def _digests(folder: pathlib.Path, wanted: Mapping[str, str]) -> dict[str, str]:
  """Hashes of files, each of the kind that is wanted of it, SHA-256 by default.

  Of a file that cannot be read to its end it is "".
  """
  if not wanted:
    return {}
  threads = max(1, min(_THREADS, os.cpu_count() or 1))
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    found = pool.map(
      lambda name: _digest(folder / name, wanted[name].startswith(_MD5)), wanted
    )
    return dict(zip(wanted, found, strict=True))


def _digest(path: pathlib.Path, is_md5: bool) -> str:
  digest = hashlib.sha256()
  if is_md5:
    digest = hashlib.md5(usedforsecurity=False)
  block = bytearray(_BLOCK)
  view = memoryview(block)
  try:
    with path.open("rb", buffering=0) as file:
      while size := file.readinto(block):
        digest.update(view[:size])
  except paths.StoreFailed:
    raise
  except OSError:
    return ""
  return f"{_MD5 if is_md5 else ''}{digest.hexdigest()}"
