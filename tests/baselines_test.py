"""Runs of baselines and of fine-tuned adapters: what they begin with, and go on."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from hyperjax import (
  adapters,
  checkpoints,
  metrics,
  optimizers,
  runs,
  trainer,
  trees,
)
from hyperjax.artifacts import adapter_folder, restore_adapters
from hyperjax.batch import Lengths, assemble
from hyperjax.data import pairs
from hyperjax.data.store import mixtures
from hyperjax.evaluation import curves, few_shot
from hyperjax.loop import Periods
from tests import runs_example

pytestmark = pytest.mark.slow

STILL = optimizers.AdamW(optimizers.Constant(0.0))
LENGTHS = Lengths.from_features(runs_example.LENGTHS)


def _params(folder):
  """Of the last checkpoint."""
  saver = checkpoints.Checkpoints(folder / "checkpoints", read_only=True)
  restored = saver._manager.restore(saver.latest())
  saver.close()
  return trees.flatten(restored["params"])


@pytest.fixture(scope="module")
def hyper(world, tmp_path_factory):
  """A run of a hypermodel, a few large steps from its beginning."""
  folder = tmp_path_factory.mktemp("hyper") / "run"
  optimizer = optimizers.AdamW(optimizers.Constant(1e-2))
  runs_example.multitask(
    world / "tokens", folder, world / "backbone", optimizer=optimizer
  ).execute()
  return folder


@pytest.fixture(scope="module")
def shared(world, tmp_path_factory):
  """A run of one adapter for both tasks."""
  folder = tmp_path_factory.mktemp("shared") / "run"
  optimizer = optimizers.AdamW(optimizers.Constant(1e-1))
  runs_example.shared(
    world / "tokens", folder, world / "backbone", optimizer=optimizer
  ).execute()
  return folder


RUNS = {
  "in_context": lambda *x, **y: runs_example.full(
    *x, reads_demonstrations=True, **y
  ),
  "shared": runs_example.shared,
  "side_by_side": runs_example.side_by_side,
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_taken_up_again_is_the_run_that_never_stopped(
  world, tmp_path, name, capsys
):
  """The same lines, curves among them, and bit for bit the same arrays."""
  start = (world / "tokens", tmp_path / "whole", world / "backbone")
  whole = RUNS[name](*start, steps=6, periods=Periods(2, 2, None))
  if whole.evaluations:
    whole = dataclasses.replace(whole, periods=Periods(2, 2, 2))
  whole.execute()
  if whole.evaluations:  # curves of single tasks are for the file
    assert re.search(
      r"^step 2  curves/loss \S+  curves/equal \S+  and 4 more$",
      capsys.readouterr().out,
      re.M,
    )
  parts = dataclasses.replace(whole, model_dir=str(tmp_path / "parts"))
  dataclasses.replace(parts, steps=4).execute()
  parts.execute()
  lines = [
    (tmp_path / x / metrics.METRICS).read_text() for x in ("whole", "parts")
  ]
  assert lines[0] == lines[1]
  assert [
    line["step"] for line in metrics.read(tmp_path / "whole" / metrics.METRICS)
  ][-1] == 6
  one, other = _params(tmp_path / "whole"), _params(tmp_path / "parts")
  assert one.keys() == other.keys()
  for path, array in one.items():
    np.testing.assert_array_equal(array, other[path], err_msg=path)
  before = _params(world / "backbone")
  for path, array in one.items():
    if path in before:
      assert np.any(array != before[path]), path


def test_a_task_that_joins_or_leaves_a_run_is_refused(world, tmp_path):
  """Its arrays are the tasks' in this order."""
  start = (world / "tokens", tmp_path / "run", world / "backbone")
  run = runs_example.side_by_side(*start, steps=2)
  run.execute()
  tokens = tmp_path / "tokens"
  for split, count in (("train", 40), ("held_out", 10)):
    runs_example.write_tasks(tokens, split, count)
    stored = mixtures.open_mixture(tokens, runs_example.MIXTURE, split)
    folders = [
      (task.name, 1.0, tokens / task.name / split) for task in stored[::-1]
    ]
    mixtures.write_mixture(tokens, runs_example.MIXTURE, split, False, folders)
  other = runs_example.side_by_side(
    tokens, tmp_path / "run", world / "backbone", steps=4
  )
  with pytest.raises(ValueError, match=r"data.tasks +2 in another order"):
    other.execute()


def _hypermodels_loss(world, hyper, run):
  """Of each task's held-out rows under what the hypermodel writes for it.

  From the run of the hypermodel itself, by the loss that it is trained on.
  """
  multitask = runs_example.multitask(
    world / "tokens", hyper, world / "backbone"
  )
  of_hyper = trainer.Trainer(multitask.problem, STILL, run.mesh.build())
  given = restore_adapters.load(str(hyper), of_hyper)
  source = run.data.open(run.seed)
  held_out = {task.name: task for task in run.evaluations[0].targets.open()}
  losses, loss_of = {}, jax.jit(of_hyper.problem.loss)
  for task, shown in zip(source.tasks, source.demonstrations(), strict=True):
    rows = held_out[task.name]
    context = pairs.read(rows, range(len(rows.rows)), LENGTHS)
    batch = assemble(
      [dataclasses.replace(context, demonstrations=shown)], LENGTHS
    )
    loss, weight, _ = loss_of(
      jax.tree.map(np.asarray, given.params), given.frozen, batch, None
    )
    losses[task.name] = float(loss / weight)
  return losses


def test_at_step_0_adapters_of_a_hypermodel_have_its_loss(
  world, hyper, tmp_path
):
  run = runs_example.side_by_side(
    world / "tokens", tmp_path / "run", hyper, steps=2
  )
  run.execute()
  wanted = _hypermodels_loss(world, hyper, run)
  found = curves.read(tmp_path / "run", "curves")
  assert found.keys() == wanted.keys() == {"copy_1", "copy_3"}
  for task, curve in found.items():
    assert curve.steps == [0, 2]
    assert curve.values[0] == pytest.approx(wanted[task], rel=1e-5)
    assert curve.values[1] != curve.values[0]
  assert abs(wanted["copy_1"] - wanted["copy_3"]) > 1e-3


def test_a_shared_adapter_is_each_tasks_beginning(world, shared, tmp_path):
  """And its loss, by the problem that trained it, is that of the curves."""
  run = runs_example.side_by_side(
    world / "tokens", tmp_path / "run", shared, steps=2, optimizer=STILL
  )
  run.execute()
  wanted = _params(shared)
  for path, array in _params(tmp_path / "run").items():
    assert array.shape[1] == 2 and wanted[path].shape[1] == 1
    for task in range(2):
      np.testing.assert_array_equal(array[:, task], wanted[path][:, 0])
  again = runs_example.shared(world / "tokens", shared, world / "backbone")
  of_shared = trainer.Trainer(again.problem, STILL, again.mesh.build())
  given = restore_adapters.load(str(shared), of_shared)
  loss_of = jax.jit(again.problem.loss)
  for task in run.evaluations[0].targets.open():
    context = pairs.read(task, range(len(task.rows)), LENGTHS)
    loss, weight, _ = loss_of(
      jax.tree.map(np.asarray, given.params),
      given.frozen,
      assemble([context], LENGTHS),
      None,
    )
    curve = curves.read(tmp_path / "run", "curves")[task.name]
    assert curve.values[0] == pytest.approx(float(loss / weight), rel=1e-5)


def _adapter(world, shared, spec=None):
  """An adapter folder's content, of that backbone, with arrays at random."""
  spec = spec or adapters.PrefixSpec(2)
  again = runs_example.shared(world / "tokens", shared, world / "backbone")
  of_shared = trainer.Trainer(again.problem, STILL, again.mesh.build())
  given = restore_adapters.load(str(shared), of_shared)
  generator = np.random.default_rng(0)
  arrays = jax.tree.map(
    lambda x: generator.normal(size=x.shape).astype(np.float32),
    spec.abstract(runs_example.CONFIG),
  )
  info = adapter_folder.Info(
    spec=spec,
    config=runs_example.CONFIG,
    backbone=given.backbone,
    tokenizer=None,
    lengths=runs_example.LENGTHS,
    origin={},
  )
  return adapter_folder.Adapter(info, arrays)


def test_an_adapter_folder_is_a_beginning_for_one_task_or_several(
  world, shared, tmp_path
):
  adapter = _adapter(world, shared)
  adapter.save(tmp_path / "adapter")
  wanted = trees.flatten(adapters.as_params(adapter.arrays))
  for name in ("shared", "side_by_side"):
    folder = tmp_path / name
    start = (world / "tokens", folder, tmp_path / "adapter")
    RUNS[name](*start, steps=2, optimizer=STILL).execute()
    found = _params(folder)
    assert len(found) == len(wanted)
    for path, array in wanted.items():
      for own in np.moveaxis(found[f"adapters/{path}"], 1, 0):
        np.testing.assert_array_equal(own, array[:, 0])


@pytest.mark.slow
def test_an_adapter_at_places_of_its_own_trains_on_as_it_is(
  world, shared, tmp_path
):
  """As one of PEFT does; ranks that only fill a layer up stay as they are."""
  places = {"encoder.attention.query": 2, "decoder.mlp.wo": 1}
  spec = adapters.PlacedLoraSpec(places)
  adapter = _adapter(world, shared, spec)
  filled = adapter.arrays.encoder.attention.query
  filled.down[0, :, :, 1], filled.up[0, :, 1] = 0, 0
  adapter.save(tmp_path / "adapter")
  before = trees.flatten(adapters.as_params(adapter.arrays))
  start = (world / "tokens", tmp_path / "run", tmp_path / "adapter")
  RUNS["side_by_side"](*start, spec, steps=2).execute()
  found = _params(tmp_path / "run")
  for path, array in before.items():
    assert not np.array_equal(found[f"adapters/{path}"][:, :1], array), path
  query = "adapters/encoder/layers/attention/query"
  assert not found[f"{query}/down"][0, :, :, 1].any()
  assert not found[f"{query}/up"][0, :, 1].any()


def test_beginnings_that_do_not_fit_are_refused(world, hyper, shared, tmp_path):
  tokens = world / "tokens"
  with pytest.raises(ValueError, match=r"writes an adapter from the demonstra"):
    runs_example.shared(tokens, tmp_path / "run", hyper).execute()
  longer = adapters.PrefixSpec(3)
  for initial in (hyper, shared):
    with pytest.raises(ValueError, match=r"length +2 +3"):
      runs_example.side_by_side(
        tokens, tmp_path / "run", initial, longer
      ).execute()
  _adapter(world, shared, longer).save(tmp_path / "longer")
  with pytest.raises(ValueError, match=r"length +3 +2"):
    runs_example.shared(tokens, tmp_path / "run", tmp_path / "longer").execute()
  other = _adapter(world, shared)
  backbone = dataclasses.replace(other.info.backbone, identity="0" * 64)
  info = dataclasses.replace(other.info, backbone=backbone)
  dataclasses.replace(other, info=info).save(tmp_path / "other")
  with pytest.raises(ValueError, match=r"is not the backbone of this run"):
    runs_example.shared(tokens, tmp_path / "run", tmp_path / "other").execute()
  with pytest.raises(ValueError, match=r"a run of AdapterFineTuning; this one"):
    runs_example.full(tokens, tmp_path / "run", shared).execute()
  with pytest.raises(ValueError, match=r"num_tasks is 2: .*TasksSideBySide"):
    run = runs_example.side_by_side(tokens, tmp_path / "run", shared)
    episodes = runs_example.shared(tokens, tmp_path / "run", shared).data
    dataclasses.replace(run, data=episodes)
  assert not (tmp_path / "run").exists()


def test_joint_training_begins_where_a_frozen_backbone_left_off(
  world, hyper, tmp_path
):
  run = runs_example.multitask(
    world / "tokens", tmp_path / "run", hyper, optimizer=STILL, steps=2
  )
  jointly = dataclasses.replace(run.problem, train_backbone=True)
  run = dataclasses.replace(run, problem=jointly)
  run.execute()
  found = _params(tmp_path / "run")
  wanted = _params(hyper) | _params(world / "backbone")
  assert found.keys() == wanted.keys()
  for path, array in wanted.items():
    np.testing.assert_array_equal(found[path], array, err_msg=path)
  # Trained on, all of it moves; and the run goes on from its own backbone.
  moving = optimizers.AdamW(optimizers.Constant(1e-2))
  second = dataclasses.replace(
    run,
    model_dir=str(tmp_path / "second"),
    initial_checkpoint=str(tmp_path / "run"),
    optimizer=moving,
  )
  second.execute()
  moved = _params(tmp_path / "second")
  for path, array in wanted.items():
    assert np.any(moved[path] != array), path


def test_a_t5_that_was_fine_tuned_is_a_backbone(world, tmp_path):
  tokens = world / "tokens"
  runs_example.full(tokens, tmp_path / "full", world / "backbone").execute()
  run = runs_example.multitask(
    tokens, tmp_path / "run", tmp_path / "full", optimizer=STILL, steps=2
  )
  run.execute()
  tuned, found = _params(tmp_path / "full"), _params(tmp_path / "run")
  path = "decoder/layers/mlp/wo/kernel"
  hypers = found[f"hypermodel/{path}"]
  np.testing.assert_array_equal(hypers, tuned[f"backbone/{path}"])
  assert np.any(hypers != _params(world / "backbone")[f"backbone/{path}"])


def test_baselines_are_evaluated_under_the_controls_that_matter(
  world, shared, tmp_path
):
  """And a T5 trained otherwise than it is asked is refused."""
  for split, count in (("train", 40), ("test", 10)):
    runs_example.write_tasks(tmp_path / "tokens", split, count, records=True)
  targets = mixtures.StoredTasks(
    runs_example.MIXTURE, str(tmp_path / "tokens"), "test", True
  )
  asked = few_shot.FewShotEvaluation(
    "copies",
    targets,
    dataclasses.replace(targets, split="train"),
    num_demonstrations=2,
    feature_lengths=runs_example.LENGTHS,
    rows_per_context=5,
    contexts_per_batch=8,
    metrics=("equal",),
  )
  tokens = world / "tokens"
  start = (tokens, tmp_path / "in_context", world / "backbone", True)
  in_context = runs_example.full(*start, steps=2)
  in_context.execute()
  evaluated = {
    shared: runs_example.shared(tokens, shared, world / "backbone").problem,
    tmp_path / "in_context": in_context.problem,
  }
  wanted = {
    "AdapterFineTuning": {"right", "none"},
    "FullFineTuning": {"right", "none", "rotated", "other"},
  }
  for folder, problem in evaluated.items():
    evaluate = runs.Evaluate(str(folder), problem, (asked,))
    (results,) = evaluate.execute()
    assert results["scores"].keys() == wanted[results["problem"]]
    path = folder / "inference_eval" / "copies-predictions.jsonl"
    lines = path.read_text().splitlines()
    assert len(lines) == 20
    assert json.loads(lines[0])["predictions"].keys() >= {"right", "none"}
  without = dataclasses.replace(in_context.problem, reads_demonstrations=False)
  evaluate = runs.Evaluate(str(tmp_path / "in_context"), without, (asked,))
  with pytest.raises(ValueError, match=r"reads_demonstrations +True +False"):
    evaluate.execute()
