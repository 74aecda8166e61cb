"""Plans of runs with a teacher and with unrelated text."""

import dataclasses

import jax
import pytest

from hyperjax.data import sources
from hyperjax.data.store import mixtures
from hyperjax.models import flops
from hyperjax.models.teaching import Teacher
from hyperjax.planning import jobs
from tests import runs_example


def _job(tmp_path, teacher=None, harm=0.0):
  """Of a run whose data is nowhere."""
  run = runs_example.multitask(tmp_path / "tokens", tmp_path / "run", None)
  problem = dataclasses.replace(run.problem, teacher=teacher, do_no_harm=harm)
  if harm:
    tasks = mixtures.StoredTasks("copies", str(tmp_path / "tokens"))
    text = sources.PrefixLmWindows(tasks, {"inputs": 5, "targets": 3})
    data = dataclasses.replace(run.data, unrelated=text)
    run = dataclasses.replace(run, data=data)
  run = dataclasses.replace(run, problem=problem)
  return jobs.of_training(run, jax.devices()[:1])


def _counted(job):
  return flops.count(job.trace().jaxpr, job.turns)


@pytest.mark.slow
def test_what_a_teacher_and_text_take_is_counted(tmp_path):
  """Though nothing of the data is there; 8 contexts of 2 rows."""
  plain = _counted(_job(tmp_path))
  taught = _job(tmp_path, Teacher(t5=runs_example.CONFIG))
  assert "teacher" in taught.held["weights_frozen"]
  held = _job(tmp_path, harm=1.0)
  assert held.batch.unrelated_inputs.shape == (8, 5)
  assert held.batch.unrelated_targets.shape == (8, 3)
  answering = _job(tmp_path, Teacher(targets="teacher", answer_length=4))
  assert answering.turns == 4 and taught.turns is None
  counts = [_counted(job) for job in (taught, held, answering)]
  assert all(count > plain for count in counts)
  assert counts[2] > counts[0]
