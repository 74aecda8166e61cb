"""What a seqio task's stored tokens depend on, as JSON. Needs seqio.

Everything that determines the tokens is in it: source files with size and time
of change, code and arguments of preprocessors, vocabularies. Stored tokens are
keyed by its hash, so that what changed is made again and nothing else is.
"""

import dataclasses
import functools
import hashlib
import inspect
import json
import os
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import seqio

from hyperjax.data import seqio_tasks
from hyperjax.data.vocabulary import SentencePiece

_MAX_DEPTH = 12


def describe_task(task: Any, split: str) -> dict[str, Any]:
  """Source, preprocessors and features of one split of a task."""
  return {
    "task": task.name,
    "split": split,
    "source": _source(task, split),
    "preprocessors": [_value(fn) for fn in task.preprocessors],
    "features": {
      name: _feature(feature)
      for name, feature in sorted(task.output_features.items())
    },
    "seqio": seqio.__version__,
  }


def key(description: Any) -> str:
  """A hash of a description, hexadecimal."""
  content = json.dumps(description, sort_keys=True, default=str)
  return hashlib.sha256(content.encode()).hexdigest()


def _source(task: Any, split: str) -> Any:
  source: Any = task.source
  if isinstance(source, seqio_tasks.RowsSource):
    return source.made_of(split)
  if isinstance(source, seqio.FileDataSource):
    return {
      "kind": type(source).__name__,
      "files": [_file(path) for path in source.list_shards(split)],
      "read": _value(vars(source)),
    }
  if isinstance(source, seqio.TfdsDataSource):
    return {"kind": "tfds", "source": repr(source), "split": split}
  return {"kind": type(source).__name__, "source": _value(source)}


def _file(path: Any) -> Any:
  try:
    status = os.stat(str(path))
  except OSError:
    return str(path)  # in a bucket: its name must do
  return [str(path), status.st_size, status.st_mtime_ns]


def _feature(feature: Any) -> Any:
  facts = {
    name: value for name, value in vars(feature).items() if name != "vocabulary"
  }
  return {
    "kind": type(feature).__name__,
    "vocabulary": _vocabulary(feature.vocabulary),
    **{name: repr(value) for name, value in sorted(facts.items())},
  }


def _vocabulary(vocabulary: Any) -> Any:
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    path = vocabulary.sentencepiece_model_file
    if os.path.isfile(path):
      return SentencePiece(path, vocabulary.extra_ids).identity
  return [type(vocabulary).__name__, _value(vars(vocabulary))]


def _value(value: Any, depth: int = 0) -> Any:
  """A description of any value that two runs of the same program agree on."""
  if depth > _MAX_DEPTH:
    return "..."
  again = functools.partial(_value, depth=depth + 1)
  if value is None or isinstance(value, (bool, int, float, str)):
    return value
  if isinstance(value, bytes):
    return hashlib.sha256(value).hexdigest()
  if isinstance(value, np.ndarray):
    return [str(value.dtype), list(value.shape), again(value.tobytes())]
  if isinstance(value, Mapping):
    return {str(name): again(item) for name, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [again(item) for item in value]
  if isinstance(value, (set, frozenset)):
    return sorted(json.dumps(again(item)) for item in value)
  if isinstance(value, functools.partial):
    return [
      "partial",
      again(value.func),
      again(value.args),
      again(value.keywords),
    ]
  if isinstance(value, types.CodeType):
    return [again(value.co_code), again(value.co_names), again(value.co_consts)]
  if isinstance(value, types.MethodType):
    return ["method", again(value.__func__), again(value.__self__)]
  if isinstance(value, types.FunctionType):
    cells = [cell.cell_contents for cell in value.__closure__ or ()]
    return [
      f"{value.__module__}.{value.__qualname__}",
      again(value.__code__),
      again(value.__defaults__),
      again(value.__kwdefaults__),
      again(cells),
    ]
  if isinstance(value, type) or inspect.isbuiltin(value):
    return f"{value.__module__}.{value.__qualname__}"
  if isinstance(value, seqio.Feature):
    return _feature(value)
  if isinstance(value, seqio.Vocabulary):
    return _vocabulary(value)
  if dataclasses.is_dataclass(value) or hasattr(value, "__dict__"):
    return [type(value).__qualname__, again(vars(value))]
  return type(value).__qualname__
