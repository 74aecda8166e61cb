"""Super-NaturalInstructions from its own folder (Wang et al., 2022).

The folder holds `tasks/*.json` and `splits/<list>/{train,test}_tasks.txt`, as in
the authors' repository. Each file becomes a seqio task `sni_<name>`; `sni_train`
and `sni_test` are the mixtures of the split lists.

Training tasks have their Instances as split "train". Test tasks have the first
100 Instances, which are the official ones, as split "test". Both have their
Positive Examples as split "positive": the demonstrations of a test task, which
has no other pool to draw from. A task's Definition is its instruction.

`TrainingInputs` has the inputs of the training tasks as plain text, to pretrain
on: no outputs, and nothing of the test tasks.
"""

import collections
import dataclasses
import functools
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

from hyperjax import checks, paths
from hyperjax.data import files

_log = logging.getLogger(__name__)

READER = 2  # of the rows below: stored tokens are made again when it changes
NUM_TEST_INSTANCES = 100
POSITIVE = "positive"
_FIELDS = {"inputs": 0, "targets": 0, "references": 1, "id": 0, "category": 0}


@dataclasses.dataclass(frozen=True)
class SuperNaturalInstructions:
  """Registers the data set's tasks and mixtures.

  Attributes:
    data_dir: the folder of all data sets.
    folder: in it, the one of `tasks/` and `splits/`.
    vocabulary: a SentencePiece model file, in `data_dir` or anywhere.
    extra_ids: on top of the vocabulary, T5's sentinels.
    split_list: which of `splits/` is used: "default" is the official English
      track.
    skip_missing: leave out tasks of the list that have no file, saying how
      many, instead of refusing.
  """

  data_dir: str
  folder: str = "sni"
  vocabulary: str = "vocab/t5/spiece.model"
  extra_ids: checks.ExtraIds = 100
  split_list: str = "default"
  skip_missing: bool = False

  def __post_init__(self):
    paths.check(self.data_dir, "DATA_DIR")
    checks.fields(self)

  def register(self) -> None:
    """Registers what is not registered yet.

    Raises:
      ValueError: the folder or a split list is missing, a task stands in both
        lists, or a listed task has no file.
    """
    from hyperjax.data.store import seqio_tasks  # imports seqio

    lists = self.task_names()
    both = sorted(set(lists["train"]) & set(lists["test"]))
    if both:
      raise ValueError(
        f"{self._split_folder}: {both[0]} (of {len(both)}) is in the train "
        "and in the test list"
      )
    vocabulary = paths.joined(self.data_dir, self.vocabulary)
    feature = seqio_tasks.text_feature(str(vocabulary), self.extra_ids)
    features = {"inputs": feature, "targets": feature}
    seqio_names: dict[str, str] = {}
    for split, names in lists.items():
      for name in names:
        seqio_name = task_name(name)
        if seqio_names.setdefault(seqio_name, name) != name:
          raise ValueError(
            f"tasks {name!r} and {seqio_names[seqio_name]!r} would both be "
            f"registered as {seqio_name!r}"
          )
        path = self.path(name)
        source = seqio_tasks.RowsSource(
          functools.partial(_rows, path),
          (split, POSITIVE),
          _FIELDS,
          made_of=functools.partial(_made_of, path),
          instruction=functools.partial(definition, path),
        )
        seqio_tasks.add_task(seqio_name, source, features, self)
      if not names:
        raise ValueError(
          f"{self._split_folder / f'{split}_tasks.txt'}: no task of it is here"
        )
      seqio_tasks.add_mixture(
        f"sni_{split}", [task_name(name) for name in names], self
      )

  def task_names(self) -> dict[str, list[str]]:
    """The data set's names of the train and the test tasks."""
    files.require_folder(self._folder, "DATA_DIR")
    lists = {}
    for split in ("train", "test"):
      path = self._split_folder / f"{split}_tasks.txt"
      if not path.is_file():
        raise ValueError(f"{path} is missing")
      names = " ".join(files.read_lines(path)).split()
      again = [x for x, n in collections.Counter(names).items() if n > 1]
      if again:
        raise ValueError(f"{path} names {again[0]!r} more than once")
      missing = [name for name in names if not files.is_file(self.path(name))]
      if missing and not self.skip_missing:
        raise ValueError(
          f"{path} names {len(missing)} tasks without a file in "
          f"{self._folder / 'tasks'}: {', '.join(missing[:5])} ... Set "
          "superni.SuperNaturalInstructions.skip_missing to leave them out"
        )
      if missing:
        _log.warning(
          "%s: %d of %d tasks have no file and are left out",
          path,
          len(missing),
          len(names),
        )
      lists[split] = [name for name in names if name not in set(missing)]
    return lists

  def path(self, name: str) -> pathlib.Path:
    """The file of a task."""
    return self._folder / "tasks" / f"{name}.json"

  @property
  def _folder(self) -> pathlib.Path:
    return paths.part_of(self.data_dir, self.folder)

  @property
  def _split_folder(self) -> pathlib.Path:
    return self._folder / "splits" / self.split_list


@dataclasses.dataclass(frozen=True)
class TrainingInputs:
  """Registers the inputs of the training tasks as plain text.

  A document a task, of the inputs of its Instances, each on lines of its own:
  a window of it shows how a task's inputs look, and nothing of its answers.

  Attributes:
    data_set: whose training tasks.
    name: of the seqio task.
  """

  data_set: SuperNaturalInstructions
  name: str = "sni_inputs"

  def __post_init__(self):
    checks.fields(self)

  def register(self) -> None:
    """Registers the task, unless its name is registered.

    Raises:
      ValueError: as `SuperNaturalInstructions.task_names`.
    """
    from hyperjax.data.store import seqio_tasks  # imports seqio

    names = self.data_set.task_names()["train"]
    documents = [self.data_set.path(name) for name in names]
    source = seqio_tasks.RowsSource(
      lambda split: self.documents(),
      ("train",),
      {"targets": 0},
      made_of=lambda split: [_made_of(path, split) for path in documents],
    )
    vocabulary = paths.joined(self.data_set.data_dir, self.data_set.vocabulary)
    feature = seqio_tasks.text_feature(str(vocabulary), self.data_set.extra_ids)
    seqio_tasks.add_task(self.name, source, {"targets": feature}, self)

  def documents(self) -> Iterator[dict[str, Any]]:
    """The inputs of each training task as one document."""
    for name in self.data_set.task_names()["train"]:
      rows = _rows(self.data_set.path(name), "train")
      yield {"targets": "\n".join(row["inputs"] for row in rows)}


def task_name(name: str) -> str:
  """Seqio's name of a task: seqio knows no "-"."""
  return "sni_" + name.replace("-", "_")


def definition(path: pathlib.Path) -> str | None:
  """The Definition of a task file, its first if there are several.

  Raises:
    ValueError: it is no text.
  """
  found = files.read_json(path).get("Definition")
  if isinstance(found, list):
    found = found[0] if found else None
  if found is None:
    return None
  files.check_text(found, f"{path}: 'Definition'")
  return found.strip() or None


def _made_of(path: pathlib.Path, split: str) -> Any:
  return {"sni": READER, "file": files.stamp(path), "split": split}


def _rows(path: pathlib.Path, split: str) -> Iterator[dict[str, Any]]:
  """Rows of a task file: its Instances, or its Positive Examples.

  The target is the first reference; all of them are kept for scoring. For
  training, an instance without any text to learn is left out and counted.
  """
  task = files.read_json(path)
  name = "Positive Examples" if split == POSITIVE else "Instances"
  instances = files.field(task, name, str(path))
  if not isinstance(instances, list) or not instances:
    raise ValueError(f"{path}: {name!r} has no entry")
  if split == "test":
    instances = instances[:NUM_TEST_INSTANCES]
  category = _first(task.get("Categories"), "unknown")
  num_blank = 0
  for number, instance in enumerate(instances):
    where = f"{path}, {name} {number}"
    references = _references(instance, where)
    if split == "train" and not references[0].strip():
      num_blank += 1
      continue
    yield {
      "inputs": files.text_field(instance, "input", where).strip(),
      "targets": references[0].strip(),
      "references": references,
      "id": str(instance.get("id", number)),
      "category": category,
    }
  if num_blank:
    _log.warning(
      "%s: %d of %d instances have a blank output and are left out",
      path,
      num_blank,
      len(instances),
    )


def _first(value: Any, default: str) -> str:
  """The first of a list of strings; a string itself."""
  if isinstance(value, list):
    value = value[0] if value else None
  return value if isinstance(value, str) and value else default


def _references(instance: Any, where: str) -> list[str]:
  return files.text_list(instance, "output", where, at_least=1, takes_text=True)
