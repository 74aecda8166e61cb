"""T0's mixtures of P3's subsets, as t-zero's seqio tasks define them.

A data set's templates are told by the beginning of their subsets' names. Those
of the original task alone have a `*_score_eval` subset in P3, so these are what
is scored.
"""

import csv
import dataclasses
import logging
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hyperjax.data import files

_log = logging.getLogger(__name__)

SCORED = "_score_eval"
MAX_EXAMPLES = 500_000  # of a data set, over all its templates
LISTS = ("t0_datasets.json", "datasets.csv")
# Groups of T0's list that each mixture is trained on: T0, T0+, T0++.
MIXTURES = {
  "t0": ("BASE",),
  "t0p": ("BASE", "GPT_EVAL"),
  "t0pp": ("BASE", "GPT_EVAL", "SGLUE"),
}
SCORED_GROUPS = ("BASE", "BIAS_FAIRNESS")
# Of t0/seqio_tasks/tasks.py: too long, or with broken files.
BLACKLIST = {
  "ecthr_cases_alleged_violation_prediction_silver_rationales",
  "gigaword_summarize_",
  "narrativeqa_Template_05",
  "wiki_hop_masked_Choose_Best_Object_Candidate",
  "wiki_hop_masked_Indirect_Question_about_Birthplace_Citizenship_Place_of_"
  "Death",
  *(f"tab_fact_tab_fact_tab_fact_{i}" for i in range(1, 8)),
  *(
    f"hotpot_qa_{config}_Generate_{what}"
    for config in ("distractor", "fullwiki")
    for what in (
      "Answer",
      "Answer_and_Explanations",
      "Explanations",
      "Question",
      "Title_1",
      "Title_2",
    )
  ),
}


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A line of T0's list.

  Attributes:
    prefix: what the names of its subsets begin with.
    do_train: the group that trains on it, if any.
    do_eval: the group that is scored on it, if any.
    train_size: how many rows it has for training.
  """

  prefix: str
  do_train: str | None
  do_eval: str | None
  train_size: int


def read_datasets(folder: pathlib.Path) -> list[Dataset]:
  """T0's list, from t0_datasets.json or t-zero's own datasets.csv.

  Raises:
    ValueError: neither is there, or a line is broken.
  """
  for path in (folder / name for name in LISTS):
    if path.is_file():
      found: dict[str, Dataset] = {}
      for number, row in enumerate(_lines(path)):
        dataset = _dataset(row, f"{path}, entry {number}")
        if found.setdefault(dataset.prefix, dataset) is not dataset:
          raise ValueError(
            f"{path}, entry {number}: the data set of {dataset.prefix}* stands "
            "twice"
          )
      return list(found.values())
  raise ValueError(
    f"DATA_DIR: {folder} has no {' and no '.join(LISTS)}, the list of data sets "
    "that T0's mixtures are made of (t0/datasets.csv of "
    "https://github.com/bigscience-workshop/t-zero)"
  )


def ordinary(subset: str) -> str:
  """The subset that has the same data set and template as rows to learn from."""
  return subset.removesuffix(SCORED)


def train_rates(
  subsets: Iterable[str],
  datasets: Sequence[Dataset],
  groups: Sequence[str],
  train_size: Callable[[str, Dataset], int],
) -> dict[str, float]:
  """Rates of the subsets in a training mixture.

  A data set of more than `MAX_EXAMPLES` counts as that many, which its templates
  share. A blacklisted template has a share, but no part in the mixture.
  """
  rates = {}
  for dataset, templates in _by_dataset(subsets, datasets).items():
    for subset in templates if dataset.do_train in groups else ():
      if subset not in BLACKLIST:
        size = train_size(subset, dataset)
        share = MAX_EXAMPLES // len(templates)
        rates[subset] = share if size > MAX_EXAMPLES else size
  return rates


def held_out(
  subsets: Iterable[str], datasets: Sequence[Dataset], groups: Sequence[str]
) -> list[str]:
  """The scored subsets of held-out data sets, those trained on left out.

  So WiC, COPA and WSC are not held out for T0++, nor HellaSwag for T0+ and T0++.
  """
  names = {ordinary(name): name for name in subsets if name.endswith(SCORED)}
  return [
    names[template]
    for dataset, templates in _by_dataset(names, datasets).items()
    for template in templates
    if dataset.do_eval == "BASE" and dataset.do_train not in groups
    if template not in BLACKLIST
  ]


def _by_dataset(
  subsets: Iterable[str], datasets: Sequence[Dataset]
) -> dict[Dataset, list[str]]:
  """Ordinary subsets of each data set; those of none are left out."""
  found: dict[Dataset, list[str]] = {dataset: [] for dataset in datasets}
  for subset in subsets:
    own = [d for d in datasets if subset.startswith(d.prefix)]
    if own and not subset.endswith(SCORED):
      found[max(own, key=lambda dataset: len(dataset.prefix))].append(subset)
  return found


def _lines(path: pathlib.Path) -> list[Mapping[str, Any]]:
  if path.suffix == ".csv":
    reader = csv.DictReader(files.read_lines(path), restkey="more")
    try:
      return list(reader)
    except csv.Error as error:
      raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
  return files.read_json_list(path)


def _dataset(row: Any, where: str) -> Dataset:
  name = files.text_field(row, "HF_name", where)
  config = _one_of(row, "subset", where)
  do_train = _one_of(row, "do_train", where, MIXTURES["t0pp"])
  do_eval = _one_of(row, "do_eval", where, SCORED_GROUPS)
  size = str(files.field(row, "train_size", where) or 0)
  if not size.isdecimal():
    raise ValueError(f"{where}: 'train_size' must be a number, got {size!r}")
  stem = f"{name}_{config}_" if config else f"{name}_"
  prefix = re.sub(r"[^\w\d\._]+", "_", stem)
  return Dataset(prefix, do_train, do_eval, int(size))


def _one_of(
  row: Any, name: str, where: str, known: Sequence[str] | None = None
) -> str | None:
  """A text that may be missing or empty, of `known` ones if they are given."""
  if not files.field(row, name, where):
    return None
  value = files.text_field(row, name, where)
  if known is not None and value not in known:
    raise ValueError(
      f"{where}: {name!r} must be one of {', '.join(known)}, got {value!r}"
    )
  return value
