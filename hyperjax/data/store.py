"""Stored tokens: each task's rows once, memory-mapped, with offsets.

One folder per task and split:

```
tokens.bin    ids of row 0, feature 0; row 0, feature 1; row 1, feature 0; ...
offsets.bin   int64, where each of them begins, and the end
hashes.bin    uint64 of each row's inputs: rows with equal inputs have equal ones
records.bin   (evaluation) each row's other fields as a line of JSON
info.json     what it is and what it was made of; written last
```

The core reads them with numpy alone. `seqio_store` makes them.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hyperjax.data import files, vocabulary
from hyperjax.data.vocabulary import Vocabulary

FORMAT = 1
INFO = "info.json"
VOCABULARIES = "vocabularies"
MIXTURES = "mixtures"
_PARTIAL = ".partial"


@dataclasses.dataclass(frozen=True)
class Rows:
  """The rows of one task and split; arrays may be memory-mapped."""

  features: tuple[str, ...]
  tokens: np.ndarray  # [all ids]
  offsets: np.ndarray  # int64 [rows * features + 1]
  hashes: np.ndarray  # uint64 [rows], of the first feature
  records: Any = None  # JSON of each row, by index

  def __len__(self) -> int:
    return len(self.hashes)

  def row(self, index: int, feature: str) -> np.ndarray:
    """Ids of one feature of one row, int32 [length]."""
    i = index * len(self.features) + self.features.index(feature)
    start, end = self.offsets[i], self.offsets[i + 1]
    return np.asarray(self.tokens[start:end], np.int32)

  def lengths(self, feature: str) -> np.ndarray:
    """How many ids each row has of a feature, int64 [rows]."""
    i, step = self.features.index(feature), len(self.features)
    return self.offsets[i + 1 :: step] - self.offsets[i:-1:step]

  def longest(self, feature: str) -> int:
    """The most ids a row has of a feature; 0 without rows."""
    i, step = self.features.index(feature), len(self.features)
    ends, begins = self.offsets[i + 1 :: step], self.offsets[i:-1:step]
    most, block = 0, 1 << 20  # of a memory-mapped array of any size
    for first in range(0, len(self), block):
      some = slice(first, first + block)
      most = max(most, int((ends[some] - begins[some]).max()))
    return most

  def record(self, index: int) -> dict[str, Any]:
    """The row's other fields; empty where none were kept."""
    return json.loads(self.records[index]) if self.records is not None else {}


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
  """Lines of a memory-mapped file, by offsets."""

  def __init__(self, content: np.ndarray, offsets: np.ndarray):
    self._content, self._offsets = content, offsets

  def __len__(self) -> int:
    return len(self._offsets) - 1

  def __getitem__(self, index: int) -> bytes:
    start, end = self._offsets[index], self._offsets[index + 1]
    return self._content[start:end].tobytes()


def write(
  folder: pathlib.Path,
  rows: Iterable[Mapping[str, Any]],
  features: Sequence[str],
  info: Mapping[str, Any],
  num_ids: int,
  keep_records: bool,
) -> None:
  """Streams rows to `folder`, which appears only once it is whole.

  A row has an id array for each of `features`, and, under "record", its other
  fields. `num_ids` is the vocabulary's size: with at most 65,536 an id takes
  two bytes.

  Raises:
    ValueError: a row's id is out of the vocabulary.
  """
  dtype = np.dtype(np.uint16 if num_ids <= 1 << 16 else np.int32)
  folder.parent.mkdir(parents=True, exist_ok=True)
  _remove_abandoned(folder.parent)
  partial = pathlib.Path(tempfile.mkdtemp(_PARTIAL, ".", folder.parent))
  try:
    with _Writer(partial, dtype, keep_records) as writer:
      for row in rows:
        for feature in features:
          ids = np.asarray(row[feature], np.int64)
          if len(ids) and not 0 <= ids.min() <= ids.max() < num_ids:
            raise ValueError(
              f"{info['task']} ({info['split']}), row {writer.num_rows}: "
              f"{feature} has ids from {ids.min()} to {ids.max()}, the "
              f"vocabulary has {num_ids}"
            )
        writer.add([row[feature] for feature in features], row.get("record"))
    written = {
      "format": FORMAT,
      "features": list(features),
      "dtype": dtype.name,
      "rows": writer.num_rows,
      "tokens": writer.num_tokens,
      "records": keep_records,
      **info,
    }
    (partial / INFO).write_text(json.dumps(written, indent=1) + "\n")
    partial.chmod(0o755)  # mkdtemp's is for its owner alone
    if folder.is_dir() and not (folder / INFO).is_file():
      shutil.rmtree(folder)  # damaged: without its info it can never be read
    try:
      os.rename(partial, folder)
    except OSError:
      # Another process made the same store first; both are the same.
      if not (folder / INFO).is_file():
        raise
  finally:
    shutil.rmtree(partial, ignore_errors=True)


def _remove_abandoned(folder: pathlib.Path) -> None:
  """Removes what processes that were killed have left, after a day."""
  for partial in folder.glob(f".*{_PARTIAL}"):
    if time.time() - partial.stat().st_mtime > 24 * 3600:
      shutil.rmtree(partial, ignore_errors=True)


class _Writer:
  """The files of a store while they grow, a block of rows at a time."""

  def __init__(self, folder: pathlib.Path, dtype: np.dtype, has_records: bool):
    self.num_rows = self.num_tokens = 0
    self._dtype = dtype
    self._has_records = has_records
    self._record_end = 0
    names = ("tokens", "offsets", "hashes")
    names += ("records", "ends") if has_records else ()
    self._files = {name: open(folder / f"{name}.bin", "wb") for name in names}  # noqa: SIM115
    self._clear()
    self._offsets.append(0)
    self._ends.append(0)

  def add(self, features: Sequence[Any], record: Any) -> None:
    for ids in features:
      self._tokens.append(np.asarray(ids, self._dtype))
      self.num_tokens += len(ids)
      self._offsets.append(self.num_tokens)
    self._hashes.append(_hash(features[0]))
    if self._has_records:
      line = json.dumps(record or {}, ensure_ascii=False).encode()
      self._records.append(line)
      self._record_end += len(line)
      self._ends.append(self._record_end)
    self.num_rows += 1
    if self.num_rows % 4096 == 0:
      self._flush()

  def __enter__(self) -> "_Writer":
    return self

  def __exit__(self, *_: object) -> None:
    self._flush()
    for file in self._files.values():
      file.close()

  def _flush(self) -> None:
    if self._tokens:
      np.concatenate(self._tokens).tofile(self._files["tokens"])
    np.asarray(self._offsets, np.int64).tofile(self._files["offsets"])
    np.asarray(self._hashes, np.uint64).tofile(self._files["hashes"])
    if self._has_records:
      self._files["records"].write(b"".join(self._records))
      np.asarray(self._ends, np.int64).tofile(self._files["ends"])
    self._clear()

  def _clear(self) -> None:
    self._tokens: list[np.ndarray] = []
    self._offsets: list[int] = []
    self._hashes: list[int] = []
    self._records: list[bytes] = []
    self._ends: list[int] = []


def read(folder: pathlib.Path) -> tuple[Rows, dict[str, Any]]:
  """A stored task's rows, memory-mapped, and its info.

  Raises:
    ValueError: there is no store, or it is of another format or damaged.
  """
  info = read_info(folder)
  features = tuple(info["features"])
  count = info["rows"]

  def load(name: str, dtype: Any, length: int) -> np.ndarray:
    path = folder / f"{name}.bin"
    expected = length * np.dtype(dtype).itemsize
    size = path.stat().st_size if path.is_file() else -1
    if size != expected:
      found = "is missing" if size < 0 else f"has {size} bytes"
      raise ValueError(
        f"{path} {found}, {INFO} says {expected}: remove {folder} and make "
        "it again"
      )
    if not length:
      return np.zeros(0, dtype)
    # A plain view of it: each slice of a memmap would be one again, slowly.
    return np.memmap(path, dtype, mode="r", shape=(length,)).view(np.ndarray)

  records = None
  if info["records"]:
    ends = load("ends", np.int64, count + 1)
    records = _Lines(load("records", np.uint8, int(ends[-1])), ends)
  rows = Rows(
    features=features,
    tokens=load("tokens", info["dtype"], info["tokens"]),
    offsets=load("offsets", np.int64, count * len(features) + 1),
    hashes=load("hashes", np.uint64, count),
    records=records,
  )
  return rows, info


def read_info(folder: pathlib.Path) -> dict[str, Any]:
  """What a stored task says of itself.

  Raises:
    ValueError: there is no store, or it is of another format.
  """
  try:
    info = json.loads((folder / INFO).read_text())
  except FileNotFoundError:
    raise ValueError(f"{folder} holds no stored tokens") from None
  except ValueError as error:
    raise ValueError(f"{folder / INFO} is not JSON: {error}") from error
  if info.get("format") != FORMAT:
    raise ValueError(
      f"{folder} has format {info.get('format')!r}, this version reads "
      f"{FORMAT}: remove it and make it again"
    )
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
    hashes.append(_hash(row[features[0]]))
    records.append(json.dumps(row.get("record", {})).encode())
  return Rows(
    tuple(features),
    np.concatenate(tokens) if tokens else np.zeros(0, np.int32),
    np.asarray(ends, np.int64),
    np.asarray(hashes, np.uint64),
    records,
  )


def write_mixture(
  cache_dir: pathlib.Path,
  name: str,
  split: str,
  has_records: bool,
  folders: Sequence[tuple[str, float, pathlib.Path]],
  made_with: Any = None,
) -> None:
  """Notes which stores a mixture is made of.

  Args:
    cache_dir: of all stores.
    name: of the mixture.
    split: of its tasks.
    has_records: whether records were kept.
    folders: task, rate and folder of each store.
    made_with: what settings they were made with, as JSON: mixtures of one name
      from different data are kept apart by it.
  """
  content = {
    "mixture": name,
    "split": split,
    "records": has_records,
    "made_with": made_with,
    "tasks": [
      {"task": task, "rate": rate, "folder": str(folder.relative_to(cache_dir))}
      for task, rate, folder in folders
    ],
  }
  stem = json.dumps([name, split, has_records, made_with], sort_keys=True)
  digest = hashlib.sha256(stem.encode()).hexdigest()[:12]
  path = cache_dir / MIXTURES / f"{name}.{split}.{digest}.json"
  path.parent.mkdir(parents=True, exist_ok=True)
  files.replace(path, json.dumps(content, indent=1) + "\n")


def open_mixture(
  cache_dir: pathlib.Path,
  name: str,
  split: str,
  has_records: bool = False,
  made_with: Any = None,
) -> list[Task]:
  """The tasks of a mixture from stored tokens alone, without seqio.

  Args:
    cache_dir: of all stores.
    name: of the mixture.
    split: of its tasks.
    has_records: only with their records.
    made_with: only those that were made with these settings; None for those of
      any, if there is but one kind.

  Raises:
    ValueError: the mixture was not stored, or not with these settings.
  """
  chosen = _find_mixture(cache_dir, name, split, has_records, made_with)
  tasks = []
  for entry in chosen["tasks"]:
    rows, info = read(cache_dir / entry["folder"])
    found = vocabulary.open_described(
      info["vocabulary"], cache_dir / VOCABULARIES
    )
    tasks.append(
      Task(
        entry["task"],
        split,
        rows,
        entry["rate"],
        found,
        instruction=instruction_of(info),
      )
    )
  return tasks


def _find_mixture(
  cache_dir: pathlib.Path,
  name: str,
  split: str,
  has_records: bool,
  made_with: Any,
) -> dict[str, Any]:
  paths = sorted((cache_dir / MIXTURES).glob("*.json"))
  all_stored = [json.loads(path.read_text()) for path in paths]
  stored = [
    mixture
    for mixture in all_stored
    if (mixture["mixture"], mixture["split"]) == (name, split)
    and mixture["records"] >= has_records
  ]
  if not stored:
    known = {f"{m['mixture']} ({m['split']})" for m in all_stored}
    raise ValueError(
      f"no stored tokens of {name!r}, split {split!r}"
      f"{', with records,' if has_records else ''} in {cache_dir}; it "
      f"holds {', '.join(sorted(known)) or 'none'}. Make them with `hyperjax "
      "cache`, or set USE_CACHED_TASKS to False"
    )
  fitting = [m for m in stored if made_with in (None, m["made_with"])]
  if not fitting:
    raise ValueError(
      f"the tokens of {name!r}, split {split!r}, in {cache_dir} were made with "
      f"{_listed(stored)}; {json.dumps(made_with)} is asked for"
    )
  if len({json.dumps(m["made_with"]) for m in fitting}) > 1:
    raise ValueError(
      f"{cache_dir} holds tokens of {name!r}, split {split!r}, made with "
      f"{_listed(fitting)}: keep each in a CACHE_DIR of its own"
    )
  return min(fitting, key=lambda mixture: mixture["records"])


def _listed(stored: Sequence[Mapping[str, Any]]) -> str:
  return " and ".join(sorted({json.dumps(m["made_with"]) for m in stored}))


@dataclasses.dataclass(frozen=True)
class StoredTasks:
  """A mixture or task whose tokens `hyperjax cache` has stored."""

  mixture_or_task: str
  cache_dir: str
  split: str = "train"
  keep_records: bool = False

  def open(self) -> list[Task]:
    """Its tasks, memory-mapped."""
    return open_mixture(
      pathlib.Path(self.cache_dir).expanduser(),
      self.mixture_or_task,
      self.split,
      self.keep_records,
    )


def _hash(ids: Any) -> int:
  content = np.asarray(ids, np.int64).tobytes()
  digest = hashlib.blake2b(content, digest_size=8).digest()
  return int.from_bytes(digest, "little")
