"""P3, the Public Pool of Prompts (Sanh et al., 2022), from its own folder.

The folder holds `data/<subset>/{split}.tfrecord-00000-of-00001` as bigscience/P3
publishes it, and T0's list of data sets. Each subset, a data set under one
template, becomes a seqio task `p3_<subset>` with the splits that are there.

A task `p3_<subset>_score_eval` has one row for each example, with all its
choices, and besides its own splits "demonstrations": the train split of
`p3_<subset>`, from which its demonstrations are drawn. Where that has none, as
StoryCloze 2016, which P3 lacks and T0 scores, it is the test split.

ANLI's rounds are subsets in P3 (`anli_*_r1`), and their dev_r1 is "validation".
A folder that has kept ANLI's own names of splits is read in the same way.

Mixtures are T0's own, of the subsets that are there: `p3_t0_train`,
`p3_t0p_train` (T0+), `p3_t0pp_train` (T0++), and `p3_t0_eval` and so on, the tasks
that each of them leaves to be scored.
"""

import dataclasses
import functools
import logging
import pathlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hyperjax import checks, paths
from hyperjax.data import files
from hyperjax.tasks import t0

_log = logging.getLogger(__name__)

DEMONSTRATIONS = "demonstrations"
_TRAIN = "train"
_POOLS = (_TRAIN, "test")  # of which the first that is there is drawn from
_ROUNDS = {"train": _TRAIN, "dev": "validation", "test": "test"}
_COMPLETED = "COMPLETED"
_FIELDS = {"inputs": 0, "targets": 0, "references": 1, "choices": 1, "id": 0}
_SCORED_FIELDS = _FIELDS | {"is_correct": (1, "bool"), "weight": (0, "float32")}
_SHARD = re.compile(r"(?P<split>.+)\.tfrecord-\d+-of-\d+")
_INFO = re.compile(r"info\.(?P<split>.+)\.json")


@dataclasses.dataclass(frozen=True)
class P3:
  """Registers P3's tasks and T0's mixtures.

  Attributes:
    data_dir: the folder of all data sets.
    folder: in it, the one of `data/` (or of the subsets themselves) and of T0's
      list, t0_datasets.json or t-zero's own datasets.csv.
    vocabulary: a SentencePiece model file, in `data_dir` or anywhere.
    extra_ids: on top of the vocabulary, T5's sentinels.
    tokens: "stored" takes the ids in the files, which are T5's; "text" makes
      them from the texts there, for any other vocabulary.
    train_sizes: what rates are made of: "stats", the rows that each subset has
      here, or "official", the sizes in T0's list.
  """

  data_dir: str
  folder: str = "p3"
  vocabulary: str = "vocab/t5/spiece.model"
  extra_ids: checks.ExtraIds = 100
  tokens: str = "stored"
  train_sizes: str = "stats"

  def __post_init__(self):
    paths.check(self.data_dir, "DATA_DIR")
    checks.fields(self)
    for name, known in (
      ("tokens", ("stored", "text")),
      ("train_sizes", ("stats", "official")),
    ):
      if getattr(self, name) not in known:
        raise ValueError(
          f"P3.{name} must be {' or '.join(map(repr, known))}, got "
          f"{getattr(self, name)!r}"
        )

  def register(self) -> None:
    """Registers what is not registered yet.

    Raises:
      ValueError: the folder or T0's list is missing, or a subset is not whole.
    """
    from hyperjax.data.store import seqio_tasks  # imports seqio

    subsets = self.subsets()
    datasets = t0.read_datasets(self._folder)
    feature = seqio_tasks.text_feature(self._vocabulary_path, self.extra_ids)
    features = {"inputs": feature, "targets": feature}
    for name in subsets:
      source = self._source(name, subsets)
      seqio_tasks.add_task(task_name(name), source, features, self)
    mixtures = self._mixtures(subsets, datasets)
    for mixture, rates in mixtures.items():
      tasks = [(task_name(name), rate) for name, rate in rates.items()]
      if tasks:  # seqio refuses an empty mixture
        seqio_tasks.add_mixture(mixture, tasks, self)
    self._report(subsets, [name for name, own in mixtures.items() if not own])

  def subsets(self) -> dict[str, "Subset"]:
    """The subsets that are there, by name.

    Raises:
      ValueError: there is none, one stands in both places, or is not whole.
    """
    files.require_folder(self._folder, "DATA_DIR")
    found: dict[str, Subset] = {}
    for parent in (self._folder / "data", self._folder):
      for folder, names in sorted(_folders(parent).items()):
        if not _is_subset(names):
          continue
        if folder.name in found:
          raise ValueError(
            f"P3 subset {folder.name!r} is in {found[folder.name].folder} and "
            f"in {folder}: only one can be read"
          )
        found[folder.name] = Subset(
          folder, _named(folder, _splits(folder, names))
        )
    if not found:
      raise ValueError(
        f"DATA_DIR: no folder in {self._folder} or in {self._folder / 'data'} "
        "is a subset of P3"
      )
    return found

  def _mixtures(
    self, subsets: Mapping[str, "Subset"], datasets: Sequence[t0.Dataset]
  ) -> dict[str, dict[str, float]]:
    """Rates of the subsets in each mixture; of those to score, 1."""
    trained = [name for name, own in subsets.items() if _TRAIN in own.splits]
    train_size = functools.cache(functools.partial(self._train_size, subsets))
    mixtures: dict[str, dict[str, float]] = {}
    for name, groups in t0.MIXTURES.items():
      mixtures[f"p3_{name}_train"] = t0.train_rates(
        trained, datasets, groups, train_size
      )
      held_out = t0.held_out(subsets, datasets, groups)
      mixtures[f"p3_{name}_eval"] = dict.fromkeys(held_out, 1.0)
    return mixtures

  def _source(self, name: str, subsets: Mapping[str, "Subset"]) -> Any:
    """Rows of a subset's splits, and for a scored one its demonstrations."""
    from hyperjax.data import vocabulary
    from hyperjax.data.store import seqio_tasks
    from hyperjax.tasks import p3_files  # imports tensorflow

    subset, is_scored = subsets[name], name.endswith(t0.SCORED)
    kind = "scored_rows" if is_scored else "rows"
    readers = {
      split: (kind, subset.folder, file)
      for split, file in subset.splits.items()
    }
    if is_scored and (split := _pool(name, subsets)):
      pool = subsets[t0.ordinary(name)]
      readers[DEMONSTRATIONS] = (
        "demonstrations",
        pool.folder,
        pool.splits[split],
      )
    own = None
    if self.tokens == "stored":
      path = paths.part_of(self.data_dir, self.vocabulary)
      own = vocabulary.SentencePiece(str(path), self.extra_ids)

    def rows(split: str) -> Any:
      return _rows(*readers[split], own)

    def made_of(split: str) -> Any:
      kind, folder, name = readers[split]
      return [kind, self.tokens, *p3_files.Split(folder, name).made_of()]

    def parts(split: str) -> list[Any]:
      read = functools.partial(_rows, *readers[split], own)
      return [seqio_tasks.Part(split, read, made_of(split))]

    fields = _SCORED_FIELDS if is_scored else _FIELDS
    return seqio_tasks.RowsSource(rows, tuple(readers), fields, made_of, parts)

  def _train_size(
    self, subsets: Mapping[str, "Subset"], name: str, dataset: t0.Dataset
  ) -> int:
    from hyperjax.tasks import p3_files  # imports tensorflow

    if self.train_sizes == "official":
      if not dataset.train_size:
        raise ValueError(
          f"{self._folder}: T0's list has no 'train_size' of {dataset.prefix}*, "
          "which P3.train_sizes 'official' makes rates of"
        )
      return dataset.train_size
    subset = subsets[name]
    return p3_files.Split(subset.folder, subset.splits[_TRAIN]).num_examples()

  def _report(
    self, subsets: Mapping[str, "Subset"], empty: Sequence[str]
  ) -> None:
    """Says which subsets and mixtures lack what they are there for."""
    lacking = [
      name
      for name in subsets
      if t0.ordinary(name) not in subsets
      or _TRAIN not in subsets[t0.ordinary(name)].splits
    ]
    if lacking:
      _warn(
        f"{self._folder}: {len(lacking)} of {len(subsets)} subsets have no train "
        "split to learn or to draw demonstrations from: "
        f"{', '.join(lacking[:5])}"
      )
    from_test = [
      name
      for name in subsets
      if name.endswith(t0.SCORED) and _pool(name, subsets) not in (None, _TRAIN)
    ]
    if from_test:
      _warn(
        f"{self._folder}: {len(from_test)} scored subsets draw demonstrations "
        f"from the test split: {', '.join(from_test[:5])}"
      )
    if empty:
      _warn(
        f"{self._folder}: no subset is there for mixtures {', '.join(empty)}"
      )

  @property
  def _folder(self) -> pathlib.Path:
    return paths.at(paths.joined(self.data_dir, self.folder))

  @property
  def _vocabulary_path(self) -> str:
    return paths.joined(self.data_dir, self.vocabulary)


@dataclasses.dataclass(frozen=True)
class Subset:
  """A data set under one template: its folder and the splits in it."""

  folder: pathlib.Path
  splits: Mapping[str, str]  # T0's name -> the files'


def _rows(kind: str, folder: pathlib.Path, split: str, own: Any) -> Any:
  """Rows of a split, in any process; `kind` is a function of p3_rows."""
  from hyperjax.data.store import seqio_rows

  seqio_rows.import_tensorflow()
  from hyperjax.tasks import p3_files, p3_rows  # import it loudly

  return getattr(p3_rows, kind)(p3_files.Split(folder, split), own)


def task_name(subset: str) -> str:
  """Seqio's name of a subset's task."""
  return f"p3_{subset}"


def _pool(name: str, subsets: Mapping[str, Subset]) -> str | None:
  """The split that the demonstrations of a scored subset are drawn from."""
  pool = subsets.get(t0.ordinary(name))
  there = pool.splits if pool else ()
  return next((split for split in _POOLS if split in there), None)


def _named(folder: pathlib.Path, splits: Sequence[str]) -> dict[str, str]:
  """The files' splits by T0's names, which ANLI's own differ from."""
  found: dict[str, str] = {}
  for split in splits:
    kind, _, anli_round = split.partition("_")
    is_own = t0.ordinary(folder.name).endswith(f"_{anli_round}")
    name = _ROUNDS.get(kind, split) if anli_round and is_own else split
    if found.setdefault(name, split) != split:
      raise ValueError(
        f"{folder}: splits {found[name]!r} and {split!r} are both {name!r}"
      )
  return found


def _folders(parent: pathlib.Path) -> dict[pathlib.Path, set[str]]:
  """The folders in a folder, each with the names of what is right in it."""
  found: dict[pathlib.Path, set[str]] = {}
  if paths.is_bucket(parent):
    for path in paths.listing(parent):  # all at once
      folder, _, name = path.partition("/")
      if name and "/" not in name:
        found.setdefault(parent / folder, set()).add(name)
  elif parent.is_dir():
    for folder in filter(pathlib.Path.is_dir, parent.iterdir()):
      found[folder] = {path.name for path in folder.iterdir()}
  return found


def _is_subset(names: Collection[str]) -> bool:
  """Whether a folder of such files holds a subset, whole or not."""
  return any(
    name == _COMPLETED or _SHARD.fullmatch(name) or _INFO.fullmatch(name)
    for name in names
  )


def _splits(folder: pathlib.Path, names: Collection[str]) -> tuple[str, ...]:
  """The splits of a subset, each of one file of records and its info."""
  if _COMPLETED not in names:
    raise ValueError(
      f"{folder / _COMPLETED} is missing: the subset was not written, or not "
      "copied, to its end"
    )
  found = filter(None, map(_INFO.fullmatch, names))
  splits = sorted(match["split"] for match in found)
  expected = {f"{split}.tfrecord-00000-of-00001" for split in splits}
  shards = set(filter(_SHARD.fullmatch, names))
  for name in sorted(shards - expected):
    raise ValueError(
      f"{folder / name} is one of several shards, or has no info.*.json; P3 has "
      "one file and one info for each split"
    )
  for name in sorted(expected - shards):
    raise ValueError(f"{folder / name} is missing; its info is there")
  if not splits:
    raise ValueError(f"{folder} has no *.tfrecord-00000-of-00001")
  return tuple(splits)


@functools.cache
def _warn(message: str) -> None:
  """Once: a run registers for each of its task sets."""
  _log.warning("%s", message)
