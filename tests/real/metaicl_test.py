"""MetaICL's released settings and files."""

import collections
import json

import pytest
import seqio

from hyperjax.batch import Lengths
from hyperjax.data.episodes import Episodes, FewShot
from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.tasks import metaicl
from hyperjax.tasks.metaicl import MetaICL
from tests import conftest
from tests.tasks import metaicl_folder

pytestmark = pytest.mark.seqio


SETTINGS = (
  "hr_to_lr",
  "class_to_class",
  "non_class_to_class",
  "qa_to_qa",
  "non_qa_to_qa",
  "non_nli_to_nli",
  "non_paraphrase_to_paraphrase",
)


SEEDS = (100, 13, 21, 42, 87)


def _real(data_dir, setting, **fields):
  return MetaICL(str(data_dir), setting=setting, **fields)


def _facts(data_dir):
  folder = data_dir / "metaicl"
  manifest = json.loads((folder / "manifest.json").read_text())
  coverage = json.loads((folder / "coverage.json").read_text())
  return {entry["task"]: entry for entry in manifest}, coverage


# Tasks of the released lists: train, test, unseen_domain_test.
SIZES = {
  "hr_to_lr": (61, 26, 4),
  "class_to_class": (43, 20, 4),
  "non_class_to_class": (37, 20, 4),
  "qa_to_qa": (37, 22, 1),
  "non_qa_to_qa": (33, 22, 1),
  "non_nli_to_nli": (55, 8, 1),
  "non_paraphrase_to_paraphrase": (59, 4, 1),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_released_settings_hold_their_targets_out(
  data_dir, setting, tmp_path, caplog
):
  """All of their tasks, in a folder that has a file for each of them."""
  path = data_dir / "metaicl" / "config" / f"{setting}.json"
  lists = json.loads(path.read_text())
  assert tuple(map(len, lists.values())) == SIZES[setting]
  provider = metaicl_folder.write(tmp_path, **_roles(lists))
  provider.register()
  train, test, unseen = (
    metaicl_folder.tasks_of(f"metaicl_own_{role}") for role in metaicl.ROLES
  )
  # "sick" is in both lists of one setting: a target alone, and said to be.
  is_nli = setting == "non_nli_to_nli"
  assert len(train) == SIZES[setting][0] - is_nli
  assert (len(test), len(unseen)) == SIZES[setting][1:]
  assert not set(train) & set(test) and set(unseen) <= set(test)
  assert ("left out of training: sick" in caplog.text) == is_nli
  assert ("metaicl_sick" in train) == (
    "sick" in lists["train"] and "sick" not in lists["test"]
  )


def _roles(lists):
  names = ("train", "test", "unseen")
  return {
    name: tuple(lists[role])
    for name, role in zip(names, metaicl.ROLES, strict=True)
  }


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_real_settings_have_the_tasks_of_their_coverage(
  data_dir, setting, caplog
):
  """The small lists, and what is left of the full ones without files."""
  _, coverage = _facts(data_dir)
  fact = coverage[setting]
  unseen = set(fact["unseen_domain_test"]) & set(fact["test_here"])
  expected = {
    "train": set(fact["train_here"]),
    "test": set(fact["test_here"]),
    "unseen_domain_test": unseen,
  }
  for provider in (
    _real(data_dir, f"small_{setting}"),
    _real(data_dir, setting, skip_missing=True),
  ):
    names = provider.task_names()
    assert {role: set(found) for role, found in names.items()} == expected
    assert sum(map(len, names.values())) == sum(map(len, expected.values()))
  num_missing = fact["test_total"] - len(fact["test_here"])
  assert f"{num_missing} of {fact['test_total']} tasks lack" in caplog.text
  has_sick = "left out of training: sick" in caplog.text
  assert has_sick == (setting == "non_nli_to_nli")


def test_the_real_files_have_the_lines_of_their_manifest(data_dir):
  """Each task once in either role; every line passes every check."""
  manifest, _ = _facts(data_dir)
  num_lines, num_files = collections.Counter(), collections.Counter()
  read = set()
  for setting in SETTINGS:
    provider = _real(data_dir, f"small_{setting}")
    provider.register()
    for role, names in provider.task_names().items():
      for name in names:
        if role == "unseen_domain_test" or (role, name) in read:
          continue
        read.add((role, name))
        task = seqio.TaskRegistry.get(metaicl.task_name(name))
        counts = _counts(task, manifest[name])
        num_lines[role] += sum(counts)
        num_files[role] += len(counts)
    conftest.forget_tasks()
  assert num_files == {"train": 49, "test": 23 * 3 * len(SEEDS)}
  # All there are: the lines that the data's description counts.
  assert num_lines.total() == 48288


def _counts(task, fact):
  """Lines of each split of a task, which must be those of the manifest."""
  if task.splits == ("train",):
    expected = {"train": fact["files"]["16384_100_train"]}
  else:
    expected = {
      f"{split}_{seed}": fact["files"][f"16_<seed>_{split}"]
      for split in ("train", "dev", "test")
      for seed in SEEDS
    }
  assert set(task.splits) == set(expected)
  for split, count in expected.items():
    rows = list(task.source.rows(split))
    assert len(rows) == count, (task.name, split)
    assert {row["task_type"] for row in rows} == {fact["task_type"]}
    assert all(row["targets"] in row["choices"] for row in rows)
  return list(expected.values())


def test_real_tests_are_the_same_for_every_seed_and_shots_are_not(
  data_dir, tmp_path
):
  provider = _real(data_dir, "small_hr_to_lr")
  texts = {
    split: {
      seed: tuple(
        (row["inputs_pretokenized"], tuple(row["choices"]))
        for row in metaicl_folder.rows(
          provider, "metaicl_openbookqa", f"{split}_{seed}", tmp_path
        )
      )
      for seed in SEEDS
    }
    for split in ("train", "test")
  }
  assert len(set(texts["test"].values())) == 1
  assert len(set(texts["train"].values())) == len(SEEDS)
  assert {len(choices) for _, choices in texts["test"][13]} == {4}


def test_no_real_target_is_among_its_own_demonstrations_by_text(
  data_dir, tmp_path
):
  """Texts from the data set's own files; every task is met."""
  provider = _real(data_dir, "small_hr_to_lr")
  tasks = SeqioTasks(
    "metaicl_small_hr_to_lr_train", "train", (provider,), str(tmp_path)
  ).open()
  assert len(tasks) == 15
  texts = {}
  for name in provider.task_names()["train"]:
    file = f"{name}_16384_100_train.jsonl"
    content = (data_dir / "metaicl" / "data" / name / file).read_text()
    texts[metaicl.task_name(name)] = [
      json.loads(line)["input"] for line in content.splitlines()
    ]
  lengths = Lengths(inputs=256, targets=256, demonstrations=1024)
  source = Episodes(tasks, FewShot((1, 16)), lengths, seed=3)
  met, num_demonstrations = set(), 0
  for index in range(3000):
    episode = source.episode(index)
    name = source.tasks[episode.task].name
    (target,) = episode.targets
    shown = {texts[name][row] for row in episode.demonstrations}
    assert texts[name][target] not in shown, (name, index)
    met.add(name)
    num_demonstrations += len(shown)
  assert met == set(texts)
  assert num_demonstrations > 3 * 3000
