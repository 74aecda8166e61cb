"""Runs that learn from a teacher, read other labels and leave other text alone."""

import dataclasses
import json

import numpy as np
import pytest

from hyperjax import loop, metrics, runs
from hyperjax.artifacts import run_file
from hyperjax.data import sources
from hyperjax.data.buckets import Buckets
from hyperjax.data.store import mixtures
from hyperjax.evaluation.few_shot import FewShotEvaluation
from hyperjax.models.teaching import Teacher
from tests import runs_example
from tests.runs_test import _assert_same_run, _saved

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def in_context(world, tmp_path_factory):
  """A T5 that was trained to read demonstrations in its input."""
  folder = tmp_path_factory.mktemp("in_context") / "run"
  runs_example.full(
    world / "tokens", folder, world / "backbone", True, steps=2
  ).execute()
  return folder


def _run(world, folder, teacher=None, harm=0.0, data=None, **changes):
  run = runs_example.multitask(
    world / "tokens",
    folder,
    world / "backbone",
    **{"periods": loop.Periods(log=1, save=2), **changes},
  )
  problem = dataclasses.replace(run.problem, teacher=teacher, do_no_harm=harm)
  own = dataclasses.replace(run.data, **(data or {}))
  return dataclasses.replace(run, problem=problem, data=own)


def _text(world, split="train"):
  tasks = mixtures.StoredTasks("copies", str(world / "tokens"), split=split)
  return sources.TextPairs(tasks, {"inputs": 6, "targets": 6})


def _everything(world, in_context):
  """Dropout is on."""
  return {
    "teacher": Teacher(weight=0.5, top=4, t5=runs_example.CONFIG),
    "teacher_checkpoint": str(in_context),
    "harm": 0.3,
    "data": {"relabel": 0.5, "unrelated": _text(world)},
  }


@pytest.fixture(scope="module")
def undisturbed(world, in_context, tmp_path_factory):
  folder = tmp_path_factory.mktemp("taught") / "run"
  _run(world, folder, **_everything(world, in_context)).execute()
  return folder


def test_a_run_goes_on_bit_for_bit_with_the_teacher_it_began_with(
  world, in_context, undisturbed, tmp_path
):
  options = _everything(world, in_context)
  _run(world, tmp_path / "run", steps=2, **options).execute()
  _run(world, tmp_path / "run", **options).execute()
  _assert_same_run(tmp_path / "run", undisturbed)
  _, arrays = _saved(undisturbed)
  assert not any("teacher" in x or "backbone" in x for x in arrays)
  record = run_file.read(undisturbed)
  assert record.teacher.source == str(in_context) and record.teacher.step == 2
  assert record.teacher.identity != record.backbone.identity
  first = metrics.read(undisturbed / metrics.METRICS)[0]
  assert first["teacher_divergence"] > 0 and "drift" in first


def test_it_is_scored_without_the_teacher_and_its_drift_is_told(
  world, undisturbed, tmp_path
):
  runs_example.write_tasks(tmp_path, "held_out", 10, records=True)
  tasks = mixtures.StoredTasks("copies", str(tmp_path), "held_out", True)
  asked = FewShotEvaluation(
    "unseen",
    tasks,
    mixtures.StoredTasks("copies", str(world / "tokens")),
    2,
    controls=("right", "none"),
    metrics=("equal",),
    unrelated=_text(world),
    num_unrelated=5,
  )
  out = tmp_path / "out"
  (found,) = runs.Evaluate(str(undisturbed), None, (asked,), str(out)).execute()
  assert found["drift"]["mean"] > 0
  written = json.loads((out / "unseen-results.json").read_text())
  assert written["drift"] == found["drift"]
  assert written["settings"]["unrelated"]["windows"] == 5


def test_a_teacher_that_has_changed_is_refused(
  world, in_context, undisturbed, tmp_path
):
  options = _everything(world, in_context)
  _run(world, tmp_path / "run", steps=2, **options).execute()
  record = json.loads((tmp_path / "run" / run_file.FILE).read_text())
  record["teacher"]["identity"] = "0" * 64
  (tmp_path / "run" / run_file.FILE).write_text(json.dumps(record))
  with pytest.raises(ValueError, match="is not the teacher of this run"):
    _run(world, tmp_path / "run", **options).execute()
  for changes in ({"teacher_checkpoint": None}, {"teacher": Teacher()}):
    with pytest.raises(ValueError, match="TEACHER_CHECKPOINT is"):
      _run(world, tmp_path / "other", **(options | changes)).execute()


def test_buckets_teach_and_hold_as_padded_batches_do(world, tmp_path):
  """Where the teacher answers itself, too."""
  found = []
  for name, changes in (
    ("padded", {}),
    ("buckets", {"buckets": Buckets(), "num_microbatches": 2}),
  ):
    run = _run(
      world,
      tmp_path / name,
      Teacher(targets="teacher", answer_length=6),
      harm=0.5,
      data={"relabel": 0.5, "unrelated": _text(world)},
      batch_size=64,
      steps=2,
      **changes,
    )
    t5 = dataclasses.replace(run.problem.backbone, dropout_rate=0.0)
    hyper = dataclasses.replace(run.problem.hypermodel, t5=t5)
    problem = dataclasses.replace(run.problem, backbone=t5, hypermodel=hyper)
    dataclasses.replace(run, problem=problem).execute()
    found.append(metrics.read(tmp_path / name / metrics.METRICS))
  for padded, own in zip(*found, strict=True):
    for name in ("loss", "teacher_divergence", "drift", "gradient_norm"):
      assert own[name] == pytest.approx(padded[name], rel=2e-5), name
  assert np.isfinite(found[0][0]["loss"])
