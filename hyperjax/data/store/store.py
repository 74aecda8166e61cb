"""Stored tokens: each task's rows once, memory-mapped, with offsets.

One folder per task and split:

```
tokens.bin    ids of row 0, feature 0; row 0, feature 1; row 1, feature 0; ...
offsets.bin   int64, where each of them begins, and the end
hashes.bin    uint64 of each row's inputs: rows with equal inputs have equal ones
records.bin   (evaluation) each row's other fields as a line of JSON
info.json     what it is and what it was made of; written last
```

A store of several parts has an info.json alone, which names the folders of its
parts; each is a store by itself.

The core reads them with numpy alone. `seqio_store` makes them.
"""

import dataclasses
import json
import mmap
import os
import pathlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hyperjax.data import files
from hyperjax.data.store import locks, store_info
from hyperjax.data.store.row_arrays import ArrayRows, JoinedRows, Rows, Summary
from hyperjax.data.store.row_writer import RowWriter, hash_ids
from hyperjax.data.vocabulary import Vocabulary

FORMAT = 1
INFO = "info.json"
VOCABULARIES = "vocabularies"
_LARGE = 1 << 26  # bytes of a file of which little is read at a time


@dataclasses.dataclass(frozen=True)
class Task:
  """A task's stored rows, and how often it is drawn."""

  name: str
  split: str
  rows: Rows
  rate: float = 1.0
  vocabulary: Vocabulary | None = None
  # Of its seqio task, where that is at hand: postprocess and metric functions.
  scoring: Any = None
  # Ids of what says in words what to do, int32 [ids] without an end; or None.
  instruction: np.ndarray | None = None

  @property
  def eos_id(self) -> int | None:
    return self.vocabulary.eos_id if self.vocabulary is not None else 1

  @property
  def end_id(self) -> int:
    """What closes each text that the hypermodel reads: T5's 1 at the least."""
    return 1 if self.eos_id is None else self.eos_id


class _Lines:
  """Lines of a store's memory-mapped file, by offsets."""

  def __init__(
    self, folder: pathlib.Path, content: np.ndarray, offsets: np.ndarray
  ):
    self._folder, self._content, self._offsets = folder, content, offsets

  def __getitem__(self, index: int) -> bytes:
    start, end = self._offsets[index], self._offsets[index + 1]
    if not 0 <= start <= end <= len(self._content):
      raise ValueError(
        f"{self._folder / 'ends.bin'}: line {index} is said to lie at bytes "
        f"{start} to {end} of {len(self._content)}"
      )
    return self._content[start:end].tobytes()


def is_whole(folder: pathlib.Path) -> bool:
  """Whether a store is there; one that was begun is not."""
  return (folder / INFO).is_file()


def write(
  folder: pathlib.Path,
  rows: Iterable[Mapping[str, Any]],
  features: Sequence[str],
  info: Mapping[str, Any],
  num_ids: int,
  keep_records: bool,
) -> int:
  """Streams rows to `folder`, which appears only once it is whole.

  A row has an id array for each of `features`, and, under "record", its other
  fields. `num_ids` is the vocabulary's size: with at most 65,536 an id takes
  two bytes. Returns how many tokens there are.

  Raises:
    ValueError: a row's id is out of the vocabulary.
  """
  folder.parent.mkdir(parents=True, exist_ok=True)
  locks.remove_abandoned(folder.parent)
  partial = locks.temporary_folder(folder.parent)
  where = f"{info['task']} ({info['split']})"
  try:
    with RowWriter(partial, where, features, num_ids, keep_records) as writer:
      for row in rows:
        writer.add(row)
    _put(folder, partial, {"format": FORMAT, **writer.facts, **info})
    return writer.num_tokens
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def write_joined(
  folder: pathlib.Path, parts: Sequence[pathlib.Path], info: Mapping[str, Any]
) -> None:
  """Makes a store of others, which stay where they are and are not copied.

  Raises:
    ValueError: a part is not there, or is damaged.
  """
  found = [read_info(part) for part in parts]
  longest = {
    name: max(part["longest"][name] for part in found)
    for name in found[0]["features"]
  }
  totals = {
    name: sum(part[name] for part in found) for name in ("rows", "tokens")
  }
  same = ("format", "features", "dtype", "records")
  listed = [
    {
      "folder": os.path.relpath(path, folder),
      "rows": part["rows"],
      "tokens": part["tokens"],
    }
    for path, part in zip(parts, found, strict=True)
  ]
  facts = {name: found[0][name] for name in same} | totals
  facts |= {"longest": longest, "parts": listed}
  folder.parent.mkdir(parents=True, exist_ok=True)
  partial = locks.temporary_folder(folder.parent)
  try:
    _put(folder, partial, {**facts, **info})
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def _put(
  folder: pathlib.Path, partial: pathlib.Path, info: Mapping[str, Any]
) -> None:
  """Makes `partial`, whole but for its info, the store `folder`."""
  (partial / INFO).write_text(json.dumps(info, indent=1) + "\n")
  partial.chmod(0o755)  # a temporary folder is for its owner alone
  if folder.is_dir() and not is_whole(folder):
    shutil.rmtree(folder)  # damaged: without its info it can never be read
  try:
    os.rename(partial, folder)
  except OSError:
    # Another process made the same store first; both are the same.
    if not is_whole(folder):
      raise


def read(folder: pathlib.Path) -> tuple[Rows, dict[str, Any]]:
  """A stored task's rows, memory-mapped, and its info.

  Raises:
    ValueError: there is no store, or it is of another format or damaged.
  """
  info = read_info(folder)
  return (_joined if "parts" in info else _mapped)(folder, info), info


def _mapped(folder: pathlib.Path, info: Mapping[str, Any]) -> ArrayRows:
  count = info["rows"]
  arrays = {
    name: _map(folder, name, dtype, length)
    for name, dtype, length in _arrays(info)
  }
  records = None
  if info["records"]:
    ends = _map(folder, "ends", np.int64, count + 1)
    size = _size(folder / "records.bin")
    if ends[0] != 0 or ends[-1] != size:
      raise ValueError(
        f"{folder / 'ends.bin'} says where lines end in {ends[-1]} bytes; "
        f"records.bin has {size}: {_again(folder)}"
      )
    records = _Lines(folder, _map(folder, "records", np.uint8, size), ends)
  summary = Summary(info.get("longest", {}), info.get("last_id", {}))
  return ArrayRows(
    features=tuple(info["features"]),
    **arrays,
    records=records,
    summary=summary,
    where=str(folder),
  )


def _joined(folder: pathlib.Path, info: Mapping[str, Any]) -> JoinedRows:
  """Parts' files are looked at now, and mapped when they are read."""
  parts = info["parts"]
  folders = [_normal(folder / part["folder"]) for part in parts]
  for part, own in zip(folders, parts, strict=True):
    for name, dtype, length in _arrays({**info, **own}):
      _check_size(part / f"{name}.bin", np.dtype(dtype).itemsize * length)

  def open_part(number: int) -> ArrayRows:
    own = read_info(folders[number])
    for name in ("features", "dtype", "records"):
      if own[name] != info[name]:
        raise ValueError(
          f"{folders[number] / INFO}: {name!r} is {own[name]!r}, in "
          f"{folder / INFO}, which it is a part of, {info[name]!r}"
        )
    return _mapped(folders[number], own)

  return JoinedRows(
    tuple(info["features"]),
    [(part["rows"], part["tokens"]) for part in parts],
    open_part,
    info["longest"],
    info["records"],
  )


def _normal(path: pathlib.Path) -> pathlib.Path:
  return pathlib.Path(os.path.normpath(path))


def _arrays(info: Mapping[str, Any]) -> list[tuple[str, Any, int]]:
  """Name, dtype and length of the arrays that every store has."""
  num_offsets = info["rows"] * len(info["features"]) + 1
  return [
    ("tokens", info["dtype"], info["tokens"]),
    ("offsets", np.int64, num_offsets),
    ("hashes", np.uint64, info["rows"]),
  ]


def _map(
  folder: pathlib.Path, name: str, dtype: Any, length: int
) -> np.ndarray:
  path = folder / f"{name}.bin"
  _check_size(path, length * np.dtype(dtype).itemsize)
  if not length:
    return np.zeros(0, dtype)
  files.allow_many_open()
  with open(path, "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
  is_drawn_from = name in ("tokens", "records") and len(mapped) > _LARGE
  if is_drawn_from and hasattr(mapped, "madvise"):
    # Each look would read what follows too, up to megabytes of it.
    mapped.madvise(mmap.MADV_RANDOM)
  return np.frombuffer(mapped, dtype)


def _check_size(path: pathlib.Path, expected: int) -> None:
  size = _size(path)
  if size != expected:
    raise ValueError(
      f"{path} has {size} bytes, {INFO} says {expected}: {_again(path.parent)}"
    )


def _size(path: pathlib.Path) -> int:
  try:
    return os.stat(path).st_size
  except (OSError, ValueError) as error:
    raise ValueError(
      f"{path} is missing, which {INFO} speaks of: {_again(path.parent)}"
    ) from error


def _again(folder: pathlib.Path) -> str:
  return f"remove {folder} and make it again"


def read_info(folder: pathlib.Path) -> dict[str, Any]:
  """What a stored task says of itself.

  Raises:
    ValueError: there is no store, or it is of another format or damaged.
  """
  path = folder / INFO
  if not files.is_file(path):
    raise ValueError(f"{folder} holds no stored tokens")
  info = files.read_json(path)
  if info.get("format") != FORMAT:
    raise ValueError(
      f"{path} has format {info.get('format')!r}, this version reads "
      f"{FORMAT}: remove it and make it again"
    )
  store_info.check(info, str(path))
  return info


def instruction_of(info: Mapping[str, Any]) -> np.ndarray | None:
  """Ids of the instruction that a store was made with."""
  ids = info.get("instruction")
  return None if ids is None else np.asarray(ids, np.int32)


def in_memory(
  rows: Iterable[Mapping[str, Any]], features: Sequence[str]
) -> Rows:
  """Rows without a file: for tests, and for what is made at run time."""
  tokens, ends, hashes, records = [], [0], [], []
  for row in rows:
    for feature in features:
      ids = np.asarray(row[feature], np.int32)
      tokens.append(ids)
      ends.append(ends[-1] + len(ids))
    hashes.append(hash_ids(row[features[0]]))
    records.append(json.dumps(row.get("record", {})).encode())
  return ArrayRows(
    tuple(features),
    np.concatenate(tokens) if tokens else np.zeros(0, np.int32),
    np.asarray(ends, np.int64),
    np.asarray(hashes, np.uint64),
    records,
  )
