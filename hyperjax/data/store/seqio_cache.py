"""What seqio has cached of a task, offline: found, and held against the task.

`seqio_cache_tasks` writes a folder for each task, with Beam on whatever engine:

```
train.tfrecord-00000-of-00064   rows, as far as the task's CacheDatasetPlaceholder
info.train.json                 features with dtype and shape, number of files
stats.train.json                how many rows
COMPLETED                       written last
```

Needs seqio.
"""

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from hyperjax.data import files, json_text
from hyperjax.data.store import seqio_copies

_DTYPES = ("int32", "int64")
_MOST_FILES = 99_999  # five digits
_NUM_CHECKED = 16  # rows of a file, whose text is tokenised again
_TOKENIZE = (
  seqio.preprocessors.tokenize,
  seqio.preprocessors.tokenize_and_append_eos,
)
_ENDS = (
  seqio.preprocessors.append_eos,
  seqio.preprocessors.append_eos_after_trim,
)


def use(tasks: Sequence[Any], folders: Sequence[str]) -> None:
  """Has seqio look into `folders`, and requires what is cached to be of them.

  A task without a `seqio.CacheDatasetPlaceholder` has no cache.

  Raises:
    ValueError: a task that may be cached is not, or elsewhere.
  """
  own = [os.path.expanduser(folder).rstrip("/") for folder in folders]
  shown = ", ".join(map(seqio_copies.original, own))
  seqio.add_global_cache_dirs(own)
  for task in tasks:
    if not task.supports_caching:
      continue
    name = seqio.get_task_dir_from_name(task.name)
    wanted = [os.path.join(folder, name) for folder in own]
    if task.cache_dir is None:
      begun = [folder for folder in wanted if tf.io.gfile.exists(folder)]
      raise ValueError(
        f"SeqioTasks.cache_dirs: task {task.name!r} is in none of {shown}"
        + (
          f"; {seqio_copies.original(begun[0])} has no file COMPLETED"
          if begun
          else ""
        )
      )
    if task.cache_dir not in wanted:
      raise ValueError(
        f"SeqioTasks.cache_dirs: task {task.name!r} is read from "
        f"{task.cache_dir}, which was given to seqio before; it is not of {shown}"
      )


def shards(task: Any, split: str) -> list[str]:
  """The files of a cached split, in their order, once its info is in order.

  Raises:
    ValueError: a file is missing, or features are not what the task has.
  """
  _read(task, f"stats.{split}.json", split)
  info = _read(task, f"info.{split}.json", split)
  where = os.path.join(task.cache_dir, f"info.{split}.json")
  count = files.whole_field(info, "num_shards", where, 1, _MOST_FILES)
  _check_features(task, info.get("features"), where)
  prefix = seqio.get_cached_tfrecord_prefix(task.cache_dir, split)
  paths = [f"{prefix}-{i:05d}-of-{count:05d}" for i in range(count)]
  for path in paths:
    if not tf.io.gfile.exists(path):
      others = tf.io.gfile.glob(
        os.path.join(task.cache_dir, f"{split}.array_record-*")
      )
      hint = (
        "; its rows are ArrayRecords, which seqio itself does not read: cache "
        "with --output_format=tfrecord"
        if others
        else ""
      )
      raise ValueError(f"{path} is missing, of which {where} speaks{hint}")
  return paths


def checked(
  task: Any, examples: Iterator[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
  """Rows of a cached file; the first ones' text must give their tokens.

  Raises:
    ValueError: they were cached with another vocabulary.
  """
  names = [
    name
    for name, feature in task.output_features.items()
    if _has_tokens_of_text(task) and feature.rank == 1
  ]
  for number, example in enumerate(examples):
    if number < _NUM_CHECKED:
      for name in names:
        _check_tokens(task, name, example)
    yield example


def check_count(task: Any, split: str, num_rows: int) -> None:
  """Refuses a cache of which rows are lost.

  Raises:
    ValueError: `stats.SPLIT.json` counts others.
  """
  stats = _read(task, f"stats.{split}.json", split)
  expected = stats.get("examples")
  if expected != num_rows:
    raise ValueError(
      f"task {task.name!r}, split {split!r}: {task.cache_dir} holds {num_rows:,} "
      f"rows, its stats.{split}.json says {expected!r}: rows are lost"
    )


def _read(task: Any, name: str, split: str) -> dict[str, Any]:
  path = os.path.join(task.cache_dir, name)
  if not tf.io.gfile.exists(path):
    raise ValueError(
      f"task {task.name!r}: {path} is missing: split {split!r} was not cached"
    )
  with tf.io.gfile.GFile(path, "rb") as file:
    return json_text.parsed(path, file.read())


def _check_features(task: Any, features: Any, where: str) -> None:
  if not isinstance(features, Mapping):
    raise ValueError(
      f"{where}: 'features' must be a record, got {features!r:.80}"
    )
  if not _is_tokenized(task):
    return  # text, of which the steps after the cache make tokens
  for name in task.output_features:
    found = features.get(name)
    if not isinstance(found, Mapping):
      raise ValueError(
        f"{where}: task {task.name!r} has a feature {name!r}, what is cached has "
        f"only {sorted(features)}"
      )
    shape, dtype = found.get("shape"), found.get("dtype")
    if dtype not in _DTYPES or shape != [None]:
      raise ValueError(
        f"{where}: {name!r} must be a row of token ids, int32 of shape [null]; "
        f"it is {dtype} of shape {shape}"
      )


def _function(step: Any) -> Any:
  return step.func if isinstance(step, functools.partial) else step


def _before_cache(task: Any) -> list[Any]:
  steps = list(task.preprocessors)
  for number, step in enumerate(steps):
    if isinstance(step, seqio.CacheDatasetPlaceholder):
      return [_function(step) for step in steps[:number]]
  return []


def _is_tokenized(task: Any) -> bool:
  return any(step in _TOKENIZE for step in _before_cache(task))


def _has_tokens_of_text(task: Any) -> bool:
  """Whether cached tokens are those of the text beside them, but for an end."""
  steps = _before_cache(task)
  while steps and steps[-1] in _ENDS:
    steps.pop()
  return bool(steps) and steps[-1] in _TOKENIZE


def _check_tokens(task: Any, name: str, example: Mapping[str, Any]) -> None:
  text = example.get(f"{name}_pretokenized")
  if not isinstance(text, bytes):
    return
  own = task.output_features[name].vocabulary
  cached = np.asarray(example[name]).tolist()
  expected = list(own.encode(text.decode()))
  if own.eos_id is not None:
    cached, expected = (_without(ids, own.eos_id) for ids in (cached, expected))
  if cached != expected:
    raise ValueError(
      f"task {task.name!r}: {task.cache_dir} was cached with another vocabulary "
      f"than {own}: {name} {text.decode()!r:.80} is {cached[:8]} there, "
      f"{expected[:8]} here"
    )


def _without(ids: list[int], end: int) -> list[int]:
  return ids[:-1] if ids and ids[-1] == end else ids
