"""Which stores a mixture is made of, noted beside them: tasks without seqio."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax import checks
from hyperjax.data import files, vocabulary
from hyperjax.data.store import store
from hyperjax.data.store.store import Task

MIXTURES = "mixtures"


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
  files.replace(path, json.dumps(content, indent=1) + "\n")


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
  chosen = _find_mixture(cache_dir, name, split, has_records, made_with)
  tasks = []
  for entry in chosen["tasks"]:
    rows, info = store.read(cache_dir / entry["folder"])
    found = vocabulary.open_described(
      info["vocabulary"], cache_dir / store.VOCABULARIES
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
  return tasks


def _find_mixture(
  cache_dir: pathlib.Path,
  name: str,
  split: str,
  has_records: bool,
  made_with: Any,
) -> dict[str, Any]:
  paths = sorted((cache_dir / MIXTURES).glob("*.json"))
  all_stored = [json.loads(path.read_text()) for path in paths]
  stored = [
    mixture
    for mixture in all_stored
    if (mixture["mixture"], mixture["split"]) == (name, split)
    and mixture["records"] >= has_records
  ]
  if not stored:
    known = {f"{m['mixture']} ({m['split']})" for m in all_stored}
    raise ValueError(
      f"no stored tokens of {name!r}, split {split!r}"
      f"{', with records,' if has_records else ''} in {cache_dir}; it "
      f"holds {', '.join(sorted(known)) or 'none'}. Make them with `hyperjax "
      "cache`, or set USE_CACHED_TASKS to False"
    )
  fitting = [m for m in stored if made_with in (None, m["made_with"])]
  if not fitting:
    raise ValueError(
      f"the tokens of {name!r}, split {split!r}, in {cache_dir} were made with "
      f"{_listed(stored)}; {json.dumps(made_with)} is asked for"
    )
  if len({json.dumps(m["made_with"]) for m in fitting}) > 1:
    raise ValueError(
      f"{cache_dir} holds tokens of {name!r}, split {split!r}, made with "
      f"{_listed(fitting)}: keep each in a CACHE_DIR of its own"
    )
  return min(fitting, key=lambda mixture: mixture["records"])


def _listed(stored: Sequence[Mapping[str, Any]]) -> str:
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
      pathlib.Path(self.cache_dir).expanduser(),
      self.mixture_or_task,
      self.split,
      self.keep_records,
    )
