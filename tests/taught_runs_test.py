"""Runs that learn from a teacher, read other labels and leave other text alone."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from hyperjax import loop, metrics, runs
from hyperjax.artifacts import run_file
from hyperjax.data import sources
from hyperjax.data.buckets import Buckets
from hyperjax.data.store import mixtures, store
from hyperjax.evaluation.few_shot import FewShotEvaluation
from hyperjax.models.teaching import Teacher
from tests import runs_example
from tests.runs_test import _assert_same_run, _saved

pytestmark = pytest.mark.slow

# Of the tasks that are trained on; either has each as often.
LABELS = {"two": [[3], [4]], "three": [[5, 9], [6, 9], [7, 9]]}


@pytest.fixture(scope="module")
def in_context(world, tmp_path_factory):
  """A T5 that was trained to read demonstrations in its input."""
  folder = tmp_path_factory.mktemp("in_context") / "run"
  runs_example.full(
    world / "tokens", folder, world / "backbone", True, steps=2
  ).execute()
  return folder


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
  """Stored tasks of few different outputs."""
  folder = tmp_path_factory.mktemp("labelled")
  generator, folders = np.random.default_rng(0), []
  for name, labels in LABELS.items():
    rows = [
      {
        "inputs": [*generator.integers(10, 32, 3).tolist(), 1],
        "targets": [*labels[i % len(labels)], 1],
      }
      for i in range(60)
    ]
    info = {"task": name, "split": "train", "vocabulary": None}
    own = folder / name / "train"
    store.write(own, rows, ("inputs", "targets"), info, 32, False)
    folders.append((name, 1.0, own))
  mixtures.write_mixture(folder, runs_example.MIXTURE, "train", False, folders)
  return folder


def _run(tokens, folder, backbone, teacher=None, harm=0.0, data=None, **more):
  joint = more.pop("train_backbone", False)
  run = runs_example.multitask(
    tokens,
    folder,
    backbone,
    **{"periods": loop.Periods(log=1, save=2), **more},
  )
  problem = dataclasses.replace(
    run.problem, teacher=teacher, do_no_harm=harm, train_backbone=joint
  )
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
def undisturbed(world, labelled, in_context, tmp_path_factory):
  folder = tmp_path_factory.mktemp("taught") / "run"
  options = _everything(world, in_context)
  _run(labelled, folder, world / "backbone", **options).execute()
  return folder


def test_episodes_of_these_runs_are_relabelled(world, labelled, in_context):
  run = _run(labelled, "run", None, **_everything(world, in_context))
  source = run.data.open(0)
  seen = [source.episode(i).relabelling is not None for i in range(32)]
  assert 8 < sum(seen) < 24


def test_a_run_goes_on_bit_for_bit_with_the_teacher_it_began_with(
  world, labelled, in_context, undisturbed, tmp_path
):
  options = _everything(world, in_context)
  for steps in (2, 4):
    run = _run(
      labelled, tmp_path / "run", world / "backbone", steps=steps, **options
    )
    run.execute()
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
  world, labelled, in_context, undisturbed, tmp_path
):
  options = _everything(world, in_context)

  def run(folder, **changes):
    own = options | changes
    return _run(labelled, tmp_path / folder, world / "backbone", **own)

  run("run", steps=2).execute()
  record = json.loads((tmp_path / "run" / run_file.FILE).read_text())
  record["teacher"]["identity"] = "0" * 64
  (tmp_path / "run" / run_file.FILE).write_text(json.dumps(record))
  with pytest.raises(ValueError, match="is not the teacher of this run"):
    run("run").execute()
  for changes in ({"teacher_checkpoint": None}, {"teacher": Teacher()}):
    with pytest.raises(ValueError, match="TEACHER_CHECKPOINT is"):
      run("other", **changes).execute()
  with pytest.raises(ValueError, match="TEACHER_CHECKPOINT is"):
    run("run", teacher=Teacher()).execute()


def test_a_teacher_that_has_moved_is_found_where_the_run_says(
  world, labelled, in_context, undisturbed, tmp_path
):
  options = _everything(world, in_context)
  first, moved = tmp_path / "first", tmp_path / "moved"
  shutil.copytree(in_context, first)

  def run(teacher, **changes):
    own = options | {"teacher_checkpoint": str(teacher)} | changes
    return _run(labelled, tmp_path / "run", world / "backbone", **own)

  run(first, steps=2).execute()
  first.rename(moved)
  with pytest.raises(ValueError, match="say where with TEACHER_CHECKPOINT"):
    run(first).execute()
  with pytest.raises(ValueError, match="is not the teacher of this run"):
    run(world / "backbone").execute()
  run(moved).execute()
  _assert_same_run(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("is_joint", (False, True))
def test_a_teacher_of_its_own_is_beside_any_backbone_and_found_again(
  world, labelled, in_context, tmp_path, is_joint
):
  """Beside a random one, and one that is trained."""
  options = _everything(world, in_context)
  if is_joint:
    options |= {"harm": 0.0, "train_backbone": True}
  initial = world / "backbone" if is_joint else None
  for folder, stops in (("whole", (4,)), ("parts", (2, 4))):
    for steps in stops:
      run = _run(labelled, tmp_path / folder, initial, steps=steps, **options)
      run.execute()
  _assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_buckets_teach_and_hold_as_padded_batches_do(world, labelled, tmp_path):
  """Where the teacher answers itself, too."""
  found = []
  for name, changes in (
    ("padded", {}),
    ("buckets", {"buckets": Buckets(), "num_microbatches": 2}),
  ):
    run = _run(
      labelled,
      tmp_path / name,
      world / "backbone",
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
