"""From seqio tasks to stored tokens. Needs seqio unless they are cached.

`SeqioTasks` is a registered mixture or task, opened as stored tasks: what is
not stored yet, or was made of something else, is made first. seqio and
TensorFlow are imported only then.
"""

import concurrent.futures
import dataclasses
import difflib
import importlib
import json
import logging
import os
import pathlib
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from hyperjax.data import store, vocabulary

_log = logging.getLogger(__name__)
_STOCHASTIC_CHECK = 16  # rows compared between two seeds


class Provider(Protocol):
  """A data set that can register its seqio tasks and mixtures."""

  def register(self) -> None: ...


def default_cache_dir() -> str:
  """HYPERJAX_CACHE, else hyperjax in the user's cache folder."""
  base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  default = str(pathlib.Path(base) / "hyperjax" / "tokens")
  return os.environ.get("HYPERJAX_CACHE", default)


@dataclasses.dataclass(frozen=True)
class SeqioTasks:
  """A seqio mixture or task, as stored tokens.

  Stored tokens are made again when what they were made of has changed: files of
  the source, preprocessors with what they refer to, vocabularies. Files that a
  `seqio.FunctionDataSource` opens by itself cannot be seen: after changing one,
  remove the task's folder in `cache_dir`.

  Attributes:
    mixture_or_task: its registered name.
    split: of every task in it.
    providers: data sets whose tasks are registered first.
    cache_dir: where tokens are stored; by default `default_cache_dir()`.
    use_cached: read stored tokens only, by name and without importing seqio;
      they must have been made by `hyperjax cache`, with the same providers
      (t5x's USE_CACHED_TASKS).
    keep_records: also store the other fields of each row (references, ids):
      evaluation needs them.
  """

  mixture_or_task: str
  split: str = "train"
  providers: Sequence[Provider] = ()
  cache_dir: str | None = None
  use_cached: bool = False
  keep_records: bool = False

  def open(self) -> list[store.Task]:
    """Its tasks with their rates, memory-mapped.

    Raises:
      ValueError: the name is not registered (the nearest names are given), a
        task has no such split, or its data cannot be read.
    """
    cache_dir = self.folder
    made_with = [
      [type(provider).__name__, dataclasses.asdict(provider)]  # pyright: ignore[reportArgumentType]: providers are dataclasses, as gin's objects all are
      for provider in self.providers
    ]
    made_with = json.loads(json.dumps(made_with))
    if self.use_cached:
      return store.open_mixture(
        cache_dir,
        self.mixture_or_task,
        self.split,
        self.keep_records,
        made_with,
      )
    tasks = self.find()
    opened = _open_all(tasks, self.split, cache_dir, self.keep_records)
    store.write_mixture(
      cache_dir,
      self.mixture_or_task,
      self.split,
      self.keep_records,
      [(task.name, task.rate, folder) for task, folder in opened],
      made_with,
    )
    return [task for task, _ in opened]

  @property
  def folder(self) -> pathlib.Path:
    """The folder of `cache_dir`, in which tokens are stored."""
    cache_dir = pathlib.Path(self.cache_dir or default_cache_dir())
    return cache_dir.expanduser().absolute()

  def find(self) -> list[tuple[Any, float]]:
    """Its seqio tasks with their rates, registered first where need be."""
    self.register()
    return find(self.mixture_or_task)

  def register(self) -> None:
    """Registers the tasks of its providers."""
    import_seqio()
    for provider in self.providers:
      provider.register()


def import_seqio() -> Any:
  """seqio, without what TensorFlow writes to the terminal as it loads.

  It writes from C++, and no setting of its own stops it all.
  """
  sys.stderr.flush()
  terminal = os.dup(2)
  with tempfile.TemporaryFile() as written:
    os.dup2(written.fileno(), 2)
    try:
      seqio = importlib.import_module("seqio")
      # TensorFlow only tokenises here: GPUs and their memory are JAX's.
      importlib.import_module("tensorflow").config.set_visible_devices(
        [], "GPU"
      )
      return seqio
    except BaseException:
      written.seek(0)
      os.write(terminal, written.read())
      raise
    finally:
      os.dup2(terminal, 2)
      os.close(terminal)


def find(name: str) -> list[tuple[Any, float]]:
  """The seqio tasks of a registered mixture or task, with rates.

  Raises:
    ValueError: nothing of this name is registered.
  """
  seqio = import_seqio()
  names = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
  if name not in names:
    near = difflib.get_close_matches(name, names, 3, 0.5)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    raise ValueError(
      f"no seqio task or mixture {name!r} is registered (of {len(names)}){hint}"
    )
  provider = seqio.get_mixture_or_task(name)
  if isinstance(provider, seqio.Task):
    return [(provider, 1.0)]
  unique = {task.name: task for task in provider.tasks}
  rated = [(task, float(provider.get_rate(task))) for task in unique.values()]
  chosen = [(task, rate) for task, rate in rated if rate > 0]
  if not chosen:
    raise ValueError(f"mixture {name!r} has no task with a positive rate")
  return chosen


def _open_all(
  tasks: Sequence[tuple[Any, float]],
  split: str,
  cache_dir: pathlib.Path,
  keep_records: bool,
) -> list[tuple[store.Task, pathlib.Path]]:
  """Opens stored tokens of each task, made first where there are none."""
  folders, missing = [], []
  for task, _ in tasks:
    if split not in task.splits:
      raise ValueError(
        f"task {task.name!r} has no split {split!r}, only "
        f"{', '.join(map(str, task.splits))}"
      )
    folder, made_of = folder_of(task, split, cache_dir, keep_records)
    folders.append(folder)
    if not (folder / store.INFO).is_file():
      missing.append((task, split, folder, made_of))
  if missing:
    _make_all(missing, cache_dir, keep_records)
  opened = []
  for (task, rate), folder in zip(tasks, folders, strict=True):
    rows, info = store.read(folder)
    found = vocabulary.open_described(
      info["vocabulary"], cache_dir / store.VOCABULARIES
    )
    if found is None:
      found = _vocabulary(task)
    scoring = SeqioScoring(task) if task.predict_metric_fns else None
    opened.append(
      (
        store.Task(
          task.name,
          split,
          rows,
          rate,
          found,
          scoring,
          store.instruction_of(info),
        ),
        folder,
      )
    )
  return opened


def folder_of(
  task: Any, split: str, cache_dir: pathlib.Path, keep_records: bool
) -> tuple[pathlib.Path, dict[str, Any]]:
  """Where the tokens of a task are stored, and what they are made of."""
  from hyperjax.data import seqio_key  # imports seqio

  made_of = seqio_key.describe_task(task, split)
  made_of["records"] = keep_records
  key = seqio_key.key(made_of)
  return cache_dir / task.name / f"{split}-{key[:16]}", made_of


def _make_all(
  missing: Sequence[tuple[Any, str, pathlib.Path, Any]],
  cache_dir: pathlib.Path,
  keep_records: bool,
) -> None:
  """Stores the tokens of several tasks, some at a time."""
  import tqdm

  _log.info("storing tokens of %d tasks in %s", len(missing), cache_dir)
  try:
    cache_dir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ValueError(
      f"CACHE_DIR {cache_dir} cannot be written: {error}"
    ) from error
  own = {id(task): _vocabulary(task) for task, *_ in missing}
  for found in own.values():
    vocabulary.keep_copy(found, cache_dir / store.VOCABULARIES)
  workers = max(1, min(4, os.cpu_count() or 1))
  stop = threading.Event()
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    made = [
      pool.submit(
        _make, task, own[id(task)], split, folder, made_of, keep_records, stop
      )
      for task, split, folder, made_of in missing
    ]
    done = concurrent.futures.as_completed(made)
    try:
      for future in tqdm.tqdm(
        done, "storing tokens", len(made), disable=None, leave=False
      ):
        future.result()
    except BaseException:
      stop.set()
      pool.shutdown(cancel_futures=True)
      raise


class _Stopped(Exception):  # noqa: N818 - seen by nobody
  """Another task failed, or the user interrupts."""


def _make(
  task: Any,
  own: vocabulary.Vocabulary,
  split: str,
  folder: pathlib.Path,
  made_of: Any,
  keep_records: bool,
  stop: threading.Event,
) -> None:
  from hyperjax.data import seqio_tasks  # imports seqio

  features = [
    name for name in ("inputs", "targets") if name in task.output_features
  ]
  is_direct = seqio_tasks.is_direct(task)
  rows = (_direct_rows if is_direct else _pipeline_rows)(task, split, features)

  def until_stopped() -> Iterator[dict[str, Any]]:
    for row in rows:
      if stop.is_set():
        raise _Stopped
      yield row

  info = {
    "task": task.name,
    "split": split,
    "vocabulary": own.description,
    "made_of": made_of,
  }
  instruction = seqio_tasks.instruction(task)
  if instruction is not None:
    info["instruction"] = own.encode(instruction)
  store.write(folder, until_stopped(), features, info, own.size, keep_records)


def _direct_rows(
  task: Any, split: str, features: Sequence[str]
) -> Iterator[dict[str, Any]]:
  """Rows tokenised by SentencePiece alone: the ids of the task's pipeline.

  A feature that comes with its ids is not tokenised again.
  """
  from hyperjax.data import seqio_tasks  # imports seqio

  vocabularies = {
    name: vocabulary.SentencePiece(
      task.output_features[name].vocabulary.sentencepiece_model_file,
      task.output_features[name].vocabulary.extra_ids,
    )
    for name in features
  }
  for fields in task.source.rows(split):
    row: dict[str, Any] = {"record": dict(fields)}
    for name in features:
      text = row["record"].pop(name)
      if isinstance(text, seqio_tasks.Tokenized):
        row["record"][f"{name}_pretokenized"], row[name] = text
        continue
      row["record"][f"{name}_pretokenized"] = text
      ids = vocabularies[name].encode(text)
      eos_id = vocabularies[name].eos_id
      if task.output_features[name].add_eos and eos_id is not None:
        ids.append(eos_id)
      row[name] = ids
    yield row


def _pipeline_rows(
  task: Any, split: str, features: Sequence[str]
) -> Iterator[dict[str, Any]]:
  """Rows from the task's tf.data pipeline, in order."""
  if task.requires_caching and not task.cache_dir:
    raise ValueError(
      f"task {task.name!r} must be cached by seqio, and is in none of the "
      "folders given to seqio.add_global_cache_dirs"
    )

  def read(seed: int) -> Iterator[dict[str, Any]]:
    if task.requires_caching:
      dataset = task.get_dataset(
        None, split, use_cached=True, shuffle=False, seed=seed
      )
    else:
      # Not task.get_dataset: with a seed it asks the source to take one too.
      dataset = task.source.get_dataset(split=split, shuffle=False)
      dataset = task.preprocess_precache(dataset, seed=seed)
      dataset = task.preprocess_postcache(dataset, None, seed=seed)
    for example in dataset.as_numpy_iterator():
      yield _row(task, example, features)

  _refuse_stochastic(task, read, features)
  yield from read(0)


def _row(
  task: Any, example: Mapping[str, Any], features: Sequence[str]
) -> dict[str, Any]:
  record = {
    name: _plain(value)
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
    if index + 1 >= _STOCHASTIC_CHECK:
      return


def _plain(value: Any) -> Any:
  """A numpy value as JSON."""
  if isinstance(value, bytes):
    return value.decode(errors="replace")
  if isinstance(value, np.ndarray):
    return [_plain(item) for item in value] if value.ndim else _plain(value[()])
  if isinstance(value, np.generic):
    return value.item()
  return value


class SeqioScoring:
  """The metric functions that a seqio task was registered with."""

  def __init__(self, task: Any):
    self._task = task

  def score(
    self,
    predictions: Sequence[str],
    targets: Sequence[str],
    records: Sequence[Mapping[str, Any]],
  ) -> dict[str, float]:
    """What the task's predict metrics say, after its postprocessing.

    Args:
      predictions: decoded answers.
      targets: decoded targets, of the same rows.
      records: the rows' other fields, which postprocessing may read.
    """

    def finish(texts: Sequence[str], is_target: bool) -> list[Any]:
      return [
        self._task.postprocess_fn(text, example=record, is_target=is_target)
        for text, record in zip(texts, records, strict=True)
      ]

    scores: dict[str, float] = {}
    for metric in self._task.predict_metric_fns:
      found = metric(finish(targets, True), finish(predictions, False))
      for name, value in found.items():
        number = _plain(getattr(value, "value", value))  # of metrics.Scalar
        if isinstance(number, (int, float)):
          scores[name] = float(number)
        else:
          _log.warning("metric %s is no number and is left out", name)
    return scores


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


def _vocabulary(task: Any) -> vocabulary.Vocabulary:
  """The vocabulary of a task's features, which must be one."""
  from hyperjax.data import seqio_tasks  # imports seqio

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
  if seqio_tasks.is_plain(own):
    return vocabulary.SentencePiece(own.sentencepiece_model_file, own.extra_ids)
  return _SeqioVocabulary(own)
