"""The arrays of a store while they grow, a block of rows at a time."""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_BLOCK_ROWS, _BLOCK_TOKENS = 4096, 1 << 20  # of a block, at least one of them


class RowWriter:
  """The files of a store while they grow, a block of rows at a time."""

  def __init__(
    self,
    folder: pathlib.Path,
    where: str,
    features: Sequence[str],
    num_ids: int,
    has_records: bool,
  ):
    self.num_rows = self.num_tokens = 0  # of the blocks that are written
    self._where, self._features, self._num_ids = where, features, num_ids
    self._dtype = np.dtype(np.uint16 if num_ids <= 1 << 16 else np.int32)
    self._has_records = has_records
    self._record_end = 0
    self._longest = dict.fromkeys(features, 0)
    self._last_ids: dict[str, set[int]] = {name: set() for name in features}
    names = ("tokens", "offsets", "hashes")
    names += ("records", "ends") if has_records else ()
    self._files = {name: open(folder / f"{name}.bin", "wb") for name in names}  # noqa: SIM115
    for name in {"offsets", "ends"} & self._files.keys():
      np.zeros(1, np.int64).tofile(self._files[name])
    self._clear()

  def add(self, row: Mapping[str, Any]) -> None:
    ids = [np.asarray(row[name], np.int64) for name in self._features]
    self._tokens += ids
    self._hashes.append(hash_ids(ids[0]))
    self._size += sum(map(len, ids))
    if self._has_records:
      content = json.dumps(row.get("record") or {}, ensure_ascii=False)
      self._records.append(content.encode())
    if len(self._hashes) == _BLOCK_ROWS or self._size > _BLOCK_TOKENS:
      self._flush()

  @property
  def facts(self) -> dict[str, Any]:
    """What info.json says of the arrays."""
    last_id = {
      name: max(found) if len(found) == 1 and max(found) >= 0 else None
      for name, found in self._last_ids.items()
    }
    return {
      "features": list(self._features),
      "dtype": self._dtype.name,
      "rows": self.num_rows,
      "tokens": self.num_tokens,
      "records": self._has_records,
      "longest": self._longest,
      "last_id": last_id,
    }

  def __enter__(self) -> "RowWriter":
    return self

  def __exit__(self, failed: object, *_: object) -> None:
    try:
      if not failed:
        self._flush()
    finally:
      for file in self._files.values():
        file.close()

  def _flush(self) -> None:
    if not self._hashes:
      return
    tokens = np.concatenate(self._tokens)
    lengths = np.fromiter(map(len, self._tokens), np.int64, len(self._tokens))
    self._check(tokens)
    tokens.astype(self._dtype).tofile(self._files["tokens"])
    (self.num_tokens + np.cumsum(lengths)).tofile(self._files["offsets"])
    np.asarray(self._hashes, np.uint64).tofile(self._files["hashes"])
    if self._has_records:
      sizes = np.fromiter(map(len, self._records), np.int64)
      self._files["records"].write(b"".join(self._records))
      (self._record_end + np.cumsum(sizes)).tofile(self._files["ends"])
      self._record_end += int(sizes.sum())
    self._note(tokens, lengths)
    self.num_rows += len(self._hashes)
    self.num_tokens += len(tokens)
    self._clear()

  def _check(self, tokens: np.ndarray) -> None:
    if not len(tokens) or 0 <= tokens.min() <= tokens.max() < self._num_ids:
      return
    for i, ids in enumerate(self._tokens):
      if len(ids) and not 0 <= ids.min() <= ids.max() < self._num_ids:
        row, feature = divmod(i, len(self._features))
        raise ValueError(
          f"{self._where}, row {self.num_rows + row}: "
          f"{self._features[feature]} has ids from {ids.min()} to {ids.max()}, "
          f"the vocabulary has {self._num_ids}"
        )

  def _note(self, tokens: np.ndarray, lengths: np.ndarray) -> None:
    """Keeps what the summary says; an empty row ends in no id, -1."""
    ends, step = np.cumsum(lengths), len(self._features)
    for i, name in enumerate(self._features):
      own = lengths[i::step]
      self._longest[name] = max(self._longest[name], int(own.max()))
      if len(self._last_ids[name]) < 2:
        last = np.append(tokens, -1)[np.where(own > 0, ends[i::step] - 1, -1)]
        self._last_ids[name] |= {int(last.min()), int(last.max())}

  def _clear(self) -> None:
    self._size = 0
    self._tokens: list[np.ndarray] = []
    self._hashes: list[int] = []
    self._records: list[bytes] = []


def hash_ids(ids: Any) -> int:
  content = np.asarray(ids, np.int64).tobytes()
  digest = hashlib.blake2b(content, digest_size=8).digest()
  return int.from_bytes(digest, "little")
