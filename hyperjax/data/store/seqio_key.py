"""What a seqio task's stored tokens depend on, as JSON. Needs seqio.

Everything that determines the tokens is in it: source files with size and time
of change, code and arguments of preprocessors with the functions and constants
that they use, vocabularies. Stored tokens are keyed by its hash, so that what
changed is made again and nothing else is. What a function reads from files of
its own is the one thing that cannot be seen.

Functions of installed libraries count by name and version; the user's own by
their code and by what that code refers to.
"""

import dataclasses
import functools
import hashlib
import inspect
import json
import os
import pathlib
import re
import sys
import sysconfig
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from hyperjax.data.store import seqio_copies, seqio_tasks
from hyperjax.data.store.seqio_vocabulary import SeqioTokenizer
from hyperjax.data.vocabulary import SentencePiece

_LIBRARIES = tuple(
  sysconfig.get_path(name)
  for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def describe_task(task: Any, split: str) -> dict[str, Any]:
  """Source, preprocessors and features of one split of a task.

  Raises:
    ValueError: it depends on an object whose content cannot be told.
  """
  try:
    return {
      "task": task.name,
      "split": split,
      "source": _source(task, split),
      "preprocessors": [describe(fn) for fn in task.preprocessors],
      "features": {
        name: describe(feature)
        for name, feature in sorted(task.output_features.items())
      },
      "seqio": seqio.__version__,
    }
  except _Unknown as error:
    raise ValueError(
      f"task {task.name!r} depends on {error}, whose content cannot be told, "
      "so that stored tokens would not notice a change of it. Pass plain "
      "values, files or functions to its preprocessors and its source instead"
    ) from error


def key(description: Any) -> str:
  """A hash of a description, hexadecimal."""
  content = json.dumps(description, sort_keys=True)
  return hashlib.sha256(content.encode()).hexdigest()


def describe(value: Any) -> Any:
  """A description of a value that two runs of the same program agree on."""
  return _Description().of(value)


class _Unknown(Exception):  # noqa: N818 - becomes a ValueError that names the task
  """An object that has neither fields nor a telling representation."""


def _source(task: Any, split: str) -> Any:
  source: Any = task.source
  if isinstance(source, seqio_tasks.RowsSource):
    return source.made_of(split)
  facts: dict[str, Any] = {"kind": type(source).__name__, "split": split}
  if task.supports_caching and task.cache_dir:
    cached = sorted(tf.io.gfile.glob(os.path.join(task.cache_dir, "*")))
    if seqio_copies.original(task.cache_dir) != task.cache_dir:
      # Of the others as much is here as was ever asked for.
      own = (f"{split}.", f"info.{split}.", f"stats.{split}.")
      cached = [x for x in cached if os.path.basename(x).startswith(own)]
    return facts | {"cache": [file(path) for path in cached]}
  if isinstance(source, seqio.FileDataSource):
    facts["files"] = [file(path) for path in source.list_shards(split)]
  if isinstance(source, seqio.TfdsDataSource):
    if source.tfds_dataset.info.splits:  # it is prepared
      facts["files"] = [file(path) for path in source.list_shards(split)]
    return facts | {"source": repr(source)}
  return facts | {"fields": describe(vars(source))}


def file(path: Any) -> Any:
  """Name, size and time of change of a source's file."""
  try:
    status = os.stat(str(path))
  except OSError:
    return str(path)  # in a bucket: its name must do
  name = seqio_copies.original(str(path))
  return [name, status.st_size, status.st_mtime_ns]


class _Description:
  """One walk over values; what is met again is named, not walked again."""

  def __init__(self):
    self._met: dict[int, Any] = {}  # by id, kept alive

  def of(self, value: Any) -> Any:
    plain = _plain(value)
    if plain is not None or value is None:
      return plain
    if isinstance(value, Mapping):
      return [[self.of(name), self.of(item)] for name, item in value.items()]
    if isinstance(value, (list, tuple)):
      return [self.of(item) for item in value]
    if isinstance(value, (set, frozenset)):
      return sorted(json.dumps(self.of(item)) for item in value)
    if id(value) in self._met:
      return ["met before", _name(value)]
    self._met[id(value)] = value
    if isinstance(value, functools.partial):
      parts = (value.func, value.args, value.keywords)
      return ["partial", *map(self.of, parts)]
    if isinstance(value, types.MethodType):
      return ["method", self.of(value.__func__), self.of(value.__self__)]
    if isinstance(value, types.FunctionType):
      return self._function(value)
    if isinstance(value, type):
      return self._type(value)
    if inspect.isbuiltin(value) or isinstance(value, np.ufunc):
      return _name(value)
    return self._object(value)

  def _function(self, function: types.FunctionType) -> Any:
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    given = (function.__defaults__, function.__kwdefaults__, cells)
    described = [_name(function), *map(self.of, given)]
    if _is_of_library(function.__module__):
      return [*described, _version(function.__module__)]
    return [*described, self._code(function.__code__, function.__globals__)]

  def _code(self, code: types.CodeType, names: Mapping[str, Any]) -> Any:
    """Instructions, constants, and the globals that they refer to."""
    constants = [
      self._code(item, names)
      if isinstance(item, types.CodeType)
      else self.of(item)
      for item in code.co_consts
    ]
    used = {name: names[name] for name in code.co_names if name in names}
    return [
      self.of(code.co_code),
      list(code.co_names),
      constants,
      self.of(used),
    ]

  def _type(self, kind: type) -> Any:
    if _is_of_library(kind.__module__):
      return [_name(kind), _version(kind.__module__)]
    functions = {
      name: member
      for name, member in vars(kind).items()
      if isinstance(member, types.FunctionType)
    }
    return [_name(kind), self.of(functions)]

  def _object(self, value: Any) -> Any:
    if isinstance(value, SeqioTokenizer):
      return [_name(type(value)), value.tokenizer.identity]
    if isinstance(value, seqio.SentencePieceVocabulary):
      fields = {k: v for k, v in vars(value).items() if k != "_model"}
      path = value.sentencepiece_model_file
      if os.path.isfile(path):
        identity = SentencePiece(path, value.extra_ids).identity
        fields["_sentencepiece_model_file"] = identity
      return [_name(type(value)), self.of(fields)]
    if dataclasses.is_dataclass(value) or hasattr(value, "__dict__"):
      return [self.of(type(value)), self.of(vars(value))]
    raise _Unknown(f"a {_name(type(value))}")


def _plain(value: Any) -> Any:
  """A value without parts; None for any other."""
  if isinstance(value, (bool, int, float, str)):
    return value
  if isinstance(value, bytes):
    return ["bytes", hashlib.sha256(value).hexdigest()]
  if isinstance(value, (np.ndarray, np.generic)):
    digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    if value.dtype == object:
      digest = hashlib.sha256(repr(value.tolist()).encode()).hexdigest()
    return ["array", str(value.dtype), list(value.shape), digest]
  if isinstance(value, tf.Tensor) and hasattr(value, "numpy"):
    return ["tensor", *_plain(np.asarray(value.numpy()))]
  if isinstance(value, re.Pattern):
    return ["pattern", str(value.pattern), value.flags]
  if isinstance(value, types.ModuleType):
    return ["module", value.__name__, _version(value.__name__)]
  telling = (range, slice, complex, pathlib.PurePath, tf.DType, tf.TensorSpec)
  if isinstance(value, telling) or value is ... or value is NotImplemented:
    return [type(value).__name__, repr(value)]
  return None


def _name(value: Any) -> str:
  of = value if hasattr(value, "__qualname__") else type(value)
  return f"{getattr(of, '__module__', '')}.{of.__qualname__}"


def _is_of_library(module_name: str | None) -> bool:
  """Whether a module is installed, not the user's own and not ours."""
  top = (module_name or "").partition(".")[0]
  if top in ("hyperjax", "__main__"):
    return False
  if top in sys.builtin_module_names:
    return True
  file = getattr(sys.modules.get(top), "__file__", None)
  return file is not None and str(file).startswith(_LIBRARIES)


def _version(module_name: str | None) -> str | None:
  top = sys.modules.get((module_name or "").partition(".")[0])
  version = getattr(top, "__version__", None)
  return version if isinstance(version, str) else None
