"""Which stores a mixture is made of, noted beside them: tasks without seqio."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hyperjax import checks, paths
from hyperjax.data import files, vocabularies
from hyperjax.data.store import in_bucket, store
from hyperjax.data.store.store import Task

MIXTURES = "mixtures"
_MOST_RATE = 1e300


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
  paths.replace(path, json.dumps(content, indent=1) + "\n")


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
  path, chosen = _find_mixture(cache_dir, name, split, has_records, made_with)
  for number, entry in enumerate(chosen["tasks"]):
    _check_entry(entry, f"{path}, task {number}")
  tasks, mirror = [], in_bucket.Mirror(cache_dir)
  mirror.bring(mirror.folder / entry["folder"] for entry in chosen["tasks"])
  for number, entry in enumerate(chosen["tasks"]):
    where = f"{path}, task {number}"
    try:
      rows, info = store.read(mirror.folder / entry["folder"])
    except ValueError as error:
      raise ValueError(f"{where}: {error}") from error
    found = vocabularies.open_described(
      info.get("vocabulary"), cache_dir / store.VOCABULARIES
    )
    tasks.append(
      Task(
        entry["task"],
        split,
        rows,
        entry["rate"],
        found,
        instruction=store.instruction_of(info),
      )
    )
  _check_vocabularies(tasks, path)
  return tasks


def _check_vocabularies(tasks: Sequence[Task], path: pathlib.Path) -> None:
  """Refuses ids of different vocabularies: one T5 could read but one of them."""

  def facts(task: Task) -> Any:
    own = task.vocabulary.description if task.vocabulary else {}
    return {name: x for name, x in own.items() if name != "path"}

  for task in tasks[1:]:
    if facts(task) != facts(tasks[0]):
      raise ValueError(
        f"{path}: tasks of a mixture must have one vocabulary; {tasks[0].name!r} "
        f"has {facts(tasks[0])}, {task.name!r} has {facts(task)}"
      )


def _find_mixture(
  cache_dir: pathlib.Path,
  name: str,
  split: str,
  has_records: bool,
  made_with: Any,
) -> tuple[pathlib.Path, dict[str, Any]]:
  """A mixture that was stored, and the file that says so."""
  paths = sorted((cache_dir / MIXTURES).glob("*.json"))
  all_stored = {path: _read(path) for path in paths}
  stored = {
    path: mixture
    for path, mixture in all_stored.items()
    if (mixture["mixture"], mixture["split"]) == (name, split)
    and mixture["records"] >= has_records
  }
  if not stored:
    known = {f"{m['mixture']} ({m['split']})" for m in all_stored.values()}
    raise ValueError(
      f"no stored tokens of {name!r}, split {split!r}"
      f"{', with records,' if has_records else ''} in {cache_dir}; it "
      f"holds {', '.join(sorted(known)) or 'none'}. Make them with `hyperjax "
      "cache`, or set USE_CACHED_TASKS to False"
    )
  fitting = {
    path: mixture
    for path, mixture in stored.items()
    if made_with in (None, mixture["made_with"])
  }
  if not fitting:
    raise ValueError(
      f"the tokens of {name!r}, split {split!r}, in {cache_dir} were made with "
      f"{_listed(stored.values())}; {json.dumps(made_with)} is asked for"
    )
  if len({json.dumps(m["made_with"]) for m in fitting.values()}) > 1:
    raise ValueError(
      f"{cache_dir} holds tokens of {name!r}, split {split!r}, made with "
      f"{_listed(fitting.values())}: keep each in a CACHE_DIR of its own"
    )
  return min(fitting.items(), key=lambda found: found[1]["records"])


def _read(path: pathlib.Path) -> dict[str, Any]:
  """What was noted of a mixture; its tasks are looked at when it is chosen."""
  content, where = files.read_json(path), str(path)
  for name in ("mixture", "split"):
    files.text_field(content, name, where)
  if not isinstance(files.field(content, "records", where), bool):
    raise ValueError(
      f"{where}: 'records' must be true or false, got {content['records']!r:.80}"
    )
  files.field(content, "made_with", where)
  files.list_field(content, "tasks", where)
  return content


def _check_entry(entry: Any, where: str) -> None:
  for name in ("task", "folder"):
    files.text_field(entry, name, where)
  rate = files.field(entry, "rate", where)
  is_number = type(rate) in (int, float) and 0 <= rate <= _MOST_RATE
  if not is_number:
    raise ValueError(
      f"{where}: 'rate' must be a number of 0 or more, got {rate!r:.80}"
    )


def _listed(stored: Iterable[Mapping[str, Any]]) -> str:
  return " and ".join(sorted({json.dumps(m["made_with"]) for m in stored}))


@dataclasses.dataclass(frozen=True)
class StoredTasks:
  """A mixture or task whose tokens `hyperjax cache` has stored."""

  mixture_or_task: str
  cache_dir: str
  split: str = "train"
  keep_records: bool = False

  def __post_init__(self):
    checks.fields(self)

  def open(self) -> list[Task]:
    """Its tasks, memory-mapped."""
    return open_mixture(
      paths.at(self.cache_dir),
      self.mixture_or_task,
      self.split,
      self.keep_records,
    )
