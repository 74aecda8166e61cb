"""What a run promises: it continues as if never stopped, or says why not."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from hyperjax import adapters, checkpoints, metrics, optimizers, trees
from hyperjax.data import episodes, sources
from hyperjax.data.store import mixtures
from hyperjax.evaluation.loss import LossEvaluation
from hyperjax.loop import Periods, Stopped
from tests import conftest, runs_example

pytestmark = pytest.mark.slow


def _multitask(world, folder, **changes):
  return runs_example.multitask(
    world / "tokens", folder, world / "backbone", **changes
  )


def _saved(run_dir):
  """Step, and every array of the last checkpoint."""
  saver = checkpoints.Checkpoints(pathlib.Path(run_dir) / "checkpoints")
  step = saver.latest()
  folder = saver._folder / str(step)
  restored = saver._manager.restore(step)
  saver.close()
  assert folder.is_dir()
  leaves, _ = jax.tree_util.tree_flatten_with_path(
    {name: restored[name] for name in ("params", "opt_state")}
  )
  return step, {jax.tree_util.keystr(path): x for path, x in leaves}


def _assert_same_run(one, other):
  for folder in (one, other):
    assert (folder / metrics.METRICS).stat().st_size
  assert (one / metrics.METRICS).read_text() == (
    other / metrics.METRICS
  ).read_text()
  step, arrays = _saved(one)
  other_step, other_arrays = _saved(other)
  assert step == other_step and arrays.keys() == other_arrays.keys()
  for path, array in arrays.items():
    np.testing.assert_array_equal(array, other_arrays[path], err_msg=path)


@pytest.fixture(scope="module")
def undisturbed(world, tmp_path_factory):
  folder = tmp_path_factory.mktemp("undisturbed") / "run"
  _multitask(world, folder, steps=7, periods=Periods(log=7, save=2)).execute()
  return folder


def test_a_run_stopped_by_a_signal_continues_as_if_never_stopped(
  world, undisturbed, tmp_path, monkeypatch
):
  """In this very process: SIGTERM arrives while a batch is made ahead.

  It stops between two lines of metrics and two checkpoints; dropout is on.
  """
  run = _multitask(world, tmp_path, steps=7, periods=Periods(log=7, save=5))
  first = episodes.Episodes.__getitem__

  def interrupting(source, index):
    if index == 8 * 5:  # the sixth batch
      os.kill(os.getpid(), signal.SIGTERM)
    return first(source, index)

  with monkeypatch.context() as patch:
    patch.setattr(episodes.Episodes, "__getitem__", interrupting)
    with pytest.raises(Stopped, match="saved") as stopped:
      run.execute()
  assert 1 <= stopped.value.step < 7
  assert _saved(tmp_path)[0] == stopped.value.step
  run.execute()
  _assert_same_run(tmp_path, undisturbed)


def test_a_finished_run_is_left_as_it_is(world, undisturbed, capsys):
  before = _saved(undisturbed)[1]
  _multitask(world, undisturbed, steps=7).execute()
  assert "already trained to step 7" in capsys.readouterr().out
  after = _saved(undisturbed)[1]
  for path, array in before.items():
    np.testing.assert_array_equal(array, after[path])


def test_a_run_folder_says_what_was_trained(undisturbed):
  text = (undisturbed / "model-info.txt").read_text()
  trained = sum(
    array.size
    for path, array in _saved(undisturbed)[1].items()
    if path.startswith("['params']")
  )
  assert f"trained: {trained:,} parameters" in text
  assert "frozen   backbone/token_embedder/embedding  float32[32, 8]" in text
  lines = metrics.read(undisturbed / metrics.METRICS)
  assert [line["step"] for line in lines] == [7]
  assert lines[0]["learning_rate"] == pytest.approx(1e-3)
  assert lines[0].keys() >= {"loss", "token_accuracy", "gradient_norm"}
  timings = metrics.read(undisturbed / metrics.TIMINGS)
  assert [line["step"] for line in timings] == [7]
  assert all(line["tokens_per_second"] > 0 for line in timings)


def test_tensorboard_events_repeat_the_lines(undisturbed):
  from tensorboardX.proto import event_pb2

  (path,) = undisturbed.glob("events.out.tfevents.*")
  found = {}
  content = path.read_bytes()
  while content:  # records: length, its checksum, data, its checksum
    (length,) = struct.unpack("<Q", content[:8])
    event = event_pb2.Event.FromString(content[12 : 12 + length])
    content = content[16 + length :]
    for value in event.summary.value:
      found.setdefault((event.step, value.tag), []).append(value.simple_value)
  for line in metrics.read(undisturbed / metrics.METRICS):
    assert found[line["step"], "loss"] == [pytest.approx(line["loss"])]


def test_what_lies_past_the_restored_step_is_cut_from_the_events(tmp_path):
  log = metrics.RunLog(tmp_path, None)
  for step in (1, 2, 3):
    log.write(step, {"loss": 1.0 / step})
  log.close()
  log = metrics.RunLog(tmp_path, 2)
  log.close()
  assert [x["step"] for x in metrics.read(tmp_path / metrics.METRICS)] == [1, 2]
  (events,) = tmp_path.glob("events.out.tfevents.*")
  assert events.read_bytes().count(b"loss") == 2


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(
  world, tmp_path
):
  # The first update throws the weights to 1e30: what follows overflows.
  optimizer = optimizers.AdamW(optimizers.Constant(1e30))
  run = _multitask(
    world, tmp_path, optimizer=optimizer, periods=Periods(log=1, save=1)
  )
  with pytest.raises(
    FloatingPointError,
    match=r"step 2: the \w+ is (nan|inf).*context 16 of .*good .* step 1",
  ):
    run.execute()
  assert [x["step"] for x in metrics.read(tmp_path / metrics.METRICS)] == [1]
  assert _saved(tmp_path)[0] == 1


def test_a_checkpoint_of_another_model_is_refused(world, undisturbed, tmp_path):
  shutil.copytree(undisturbed, tmp_path / "run")
  other = _multitask(
    world, tmp_path / "run", steps=9, spec=adapters.PrefixSpec(3)
  )
  with pytest.raises(
    ValueError,
    match=r"(?s)step 7, .*adapters.length +2 +3 +its arrays would mean",
  ):
    other.execute()
  other = _multitask(
    world, tmp_path / "run", steps=9, spec=adapters.LoraSpec(2)
  )
  with pytest.raises(
    ValueError, match=r"(?s)alpha +- +16.*kind +PrefixSpec +LoraSpec"
  ):
    other.execute()
  _assert_same_run(tmp_path / "run", undisturbed)


def test_arrays_that_fit_but_mean_something_else_are_refused(
  world, undisturbed, tmp_path
):
  """No array changes shape by these; every answer would change."""
  run = _multitask(world, undisturbed, steps=9)
  hyper = dataclasses.replace(run.problem.hypermodel, bidirectional_slots=True)
  problem = dataclasses.replace(run.problem, hypermodel=hyper)
  for other in (
    dataclasses.replace(run, problem=problem),
    dataclasses.replace(
      run,
      problem=problem,
      model_dir=str(tmp_path),
      initial_checkpoint=str(undisturbed),
    ),
  ):
    with pytest.raises(ValueError, match=r"bidirectional_slots +False +True"):
      other.execute()
  with pytest.raises(ValueError, match=r"data.seed +0 +1 +its contexts"):
    dataclasses.replace(run, seed=1).execute()
  single = dataclasses.replace(run.data, num_targets=1)
  with pytest.raises(ValueError, match=r"rows_per_context +2 +1 +its contexts"):
    dataclasses.replace(run, data=single).execute()
  # How it is computed may change.
  faster = dataclasses.replace(runs_example.CONFIG, remat="full")
  problem = dataclasses.replace(run.problem, backbone=faster)
  checkpoints_before = _saved(undisturbed)[0]
  dataclasses.replace(
    run,
    problem=problem,
    model_dir=str(tmp_path / "again"),
    initial_checkpoint=str(undisturbed),
    steps=1,
  ).execute()
  assert _saved(undisturbed)[0] == checkpoints_before


def test_another_programs_checkpoint_is_refused(tmp_path, world):
  import orbax.checkpoint as ocp

  with ocp.CheckpointManager(tmp_path / "run" / "checkpoints") as manager:
    manager.save(3, args=ocp.args.StandardSave({"w": np.zeros(2)}))
  run = _multitask(world, tmp_path / "run", steps=9)
  with pytest.raises(ValueError, match="3 is not a checkpoint of HyperJAX"):
    run.execute()


def test_a_backbone_whose_run_went_on_is_still_found(
  world, undisturbed, tmp_path
):
  """It is named by step: the run of the backbone may train on."""
  shutil.copytree(world / "backbone", tmp_path / "backbone")
  run = runs_example.multitask(
    world / "tokens", tmp_path / "run", tmp_path / "backbone", steps=1
  )
  run.execute()
  pretraining = runs_example.backbone(world / "tokens", tmp_path / "backbone")
  dataclasses.replace(pretraining, steps=6).execute()
  dataclasses.replace(run, steps=2).execute()
  assert _saved(tmp_path / "run")[0] == 2
  dataclasses.replace(pretraining, steps=8, kept=checkpoints.Kept(1)).execute()
  with pytest.raises(
    ValueError, match=r"keeps the steps \[8\]; step 4, .*gone"
  ):
    dataclasses.replace(run, steps=3).execute()


def test_an_optimizer_that_the_checkpoint_does_not_know_is_refused(
  world, undisturbed, tmp_path
):
  shutil.copytree(undisturbed, tmp_path / "run")
  adafactor = optimizers.Adafactor(optimizers.Constant(1e-3))
  run = _multitask(world, tmp_path / "run", steps=9, optimizer=adafactor)
  with pytest.raises(
    ValueError, match=r"optimizer.kind +AdamW +Adafactor +the optimizer"
  ):
    run.execute()


def test_a_backbone_that_moved_is_asked_for_and_one_that_changed_refused(
  world, tmp_path
):
  own, moved = tmp_path / "world", tmp_path / "moved"
  shutil.copytree(world, own)  # other tests need theirs where it is
  _multitask(own, tmp_path / "run", steps=2).execute()
  (own / "backbone").rename(moved)
  run = _multitask(own, tmp_path / "run", steps=4)
  with pytest.raises(ValueError, match=r"not there.*BACKBONE_PATH"):
    run.execute()
  dataclasses.replace(run, backbone=str(moved)).execute()
  assert _saved(tmp_path / "run")[0] == 4
  runs_example.backbone(own / "tokens", tmp_path / "other", seed=3).execute()
  with pytest.raises(ValueError, match=r"other is not the backbone of this"):
    dataclasses.replace(
      run, steps=5, backbone=str(tmp_path / "other")
    ).execute()


def test_stage_two_starts_from_the_hypermodel_of_stage_one(
  world, undisturbed, tmp_path
):
  """And a hypermodel fresh from a T5 copies what agrees in shape."""
  tokens = world / "tokens"
  still = optimizers.AdamW(optimizers.Constant(0.0))
  second = runs_example.multitask(
    tokens, tmp_path / "second", undisturbed, optimizer=still, steps=2
  )
  second.execute()
  before, after = _saved(undisturbed)[1], _saved(tmp_path / "second")[1]
  params = [path for path in before if path.startswith("['params']")]
  for path in params:
    np.testing.assert_array_equal(before[path], after[path], err_msg=path)

  fresh = _multitask(world, tmp_path / "fresh", optimizer=still, steps=1)
  fresh.execute()
  backbone = _saved(world / "backbone")[1]
  written = _saved(tmp_path / "fresh")[1]
  copied = "['encoder']['layers']['mlp']['wo']['kernel']"
  np.testing.assert_array_equal(
    written[f"['params']['hypermodel']{copied}"],
    backbone[f"['params']['backbone']{copied}"],
  )


@pytest.mark.parametrize(
  "path, message",
  [
    ("nowhere", r"INITIAL_CHECKPOINT_PATH .*nowhere: there is no such folder"),
    ("empty", r"empty holds no T5: neither config.json.*nor checkpoints/"),
  ],
)
def test_initial_weights_that_are_none_are_refused(
  world, tmp_path, path, message
):
  (tmp_path / "empty").mkdir()
  run = runs_example.multitask(
    world / "tokens", tmp_path / "run", tmp_path / path
  )
  with pytest.raises(ValueError, match=message):
    run.execute()
  assert not (tmp_path / "run").exists()


def test_a_t5_of_other_sizes_is_refused_as_a_backbone(world, tmp_path):
  run = _multitask(world, tmp_path / "run")
  wider = dataclasses.replace(runs_example.CONFIG, mlp_dim=24)
  problem = dataclasses.replace(run.problem, backbone=wider)
  with pytest.raises(ValueError, match=r"(?s)not a checkpoint of this T5.*mlp"):
    dataclasses.replace(run, problem=problem).execute()


def test_batches_that_do_not_divide_are_refused(world, tmp_path):
  run = _multitask(world, tmp_path / "run", batch_size=15)
  with pytest.raises(ValueError, match=r"BATCH_SIZE is 15 .*multiple of the 2"):
    run.execute()
  with pytest.raises(
    ValueError, match=r"batch of 9 contexts.*8 data-parallel.*multiple of 8"
  ):
    dataclasses.replace(run, batch_size=18).execute()
  with pytest.raises(ValueError, match=r"Train\.steps must be a whole.*'many'"):
    dataclasses.replace(run, steps="many")
  assert not (tmp_path / "run").exists()


def test_a_tokenizer_larger_than_the_embedding_is_refused(
  world, tmp_path, monkeypatch
):
  class Large:
    size, eos_id = 33, 1

  class Tasks(mixtures.StoredTasks):
    def open(self):
      return [
        dataclasses.replace(task, vocabulary=Large()) for task in super().open()
      ]

  run = _multitask(world, tmp_path / "run")
  tasks = Tasks(runs_example.MIXTURE, str(world / "tokens"))
  data = dataclasses.replace(run.data, tasks=tasks)
  with pytest.raises(ValueError, match=r"'copy_1'.*33 ids.*vocab_size is 32"):
    dataclasses.replace(run, data=data).execute()


def test_held_out_loss_is_the_mean_over_all_its_batches(world, tmp_path):
  """At step 0 and at the end; by hand: summed losses over summed weights."""
  tasks = mixtures.StoredTasks(runs_example.MIXTURE, str(world / "tokens"))
  data = sources.FewShotEpisodes(tasks, runs_example.LENGTHS, (1, 3), 2)
  evaluation = LossEvaluation("held_out", data, 3, 16, seed=9)
  still = optimizers.AdamW(optimizers.Constant(0.0))
  run = _multitask(
    world,
    tmp_path,
    optimizer=still,
    steps=2,
    periods=Periods(log=2, save=2, evaluate=2),
    evaluations=(evaluation,),
  )
  run.execute()
  lines = metrics.read(tmp_path / metrics.METRICS)
  found = [line["held_out/loss"] for line in lines if "held_out/loss" in line]
  assert len(found) == 2 and found[0] == found[1]
  single = dataclasses.replace(evaluation, num_batches=1, batch_size=48)
  dataclasses.replace(
    run, model_dir=str(tmp_path / "single"), evaluations=(single,)
  ).execute()
  alone = metrics.read(tmp_path / "single" / metrics.METRICS)[0]
  assert found[0] == pytest.approx(alone["held_out/loss"], rel=1e-6)


def _command(world, folder, *options):
  gin_file = folder.parent / "run.gin"
  gin_file.write_text(runs_example.GIN)
  command = [sys.executable, "-m", "hyperjax.main", "train"]
  command += [f"--gin_file={gin_file}", f"--gin.MODEL_DIR={folder}"]
  command += [f"--gin.INITIAL_CHECKPOINT_PATH={world / 'backbone'}"]
  command += [f"--gin.mixtures.StoredTasks.cache_dir={world / 'tokens'}"]
  command += options
  environment = os.environ | {
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "PYTHONPATH": str(conftest.ROOT),
  }
  return {"args": command, "env": environment}


# More in `make nightly`.
KILLS = int(os.environ.get("HYPERJAX_TEST_KILLS", 2))


def _start(command, folder, step):
  """A training process that has written metrics of `step`."""
  process = subprocess.Popen(
    **command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
  )
  path = folder / metrics.METRICS
  deadline = time.monotonic() + 600
  while time.monotonic() < deadline:
    lines = metrics.read(path)
    if lines and lines[-1]["step"] >= step:
      return process
    assert process.poll() is None, process.stdout.read().decode()
    time.sleep(0.005)
  process.kill()
  raise AssertionError(f"no step {step} within ten minutes")


def test_killed_and_restarted_a_run_writes_the_very_same_metrics(
  world, tmp_path
):
  """kill -9, prefetching on: none is lost, none is written twice."""
  folders = [tmp_path / name / "run" for name in ("whole", "killed")]
  for folder in folders:
    folder.parent.mkdir()
  last = 80 + 60 * KILLS
  whole, killed = (
    _command(world, folder, f"--gin.TRAIN_STEPS={last}") for folder in folders
  )
  subprocess.run(**whole, check=True)
  # It is saved every 25 steps and logged every 10. Of many kills each comes a moment
  # later than the one before, and every fifth while the process starts.
  for kill in range(KILLS):
    starting = kill % 5 == 4
    step = 0 if starting else 50 + 60 * kill
    with _start(killed, folders[1], step) as process:
      time.sleep((kill % 20) * (0.3 if starting else 0.01))
      process.send_signal(signal.SIGKILL)
  with _start(killed, folders[1], last - 60) as process:
    process.send_signal(signal.SIGTERM)
    said = process.stdout.read().decode()
  assert process.returncode == 143, said
  assert "continuing" in said and "the checkpoint is saved" in said
  subprocess.run(**killed, check=True)
  _assert_same_run(*folders)
  steps = [x["step"] for x in metrics.read(folders[1] / metrics.METRICS)]
  assert steps == list(range(10, last + 1, 10))


def test_checkpoints_hold_what_is_trained_and_the_position_alone(undisturbed):
  saver = checkpoints.Checkpoints(undisturbed / "checkpoints")
  facts = saver.facts(7)
  held = saver._manager.item_metadata(7)
  saver.close()
  assert facts.position == 7 * 8
  assert len(json.dumps(facts.position)) < 1024
  flat = trees.flatten(held["params"].tree)
  assert all(path.startswith("hypermodel/") for path in flat)
