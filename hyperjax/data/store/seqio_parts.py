"""Which parts a seqio task's rows have. Needs seqio.

A source whose rows come from Python says so itself. Of the others, those that
read files are split by file where that cannot change a row: where every
preprocessor looks at one row at a time, as seqio's own do, or where seqio itself
would cache the rows file by file.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import seqio

from hyperjax.data.store import (
  seqio_cache,
  seqio_key,
  seqio_rows,
  seqio_tasks,
  tokenising,
)

_BY_ROW = (
  seqio.preprocessors.append_eos,
  seqio.preprocessors.append_eos_after_trim,
  seqio.preprocessors.rekey,
  seqio.preprocessors.tokenize,
  seqio.preprocessors.tokenize_and_append_eos,
)


@dataclasses.dataclass(frozen=True)
class Part:
  """Rows that are stored together.

  Attributes:
    name: of its folder.
    made_of: what its source is; the task's source for all rows.
    read: the rows, as `store.write` takes them.
    is_portable: whether another process may read them.
  """

  name: str
  made_of: Any
  read: Callable[[], Iterable[dict[str, Any]]]
  is_portable: bool


def of(task: Any, split: str) -> list[Part]:
  """The parts of a task's split, in order; one where it has none."""
  if seqio_tasks.is_direct(task):
    return _direct(task, split)
  shards = _shards(task, split) if is_by_row(task) else []
  if len(shards) < 2:
    return [Part("", None, *_read(task, split, None))]
  parts = []
  for number, (path, made_of) in enumerate(shards):
    shard = seqio_rows.Shard(number, len(shards), path)
    name = _name(pathlib.Path(path).name)
    parts.append(Part(name, made_of, *_read(task, split, shard)))
  return parts


def _direct(task: Any, split: str) -> list[Part]:
  """Rows tokenised without tf.data: the ids of the task's pipeline."""
  features = {
    name: tokenising.Feature(own, feature.add_eos)
    for name in seqio_rows.features_of(task)
    for feature in [task.output_features[name]]
    if (own := seqio_tasks.tokenizer_of(feature.vocabulary)) is not None
  }

  where = f"task {task.name!r}, split {split!r}"

  def tokenised(read: Callable[[], Any]) -> Callable[[], Any]:
    return functools.partial(tokenising.tokenised, read, features, where)

  source = task.source
  if source.parts is None:
    read = functools.partial(source.rows, split)
    return [Part("", None, tokenised(read), False)]
  return [
    Part(_name(part.name), part.made_of, tokenised(part.read), True)
    for part in source.parts(split)
  ]


def _read(
  task: Any, split: str, shard: seqio_rows.Shard | None
) -> tuple[Callable[[], Any], bool]:
  """What reads a pipeline's rows, and whether another process may do so.

  It may if a data set's provider registers the same task there. What else the
  user's program may have set up (gin, caches) is not known there.
  """
  owner = seqio_tasks.owner_of(task.name)
  if hasattr(owner, "register") and not seqio_rows.reads_cache(task):
    arguments = owner, task.name, split, shard
    return functools.partial(seqio_rows.read_registered, *arguments), True
  read = functools.partial(seqio_rows.pipeline_rows, task, split, shard)
  return read, False


def _shards(task: Any, split: str) -> list[tuple[str, Any]]:
  """Each file of a source, and what determines the rows that it holds."""
  source = task.source
  facts = {"kind": type(source).__name__, "split": split}
  if seqio_rows.reads_cache(task):
    info = seqio_key.file(f"{task.cache_dir}/info.{split}.json")
    return [
      (path, facts | {"cache": [seqio_key.file(path), info]})
      for path in seqio_cache.shards(task, split)
    ]
  if isinstance(source, seqio.TfdsDataSource):
    return [
      (
        path,
        facts
        | {
          "file": seqio_key.file(path),
          "rows": seqio_key.describe([read.skip, read.take]),
        },
      )
      for path, read in zip(
        source.list_shards(split),
        source.tfds_dataset.files(split),
        strict=True,
      )
    ]
  if isinstance(source, seqio.FileDataSource):
    own = {
      name: value
      for name, value in vars(source).items()
      if name not in ("_split_to_filepattern", "_num_input_examples", "_splits")
    }
    facts["fields"] = seqio_key.describe(own)
    return [
      (path, facts | {"file": seqio_key.file(path)})
      for path in source.list_shards(split)
    ]
  return []


def is_by_row(task: Any) -> bool:
  """Whether rows of a file stay the same if the file is read alone."""
  steps: Sequence[Any] = task.preprocessors
  placeholders = [
    i
    for i, step in enumerate(steps)
    if isinstance(step, seqio.CacheDatasetPlaceholder)
  ]
  if placeholders:  # seqio itself runs what is before it file by file
    steps = steps[placeholders[0] + 1 :]
  return all(
    (step.func if isinstance(step, functools.partial) else step) in _BY_ROW
    for step in steps
  )


def _name(name: str) -> str:
  """A name as part of a folder's."""
  return re.sub(r"[^\w.-]+", "_", name)[-100:]
