import json

import pytest
import seqio

from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.tasks import c4, mixtures, records

pytestmark = pytest.mark.seqio


def _text(root, name):
  (root / name).mkdir()
  line = json.dumps({"text": "alice paris"})
  (root / name / "train.json").write_text(line + "\n")
  return c4.JsonLinesText(
    str(root), name, name, vocabulary=str(records.VOCABULARY), extra_ids=0
  )


def test_a_mixture_has_the_tasks_and_rates_that_gin_names(tmp_path):
  providers = (
    _text(tmp_path, "mixed_one"),
    _text(tmp_path, "mixed_two"),
    mixtures.Mixture("mixed", (("mixed_one", 3), ("mixed_two", 0.5))),
  )
  for _ in range(2):  # each of a run's task sets registers its providers
    tasks = SeqioTasks("mixed", "train", providers, str(tmp_path / "cache"))
    assert {task.name: task.rate for task in tasks.open()} == {
      "mixed_one": 3.0,
      "mixed_two": 0.5,
    }


def test_a_mixture_before_its_tasks_is_refused_by_name(tmp_path):
  mixture = mixtures.Mixture("mixed", (("mixed_one", 1.0),))
  tasks = SeqioTasks("mixed", "train", (mixture, _text(tmp_path, "mixed_one")))
  with pytest.raises(
    ValueError, match=r"no task 'mixed_one' is registered.*providers"
  ):
    tasks.open()
  assert "mixed" not in seqio.MixtureRegistry.names()
