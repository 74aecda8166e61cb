"""From seqio tasks to stored tokens. Needs seqio unless they are cached.

`SeqioTasks` is a registered mixture or task, opened as stored tasks: what is
not stored yet, or was made of something else, is made first. seqio and
TensorFlow are imported only then.
"""

import dataclasses
import functools
import json
import logging
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hyperjax import checks, paths
from hyperjax.data import vocabularies
from hyperjax.data.store import (
  build,
  in_bucket,
  mixtures,
  seqio_copies,
  seqio_mixtures,
  seqio_rows,
  store,
)
from hyperjax.data.store.job import Job
from hyperjax.data.store.seqio_scoring import SeqioScoring

_log = logging.getLogger(__name__)


class Provider(Protocol):
  """A data set that can register its seqio tasks and mixtures."""

  def register(self) -> None: ...


def default_cache_dir() -> str:
  """HYPERJAX_CACHE, else hyperjax in the user's cache folder."""
  own = os.environ.get("HYPERJAX_CACHE")
  return str(paths.user_cache() / "tokens") if own is None else own


@dataclasses.dataclass(frozen=True)
class SeqioTasks:
  """A seqio mixture or task, as stored tokens.

  Stored tokens are made again when what they were made of has changed: files of
  the source, preprocessors with what they refer to, vocabularies. Files that a
  `seqio.FunctionDataSource` opens by itself cannot be seen: after changing one,
  remove the task's folder in `cache_dir`.

  Attributes:
    mixture_or_task: its registered name.
    split: of every task in it; those of a mixture that lack it are left out.
    providers: data sets whose tasks are registered first.
    cache_dir: where tokens are stored; by default `default_cache_dir()`.
    use_cached: read stored tokens only, by name and without importing seqio;
      they must have been made by `hyperjax cache`, with the same providers
      (t5x's USE_CACHED_TASKS).
    keep_records: also store the other fields of each row (references, ids):
      evaluation needs them.
    num_processes: how many processes tokenise at once; by default one for each
      core, once storing has lasted some seconds.
    cache_dirs: folders into which `seqio_cache_tasks` has cached tasks: tasks that
      may be cached are read from there, and from nowhere else. Of one in a bucket
      what is read is copied first.
    max_rows: of a split, or a file of it: more are taken for rows without end.
  """

  mixture_or_task: str
  split: str = "train"
  providers: Sequence[Provider] = ()
  cache_dir: str | None = None
  use_cached: bool = False
  keep_records: bool = False
  num_processes: checks.NumProcesses | None = None
  cache_dirs: Sequence[str] = ()
  max_rows: checks.Count = 100_000_000

  def __post_init__(self):
    checks.fields(self)

  def open(self) -> list[store.Task]:
    """Its tasks with their rates, memory-mapped.

    Raises:
      ValueError: the name is not registered (the nearest names are given), no
        task has such a split, tasks differ in their vocabulary, a rate cannot be
        told, or data cannot be read.
    """
    cache_dir = self.folder
    made_with = [
      [type(provider).__name__, dataclasses.asdict(provider)]  # pyright: ignore[reportArgumentType]: providers are dataclasses, as gin's objects all are
      for provider in self.providers
    ]
    made_with = json.loads(json.dumps(made_with))
    if self.use_cached:
      return mixtures.open_mixture(
        cache_dir,
        self.mixture_or_task,
        self.split,
        self.keep_records,
        made_with,
      )
    here = in_bucket.Mirror(cache_dir).folder
    opened = self._open(self.find(), self.split)
    mixtures.write_mixture(
      cache_dir,
      self.mixture_or_task,
      self.split,
      self.keep_records,
      [
        (task.name, task.rate, cache_dir / folder.relative_to(here))
        for task, folder in opened
      ],
      made_with,
    )
    return [task for task, _ in opened]

  @property
  def folder(self) -> pathlib.Path:
    """The folder of `cache_dir`, in which tokens are stored."""
    return paths.at(self.cache_dir or default_cache_dir()).absolute()

  def find(self) -> list[tuple[Any, float]]:
    """Its seqio tasks with their rates, registered first where need be.

    Raises:
      ValueError: as for `open`.
    """
    self.register()
    provider = seqio_mixtures.find(self.mixture_or_task)
    tasks = seqio_mixtures.tasks_of(provider)
    folders = seqio_copies.copied(self.cache_dirs, tasks)
    if folders:
      seqio_mixtures.cached(folders)  # a rate may be that of cached rows
    tasks = seqio_mixtures.having(provider, tasks, self.split)
    rates = seqio_mixtures.rates(provider, tasks, self._count)
    found = [x for x in zip(tasks, rates, strict=True) if x[1] > 0]
    if not found:
      raise ValueError(
        f"mixture {self.mixture_or_task!r} has no task with a positive rate"
      )
    if folders:
      seqio_mixtures.cached(folders, [task for task, _ in found])
    return found

  def _count(self, task: Any, split: str) -> int:
    """Rows of a task's split, stored first where need be."""
    [(opened, _)] = self._open([(task, 1.0)], split)
    return len(opened.rows)

  def _open(
    self, tasks: Sequence[tuple[Any, float]], split: str
  ) -> list[tuple[store.Task, pathlib.Path]]:
    mirror = in_bucket.Mirror(self.folder)
    opened = _open_all(tasks, split, self, mirror)
    mirror.send(folder for _, folder in opened)
    return opened

  def register(self) -> None:
    """Registers the tasks of its providers."""
    seqio_rows.import_seqio()
    for provider in self.providers:
      provider.register()


def _open_all(
  tasks: Sequence[tuple[Any, float]],
  split: str,
  asked: SeqioTasks,
  mirror: in_bucket.Mirror,
) -> list[tuple[store.Task, pathlib.Path]]:
  """Opens stored tokens of each task, made first where there are none."""
  cache_dir, keep_records, stores = mirror.folder, asked.keep_records, []
  for task, _ in tasks:
    if split not in task.splits:
      raise ValueError(
        f"task {task.name!r} has no split {split!r}, only "
        f"{', '.join(map(str, task.splits))}"
      )
    seqio_copies.bring(task, split)
    folder, made_of = folder_of(task, split, cache_dir, keep_records)
    most = asked.max_rows
    stores.append(_Store(task, split, folder, made_of, keep_records, most))
  mirror.bring(of.folder for of in stores)
  missing = [of for of in stores if not store.is_whole(of.folder)]
  if missing:
    _make(missing, mirror, asked.num_processes)
  opened = []
  for (task, rate), of in zip(tasks, stores, strict=True):
    rows, info = store.read(of.folder)
    _check_count(task, split, len(rows))
    found = vocabularies.open_described(
      info["vocabulary"], cache_dir / store.VOCABULARIES
    )
    if found is None:
      found = seqio_rows.vocabulary_of(task)
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
        of.folder,
      )
    )
  return opened


def _check_count(task: Any, split: str, num_rows: int) -> None:
  """Refuses the tokens of a cache of seqio's that has lost rows."""
  from hyperjax.data.store import seqio_cache, seqio_parts  # import seqio

  if seqio_rows.reads_cache(task) and seqio_parts.is_by_row(task):
    seqio_cache.check_count(task, split, num_rows)


def folder_of(
  task: Any, split: str, cache_dir: pathlib.Path, keep_records: bool
) -> tuple[pathlib.Path, dict[str, Any]]:
  """Where the tokens of a task are stored, and what they are made of."""
  from hyperjax.data.store import seqio_key  # imports seqio

  made_of = seqio_key.describe_task(task, split)
  made_of["records"] = keep_records
  key = seqio_key.key(made_of)
  return cache_dir / task.name / f"{split}-{key[:16]}", made_of


@dataclasses.dataclass(frozen=True)
class _Store:
  """A task's store to be."""

  task: Any
  split: str
  folder: pathlib.Path
  made_of: dict[str, Any]
  keep_records: bool
  max_rows: int

  def info(self, made_of: Mapping[str, Any]) -> dict[str, Any]:
    from hyperjax.data.store import seqio_tasks  # imports seqio

    own = seqio_rows.vocabulary_of(self.task)
    info = {
      "task": self.task.name,
      "split": self.split,
      "vocabulary": own.description,
      "made_of": made_of,
    }
    instruction = seqio_tasks.instruction(self.task)
    if instruction is not None:
      info["instruction"] = own.encode(instruction)
    return info

  def jobs(self) -> list[Job]:
    """What makes it: one job, or one for each of its parts.

    A part's folder is keyed by what the part is made of, so that it serves all
    stores that have it.
    """
    from hyperjax.data.store import seqio_key, seqio_parts  # import seqio

    parts = seqio_parts.of(self.task, self.split)
    features = tuple(seqio_rows.features_of(self.task))
    where = f"task {self.task.name!r}, split {self.split!r}"
    num_ids = seqio_rows.vocabulary_of(self.task).size
    jobs = []
    for part in parts:
      folder, made_of = self.folder, self.made_of
      if len(parts) > 1:
        made_of = self.made_of | {"source": part.made_of}
        name = f"{part.name}-{seqio_key.key(made_of)[:16]}"
        folder = self.folder.parent / f"{self.split}-parts" / name
      jobs.append(
        Job(
          folder,
          functools.partial(
            seqio_rows.bounded, part.read, where, self.max_rows
          ),
          features,
          self.info(made_of),
          num_ids,
          self.keep_records,
          part.is_portable,
        )
      )
    return jobs


def _make(
  missing: Sequence[_Store],
  mirror: in_bucket.Mirror,
  num_processes: int | None,
) -> None:
  """Stores the tokens of several tasks, some at a time."""
  cache_dir = mirror.folder
  _log.info("storing tokens of %d tasks in %s", len(missing), cache_dir)
  try:
    cache_dir.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ValueError(
      f"CACHE_DIR {cache_dir} cannot be written: {error}"
    ) from error
  for of in missing:
    own = seqio_rows.vocabulary_of(of.task)
    vocabularies.keep_copy(own, cache_dir / store.VOCABULARIES)
  jobs = [of.jobs() for of in missing]
  build.make_all([job for some in jobs for job in some], num_processes, mirror)
  for of, some in zip(missing, jobs, strict=True):
    if len(some) > 1:
      parts = [job.folder for job in some]
      store.write_joined(of.folder, parts, of.info(of.made_of))
