"""All training tasks of Super-NaturalInstructions as one mixture."""

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
from tests import conftest

pytestmark = [pytest.mark.seqio, pytest.mark.slow]
pytest.importorskip("seqio")

LENGTHS = Lengths(inputs=1024, targets=128, demonstrations=1024)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
  return tmp_path_factory.mktemp("tokens")


@pytest.fixture(scope="module")
def tasks(data_dir, cache_dir):
  provider = superni.SuperNaturalInstructions(str(data_dir), split_list="small")
  yield SeqioTasks("sni_train", "train", (provider,), str(cache_dir)).open()
  conftest.forget_tasks()


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


def test_a_second_start_stays_under_four_gigabytes(tasks, data_dir, cache_dir):
  """Through seqio, with all tasks registered, to the first batch."""
  assert tasks
  program = f"""
import pathlib
from hyperjax.batch import Lengths
from hyperjax.data import feed, seqio_store
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
