"""Super-NaturalInstructions' own lists and files, and its tasks as one mixture."""

import json
import subprocess
import sys

import numpy as np
import pytest

from hyperjax.batch import Lengths
from hyperjax.data import feed
from hyperjax.data.episodes import Episodes, FewShot
from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.tasks import superni
from hyperjax.tasks.superni import SuperNaturalInstructions
from tests import conftest

pytestmark = pytest.mark.seqio

LENGTHS = Lengths(inputs=1024, targets=128, demonstrations=1024)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
  return tmp_path_factory.mktemp("tokens")


@pytest.fixture(scope="module")
def tasks(data_dir, cache_dir):
  provider = SuperNaturalInstructions(str(data_dir), split_list="small")
  yield SeqioTasks("sni_train", "train", (provider,), str(cache_dir)).open()
  conftest.forget_tasks()


@pytest.mark.slow
def test_a_target_is_never_among_its_own_demonstrations_by_text(
  tasks, data_dir
):
  """Texts from the data set's own files; every task is met."""
  assert len(tasks) == 622
  source = Episodes(tasks, FewShot((1, 16)), LENGTHS, seed=3)
  texts = {}
  for path in (data_dir / "sni" / "tasks").glob("*.json"):
    instances = json.loads(path.read_text())["Instances"]
    texts[superni.task_name(path.stem)] = [
      row["input"].strip() for row in instances if row["output"][0].strip()
    ]
  met, num_demonstrations = set(), 0
  for index in range(4000):
    episode = source.episode(index)
    name = source.tasks[episode.task].name
    own = texts[name]
    (target,) = episode.targets
    shown = {own[row] for row in episode.demonstrations}
    assert own[target] not in shown, (name, index)
    met.add(name)
    num_demonstrations += len(shown)
  assert len(met) == len(source.tasks)
  assert num_demonstrations > 4 * 4000


@pytest.mark.slow
def test_the_same_episode_comes_for_the_same_index_whatever_the_hosts(tasks):
  few_shot = FewShot((1, 16), 2)
  whole = feed.make_batch(
    Episodes(tasks, few_shot, LENGTHS, seed=3), 4096, range(8)
  )
  for hosts in (2, 4):
    own = 8 // hosts
    for host in range(hosts):
      # Each host opens the mixture for itself and looks at nothing else.
      source = Episodes(tasks, few_shot, LENGTHS, seed=3)
      part = feed.make_batch(source, 4096, range(host * own, (host + 1) * own))
      np.testing.assert_array_equal(
        part.demonstrations,
        whole.demonstrations[host * own : (host + 1) * own],
      )
      np.testing.assert_array_equal(
        part.decoder_target_tokens,
        whole.decoder_target_tokens[2 * host * own : 2 * (host + 1) * own],
      )


@pytest.mark.slow
def test_a_second_start_stays_under_four_gigabytes(tasks, data_dir, cache_dir):
  """Through seqio, with all tasks registered, to the first batch."""
  assert tasks
  program = f"""
import pathlib
from hyperjax.batch import Lengths
from hyperjax.data import feed
from hyperjax.data.store import seqio_store
from hyperjax.data.episodes import Episodes, FewShot
from hyperjax.tasks import superni

provider = superni.SuperNaturalInstructions({str(data_dir)!r}, split_list="small")
tasks = seqio_store.SeqioTasks(
  "sni_train", "train", (provider,), {str(cache_dir)!r}
)
seqio_store._make = None  # nothing is stored again
source = Episodes(tasks.open(), FewShot((16, 16)), Lengths(1024, 128, 1024))
batch = feed.make_batch(source, 0, range(256))
assert batch.demonstrations.shape == (256, 1024)
# Not ru_maxrss, which begins at that of the process that started this one.
status = pathlib.Path("/proc/self/status").read_text()
(kilobytes,) = (
  int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line
)
assert kilobytes < 4 * 2**20, kilobytes
"""
  subprocess.run([sys.executable, "-c", program], check=True, cwd=conftest.ROOT)


@pytest.mark.slow
def test_the_real_files_have_the_tasks_and_rows_of_their_manifest(
  data_dir, tmp_path
):
  provider = SuperNaturalInstructions(str(data_dir), split_list="small")
  manifest = json.loads((data_dir / "sni" / "manifest.json").read_text())
  for split, num_tasks in (("train", 622), ("test", 63)):
    tasks = SeqioTasks(f"sni_{split}", split, (provider,), str(tmp_path))
    opened = {task.name: task for task in tasks.open()}
    assert len(opened) == num_tasks
    kept = {
      superni.task_name(entry["task"]): entry["instances_kept"]
      for entry in manifest
      if entry["split"] == split
    }
    assert opened.keys() == kept.keys()
    blank = sum(kept[name] - len(opened[name].rows) for name in kept)
    # The only rows left out are those with nothing to learn.
    assert blank == (
      _blank_first_outputs(data_dir, kept) if split == "train" else 0
    )


def test_the_default_lists_are_those_of_the_paper_less_what_is_not_here(
  data_dir, caplog
):
  """756 and 119 tasks (the paper says 757); all that are here are in them."""
  both = {}
  for name in ("default", "small"):
    provider = SuperNaturalInstructions(
      str(data_dir), split_list=name, skip_missing=True
    )
    both[name] = provider.task_names()
  assert both["default"] == both["small"]
  assert [len(names) for names in both["small"].values()] == [622, 63]
  assert not set(both["small"]["train"]) & set(both["small"]["test"])
  assert "134 of 756 tasks have no file and are left out" in caplog.text
  assert "56 of 119 tasks have no file and are left out" in caplog.text
  default = SuperNaturalInstructions(str(data_dir))
  with pytest.raises(
    ValueError, match=r"train_tasks\.txt names 134 tasks with"
  ):
    default.register()


def test_no_real_target_is_a_positive_example_of_its_task(data_dir):
  """So every test task has its first two as demonstrations."""
  folder = data_dir / "sni"
  names = (folder / "splits" / "small" / "test_tasks.txt").read_text().split()
  num_targets = 0
  for name in names:
    task = json.loads((folder / "tasks" / f"{name}.json").read_text())
    targets = {x["input"].strip() for x in task["Instances"][:100]}
    shown = [x["input"].strip() for x in task["Positive Examples"][:2]]
    assert len(shown) == 2 and not targets & set(shown), name
    num_targets += min(len(task["Instances"]), 100)
  assert num_targets == 6284


def _blank_first_outputs(data_dir, names):
  count = 0
  for path in (data_dir / "sni" / "tasks").glob("*.json"):
    if superni.task_name(path.stem) in names:
      instances = json.loads(path.read_text())["Instances"]
      count += sum(not x["output"][0].strip() for x in instances)
  assert count > 0
  return count
