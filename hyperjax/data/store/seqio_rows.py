"""Rows of seqio tasks as their pipelines yield them. Needs seqio when called."""

import functools
import importlib
import os
import pathlib
import re
from collections.abc import (
  Callable,
  Iterable,
  Iterator,
  Mapping,
  Sequence,
)
from typing import Any, NamedTuple

import numpy as np

from hyperjax.data import record_files, vocabulary
from hyperjax.data.store import terminal

_NUM_COMPARED = 16  # rows, between two seeds


@functools.cache
def import_seqio() -> Any:
  """seqio, without what TensorFlow writes to the terminal as it loads."""
  import_tensorflow()
  with terminal.silence():
    return importlib.import_module("seqio")


@functools.cache
def import_tensorflow() -> Any:
  """TensorFlow, as `import_seqio`; GPUs and their memory are left to JAX."""
  with terminal.silence():
    tensorflow = importlib.import_module("tensorflow")
    tensorflow.config.set_visible_devices([], "GPU")
  return tensorflow


def features_of(task: Any) -> list[str]:
  """The features that are stored, in their order."""
  return [
    name for name in ("inputs", "targets") if name in task.output_features
  ]


class Shard(NamedTuple):
  """A file of a source that has several."""

  number: int
  num_shards: int
  path: str


def pipeline_rows(
  task: Any, split: str, shard: Shard | None = None
) -> Iterator[dict[str, Any]]:
  """Rows from the task's tf.data pipeline, in order; those of one file or all.

  Raises:
    ValueError: a file is damaged, or rows are not what can be stored.
  """
  features = features_of(task)

  def read(seed: int) -> Iterator[dict[str, Any]]:
    dataset = _dataset(task, split, shard, seed)
    if dataset.cardinality() == import_tensorflow().data.INFINITE_CARDINALITY:
      raise ValueError(
        f"task {task.name!r}, split {split!r}: the source has no end. Rows are "
        "stored once: give it one (tf.data's take)"
      )
    examples = dataset.as_numpy_iterator()
    if reads_cache(task):
      from hyperjax.data.store import seqio_cache  # imports seqio

      examples = seqio_cache.checked(task, examples)
    for example in examples:
      yield _row(task, example, features)

  errors = import_tensorflow().errors
  if shard and ".tfrecord" in shard.path and os.path.isfile(shard.path):
    record_files.check(pathlib.Path(shard.path))
  try:
    if not shard or not shard.number:  # all shards have these preprocessors
      _refuse_stochastic(task, read, features)
    yield from read(0)
  except (errors.DataLossError, errors.NotFoundError) as error:
    where = shard.path if shard else f"a file of split {split!r}"
    raise ValueError(
      f"task {task.name!r}: {where} is missing, damaged or cut short: "
      f"{_words(error)}"
    ) from error
  except errors.OpError as error:
    where = _broken_row(task, split, shard)
    raise ValueError(
      f"task {task.name!r}: {where} cannot be read: {_words(error)}"
    ) from error


def bounded(
  read: Callable[[], Iterable[Mapping[str, Any]]], where: str, most: int
) -> Iterator[Mapping[str, Any]]:
  """What `read` yields, as long as it ends.

  Raises:
    ValueError: there are more rows than `most`.
  """
  for number, row in enumerate(read()):
    if number >= most:
      raise ValueError(
        f"{where}: there are more than {most:,} rows, and no end in sight. Rows "
        "are stored once: give the source an end (tf.data's take), or raise "
        "SeqioTasks.max_rows"
      )
    yield row


def _words(error: Any) -> str:
  """What an error of TensorFlow says, without the nodes of its graph."""
  text = re.sub(r"\{\{.*?\}\}\s*|\[\[.*?\]\]|\[Op:.*?\]", "", error.message)
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return lines[0] if lines else type(error).__name__


def _broken_row(task: Any, split: str, shard: Shard | None) -> str:
  """Where a row stands that cannot be read: its file, and which it is there.

  Rows are read again for it, file by file.
  """
  shards: list[Shard | None] = [shard]
  if shard is None:
    try:
      paths = [str(path) for path in task.source.list_shards(split)]
    except Exception:  # of a source without files, whatever it raises
      paths = []
    paths = [path for path in paths if os.path.isfile(path)]
    shards = [Shard(i, len(paths), x) for i, x in enumerate(paths)] or [None]
  for own in shards:
    count = 0
    try:
      for _ in _dataset(task, split, own, 0).as_numpy_iterator():
        count += 1
    except import_tensorflow().errors.OpError:
      return f"row {count + 1:,} of {own.path if own else f'split {split!r}'}"
  return f"a row of split {split!r}"


def read_registered(
  provider: Any, name: str, split: str, shard: Shard | None
) -> Iterator[dict[str, Any]]:
  """`pipeline_rows` of a task that `provider` registers, in any process."""
  seqio = import_seqio()
  provider.register()
  return pipeline_rows(seqio.TaskRegistry.get(name), split, shard)


def reads_cache(task: Any) -> bool:
  """Whether a task's rows come from what seqio has cached of it.

  Raises:
    ValueError: they must, and there is no cache.
  """
  if task.requires_caching and not task.cache_dir:
    raise ValueError(
      f"task {task.name!r} must be cached by seqio, and is in none of the "
      "folders given to seqio.add_global_cache_dirs"
    )
  return task.supports_caching and bool(task.cache_dir)


def _dataset(task: Any, split: str, shard: Shard | None, seed: int) -> Any:
  options: dict[str, Any] = {"split": split, "shuffle": False}
  if shard:
    options["shard_info"] = import_seqio().ShardInfo(
      shard.number, shard.num_shards
    )
  if reads_cache(task):
    return task.get_dataset(None, use_cached=True, seed=seed, **options)
  # Not task.get_dataset: with a seed it asks the source to take one too.
  dataset = task.source.get_dataset(**options)
  dataset = task.preprocess_precache(dataset, seed=seed)
  return task.preprocess_postcache(dataset, None, seed=seed)


def _row(
  task: Any, example: Mapping[str, Any], features: Sequence[str]
) -> dict[str, Any]:
  record = {
    name: plain(value)
    for name, value in example.items()
    if name not in task.output_features
  }
  row: dict[str, Any] = {"record": record}
  for name in features:
    if name not in example:
      raise ValueError(
        f"task {task.name!r} yields no {name!r}, only {sorted(example)}"
      )
    ids = np.asarray(example[name])
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
      raise ValueError(
        f"task {task.name!r}: {name} must be a row of token ids, got "
        f"{ids.dtype} of shape {ids.shape}"
      )
    row[name] = ids
  return row


def _refuse_stochastic(
  task: Any,
  read: Callable[[int], Iterator[dict[str, Any]]],
  features: Sequence[str],
) -> None:
  """Tokens stored once must not depend on a seed: that would fix one draw."""
  for index, (one, other) in enumerate(zip(read(0), read(1), strict=False)):
    for name in features:
      if not np.array_equal(one[name], other[name]):
        raise ValueError(
          f"task {task.name!r}: {name} of row {index} changes with the seed, "
          "so a preprocessor draws random numbers. Tokens are stored once; "
          "make the preprocessor depend on the row alone"
        )
    if index + 1 >= _NUM_COMPARED:
      return


def plain(value: Any) -> Any:
  """A numpy value as JSON."""
  if isinstance(value, bytes):
    return value.decode(errors="replace")
  if isinstance(value, np.ndarray):
    return [plain(item) for item in value] if value.ndim else plain(value[()])
  if isinstance(value, np.generic):
    return value.item()
  return value


class _SeqioVocabulary:
  """A seqio vocabulary that is not SentencePiece, or not on this disk."""

  def __init__(self, wrapped: Any):
    self._wrapped = wrapped

  @property
  def size(self) -> int:
    return self._wrapped.vocab_size

  @property
  def eos_id(self) -> int | None:
    return self._wrapped.eos_id

  @property
  def description(self) -> dict[str, Any]:
    return {"kind": "seqio", "name": str(self._wrapped), "size": self.size}

  def encode(self, text: str) -> list[int]:
    return list(self._wrapped.encode(text))

  def decode(self, ids: Any) -> str:
    return self._wrapped.decode([int(i) for i in ids])


@functools.cache
def vocabulary_of(task: Any) -> vocabulary.Vocabulary:
  """The vocabulary of a task's features, which must be one.

  Raises:
    ValueError: inputs have another than targets, or there are no targets.
  """
  from hyperjax.data.store import seqio_tasks  # imports seqio

  features = {
    name: task.output_features[name]
    for name in ("inputs", "targets")
    if name in task.output_features
  }
  if "targets" not in features:
    raise ValueError(
      f"task {task.name!r} has no feature 'targets', only "
      f"{sorted(task.output_features)}"
    )
  own = features["targets"].vocabulary
  if "inputs" in features and features["inputs"].vocabulary != own:
    raise ValueError(
      f"task {task.name!r}: inputs and targets have different vocabularies, "
      "T5 embeds both with one"
    )
  return seqio_tasks.tokenizer_of(own) or _SeqioVocabulary(own)
