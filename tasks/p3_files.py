"""P3's own files: a split's TFRecord, read a batch of records at a time.

A split is one file of tf.train.Example records, with its features in
`info.{split}.json` and its number of records in `stats.{split}.json`. What does
not agree is refused, naming the file. Needs TensorFlow.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from hyperjax import paths
from hyperjax.data import files, record_files

READER = 1  # of the rows made of them: tokens are stored again when it changes
_BATCH = 1024
_POINTER = b"version https://git-lfs"

Schema = Mapping[str, tuple[str, int]]  # dtype and rank, by feature
PAIR: Schema = {
  "inputs": ("int32", 1),
  "inputs_pretokenized": ("string", 0),
  "targets": ("int32", 1),
  "targets_pretokenized": ("string", 0),
}
WITH_CHOICES: Schema = {**PAIR, "answer_choices": ("string", 1)}
OF_CHOICES: Schema = {
  **PAIR,
  "idx": ("int32", 1),
  "is_correct": ("bool", 0),
  "weight": ("float32", 0),
}
# How tf.train.Example holds a dtype.
_KINDS = {
  "int32": ("int64_list", tf.int64),
  "bool": ("int64_list", tf.int64),
  "float32": ("float_list", tf.float32),
  "string": ("bytes_list", tf.string),
}


@dataclasses.dataclass(frozen=True)
class Split:
  """The files of one split of a subset."""

  folder: pathlib.Path
  name: str

  @property
  def records(self) -> pathlib.Path:
    return self.folder / f"{self.name}.tfrecord-00000-of-00001"

  @property
  def info(self) -> pathlib.Path:
    return self.folder / f"info.{self.name}.json"

  @property
  def stats(self) -> pathlib.Path:
    return self.folder / f"stats.{self.name}.json"

  def num_examples(self) -> int:
    """How many records the split has, as its stats say.

    Raises:
      ValueError: they say no number.
    """
    count = files.field(
      files.read_json(self.stats), "examples", str(self.stats)
    )
    if type(count) is not int or count < 0:
      raise ValueError(
        f"{self.stats}: 'examples' must be a count, got {count!r}"
      )
    return count

  def made_of(self) -> list[Any]:
    """What its rows depend on."""
    paths = (self.records, self.info, self.stats)
    return ["p3", READER, *map(files.stamp, paths)]


@dataclasses.dataclass(frozen=True)
class Ragged:
  """Rows of different lengths."""

  values: np.ndarray
  offsets: np.ndarray  # [rows + 1]

  @property
  def lengths(self) -> np.ndarray:
    return np.diff(self.offsets)

  def __getitem__(self, index: int) -> np.ndarray:
    return self.values[self.offsets[index] : self.offsets[index + 1]]

  def append(self, value: Any) -> "Ragged":
    """Every row with one more value at its end."""
    values = np.insert(self.values, self.offsets[1:], value)
    return Ragged(values, self.offsets + np.arange(len(self.offsets)))

  def ends_with(self, value: Any) -> np.ndarray:
    """Whether each row does; an empty one does not."""
    last = np.append(self.values, -1)[self.offsets[1:] - 1]
    return (last == value) & (self.lengths > 0)


def read(
  split: Split, schemas: Sequence[Schema]
) -> Iterator[tuple[int, dict[str, Any]]]:
  """Batches of columns, each with the number of its first record.

  Raises:
    ValueError: the file is damaged, or not what info and stats say it is.
  """
  schema = _schema(split, schemas)
  expected, count = split.num_examples(), 0
  with paths.borrowed(split.records) as file:
    _check_frames(split, file)
    records = tf.data.TFRecordDataset(str(file)).batch(_BATCH)
    try:
      for batch in records:
        if not count:
          _check_record(split, bytes(batch[0].numpy()), schema)
        yield count, _checked(split, count, batch, schema)
        count += len(batch)
    except tf.errors.OpError as error:
      reason = record_files.named(file, _said(error))
      raise ValueError(
        f"{split.records} is damaged or cut short: {reason}"
      ) from error
  if not count and not expected:
    raise ValueError(f"{split.records} has no record")
  if count != expected:
    raise ValueError(
      f"{split.records} has {count} records, {split.stats} says {expected}"
    )


def _schema(split: Split, schemas: Sequence[Schema]) -> Schema:
  """The one of `schemas` that info.json gives."""
  info = files.read_json(split.info)
  features = files.field(info, "features", str(split.info))
  if not isinstance(features, Mapping):
    raise ValueError(f"{split.info}: 'features' must be an object")
  found = {}
  for name, feature in features.items():
    where = f"{split.info}: {name!r}"
    shape = files.field(feature, "shape", where)
    if shape not in ([], [None]):
      raise ValueError(f"{where}: 'shape' must be [] or [null], got {shape!r}")
    found[name] = (files.field(feature, "dtype", where), len(shape))
  if info.get("num_shards", 1) != 1:
    raise ValueError(
      f"{split.info}: 'num_shards' must be 1, got {info['num_shards']!r}"
    )
  if found not in schemas:
    raise ValueError(
      f"{split.info}: its features are {_shown(found)}; P3's are "
      f"{' or '.join(map(_shown, schemas))}"
    )
  return found


def _shown(schema: Schema) -> str:
  return ", ".join(
    f"{name} {dtype}{'[]' * rank}"
    for name, (dtype, rank) in sorted(schema.items())
  )


def _check_record(split: Split, record: bytes, schema: Schema) -> None:
  """Compares the first record's features with info.json, both ways.

  The parser passes over features that it is not asked for.
  """
  try:
    stored = tf.train.Example.FromString(record).features.feature
  except Exception as error:
    # protobuf's own error class depends on its version.
    raise ValueError(f"{split.records}: record 0 is no Example") from error
  found = {name: stored[name].WhichOneof("kind") for name in stored}
  expected = {name: _KINDS[dtype][0] for name, (dtype, _) in schema.items()}
  for name in sorted(found.keys() | expected.keys()):
    # A list without entries may be stored without its kind.
    is_list = schema.get(name, ("", 0))[1] > 0
    if name in found and found[name] is None and is_list:
      continue
    if found.get(name) != expected.get(name):
      raise ValueError(
        f"{split.records}, record 0: {name!r} is "
        f"{found.get(name, 'missing')}, by {split.info} it is "
        f"{expected.get(name, 'missing')}"
      )


def _checked(
  split: Split, first: int, batch: Any, schema: Schema
) -> dict[str, np.ndarray | Ragged]:
  """Columns of a batch; of a broken one, the first record that is broken."""
  try:
    return _parse(batch, schema)
  except tf.errors.InvalidArgumentError:
    for number, record in enumerate(batch, first):
      try:
        _parse(record[None], schema)
      except tf.errors.InvalidArgumentError as error:
        raise ValueError(
          f"{split.records}, record {number}, is not what {split.info} says: "
          f"{_said(error)}"
        ) from error
    raise


def _parse(batch: Any, schema: Schema) -> dict[str, np.ndarray | Ragged]:
  features = {
    name: tf.io.RaggedFeature(_KINDS[dtype][1], row_splits_dtype=tf.int64)
    if rank
    else tf.io.FixedLenFeature((), _KINDS[dtype][1])
    for name, (dtype, rank) in schema.items()
  }
  return {
    name: Ragged(column.values.numpy(), column.row_splits.numpy())
    if isinstance(column, tf.RaggedTensor)
    else column.numpy()
    for name, column in tf.io.parse_example(batch, features).items()
  }


def _check_frames(split: Split, file: pathlib.Path) -> None:
  """Refuses a file that is none of records, or ends within one."""
  try:
    with file.open("rb") as records:
      start = records.read(len(_POINTER))
  except OSError as error:
    raise ValueError(f"{split.records} cannot be read: {error}") from error
  if start == _POINTER:
    raise ValueError(
      f"{split.records} is a pointer of Git LFS, not the file itself: `git lfs "
      "pull` in its folder fetches it"
    )
  record_files.check(file, split.records)


def _said(error: tf.errors.OpError) -> str:
  """TensorFlow's own words, without the names of its operations."""
  return str(error.message).rpartition("}} ")[2].partition(" [Op:")[0]


def texts(split: Split, first: int, column: Any) -> list[str]:
  """A column of bytes, of records from `first`, decoded."""
  return [text(split, first + i, content) for i, content in enumerate(column)]


def text(split: Split, record: int, content: bytes) -> str:
  try:
    return content.decode()
  except UnicodeDecodeError as error:
    raise ValueError(
      f"{split.records}, record {record}: not UTF-8: {error}"
    ) from error
