"""MetaICL's tasks from their own folder (Min et al., 2022).

The folder holds what MetaICL's preprocessing writes, `data/<task>/
<task>_<k>_<seed>_<split>.jsonl`, and its `config/`: the tasks of each setting,
and in `config/tasks/` each task's type and options. A task becomes the seqio task
`metaicl_<task>`; a setting's lists become the mixtures
`metaicl_<setting>_{train,test,unseen_domain_test}`, where they name any task.

Meta-training tasks have the split "train". Targets have "train_<seed>", their 16
demonstrations, "dev_<seed>" and "test_<seed>". A task in both lists (sick, in
the released non_nli_to_nli) is a target alone, and said to be.

Tasks of a mixture are equally frequent, as in the paper: a task is sampled, then
its examples. (The released code joins all files instead, so that a task with
fewer than 16,384 lines is rarer.)
"""

import collections
import dataclasses
import functools
import logging
import pathlib
import re
from collections.abc import Sequence
from typing import Annotated

from hyperjax import checks, paths
from hyperjax.data import files
from hyperjax.tasks import metaicl_rows

_log = logging.getLogger(__name__)

TRAIN_K, TRAIN_SEED = 16384, 100  # of meta-training tasks, which may be smaller
ROLES = ("train", "test", "unseen_domain_test")


@dataclasses.dataclass(frozen=True)
class MetaICL:
  """Registers the tasks and mixtures of one setting.

  Attributes:
    data_dir: the folder of all data sets.
    folder: in it, the one of `data/` and `config/`.
    vocabulary: a SentencePiece model file, in `data_dir` or anywhere.
    extra_ids: on top of the vocabulary, T5's sentinels.
    setting: a file of `config/`, without ".json".
    seeds: of the targets' splits.
    skip_missing: leave out tasks that lack a file, saying how many, instead of
      refusing.
  """

  data_dir: str
  folder: str = "metaicl"
  vocabulary: str = "vocab/t5/spiece.model"
  extra_ids: checks.ExtraIds = 100
  setting: str = "hr_to_lr"
  seeds: Sequence[checks.Seed] = (100, 13, 21, 42, 87)
  skip_missing: bool = False

  def __post_init__(self):
    paths.check(self.data_dir, "DATA_DIR")
    checks.fields(self)
    if not self.seeds or len(set(self.seeds)) < len(self.seeds):
      raise ValueError(
        "MetaICL.seeds must be a list of different whole numbers, got "
        f"{self.seeds!r}"
      )

  def register(self) -> None:
    """Registers what is not registered yet.

    Raises:
      ValueError: the setting, a task's config or a data file is missing or
        makes no sense, or two names would be one in seqio.
    """
    from hyperjax.data.store import seqio_tasks  # imports seqio

    lists = self.task_names()
    _refuse_collisions([*lists["train"], *lists["test"]])
    vocabulary = paths.joined(self.data_dir, self.vocabulary)
    feature = seqio_tasks.text_feature(str(vocabulary), self.extra_ids)
    for role in ("train", "test"):
      for name in lists[role]:
        task = self._task(name, role)
        source = seqio_tasks.RowsSource(
          functools.partial(metaicl_rows.read, task),
          tuple(task.paths),
          metaicl_rows.FIELDS,
          made_of=functools.partial(metaicl_rows.made_of, task),
        )
        features = {"inputs": feature, "targets": feature}
        seqio_tasks.add_task(task_name(name), source, features, self)
    for role, names in lists.items():
      if names:
        seqio_tasks.add_mixture(
          mixture_name(self.setting, role), list(map(task_name, names)), self
        )

  def unseen_domain_tasks(self) -> list[str]:
    """Seqio's names of the targets whose domain no training task has."""
    return list(map(task_name, self.task_names()["unseen_domain_test"]))

  def task_names(self) -> dict[str, list[str]]:
    """MetaICL's names of the tasks of each list that are registered.

    Raises:
      ValueError: the setting's file is not there or not as published, or none
        of its tasks is.
    """
    files.require_folder(self._folder, "DATA_DIR")
    lists = _read_lists(self._setting_path())
    targets = set(lists["test"])
    both = [name for name in lists["train"] if name in targets]
    if both:
      _log.warning(
        "%s: %d train tasks are also test tasks and are left out of "
        "training: %s",
        self._setting_path(),
        len(both),
        ", ".join(both),
      )
      lists["train"] = [name for name in lists["train"] if name not in targets]
    lists = {role: self._present(lists[role], role) for role in ROLES}
    if not lists["train"] and not lists["test"]:
      raise ValueError(f"{self._setting_path()}: no task of its lists is here")
    return lists

  def _present(self, names: list[str], role: str) -> list[str]:
    """Those of a list that have their files; all of them, or an error."""
    missing = {}
    for name in names:
      needed = [self._config_path(name)]
      needed += self._data_paths(name, role).values()
      lacking = [path for path in needed if not files.is_file(path)]
      if lacking:
        missing[name] = lacking[0]
    if not missing:
      return names
    where = f"{self._setting_path()}, {role!r}"
    if not self.skip_missing:
      first = next(iter(missing))
      raise ValueError(
        f"{where}: {len(missing)} of {len(names)} tasks lack files, for "
        f"instance {first!r}: there is no {missing[first]}. Set "
        "metaicl.MetaICL.skip_missing to leave them out"
      )
    _log.warning(
      "%s: %d of %d tasks lack files and are left out",
      where,
      len(missing),
      len(names),
    )
    return [name for name in names if name not in missing]

  def _task(self, name: str, role: str) -> metaicl_rows.Task:
    path = self._config_path(name)
    config = files.read_json(path)
    task_type = files.text_field(config, "task_type", str(path))
    if task_type not in metaicl_rows.TASK_TYPES:
      raise ValueError(
        f"{path}: 'task_type' must be one of {', '.join(metaicl_rows.TASK_TYPES)}, got "
        f"{task_type!r}"
      )
    options = None
    if task_type == metaicl_rows.CLASSIFICATION:
      options = files.text_list(config, "options", str(path))
      if len(set(options)) < max(2, len(options)):
        raise ValueError(
          f"{path}: 'options' must be at least two different texts, got "
          f"{options}"
        )
    return metaicl_rows.Task(
      name, task_type, options, path, self._data_paths(name, role)
    )

  def _data_paths(self, name: str, role: str) -> dict[str, pathlib.Path]:
    """Files by split."""
    stem = self._folder / "data" / name / name
    if role == "train":
      return {
        "train": pathlib.Path(f"{stem}_{TRAIN_K}_{TRAIN_SEED}_train.jsonl")
      }
    # MetaICL writes no dev files of the tasks that it takes from UnifiedQA.
    has_dev = not name.startswith("unifiedqa:")
    splits = ("train", "dev", "test") if has_dev else ("train", "test")
    return {
      f"{split}_{seed}": pathlib.Path(
        f"{stem}_{metaicl_rows.TARGET_K}_{seed}_{split}.jsonl"
      )
      for split in splits
      for seed in self.seeds
    }

  def _config_path(self, name: str) -> pathlib.Path:
    return self._folder / "config" / "tasks" / f"{name}.json"

  def _setting_path(self) -> pathlib.Path:
    folder = self._folder / "config"
    path = folder / f"{self.setting}.json"
    if not path.is_file():
      known = ", ".join(sorted(found.stem for found in folder.glob("*.json")))
      raise ValueError(
        f"METAICL_SETTING is {self.setting!r}: there is no {path}; the "
        f"settings here are: {known or 'none'}"
      )
    return path

  @property
  def _folder(self) -> pathlib.Path:
    return paths.part_of(self.data_dir, self.folder)


def task_name(name: str) -> str:
  """Seqio's name of a task: what seqio refuses is "_"."""
  return "metaicl_" + re.sub(r"[^\w.:#]", "_", name)


@checks.arguments
def mixture_name(
  setting: str, role: Annotated[str, checks.OneOf(ROLES)]
) -> str:
  """Seqio's name of one of a setting's lists, for gin to name it by."""
  return f"{task_name(setting)}_{role}"


def _read_lists(path: pathlib.Path) -> dict[str, list[str]]:
  """Task names of a setting by role."""
  config = files.read_json(path)
  lists = {role: files.text_list(config, role, str(path)) for role in ROLES}
  for role, names in lists.items():
    name, count = max(
      collections.Counter(names).items(), key=lambda x: x[1], default=("", 0)
    )
    if count > 1:
      raise ValueError(f"{path}: {role!r} names {name!r} {count} times")
  for name in lists["unseen_domain_test"]:
    if name not in lists["test"]:
      raise ValueError(
        f"{path}: {name!r} is in 'unseen_domain_test' and not in 'test'"
      )
  return lists


def _refuse_collisions(names: Sequence[str]) -> None:
  met: dict[str, str] = {}
  for name in names:
    other = met.setdefault(task_name(name), name)
    if other != name:
      raise ValueError(
        f"tasks {other!r} and {name!r} would both be registered as "
        f"{task_name(name)!r}"
      )
