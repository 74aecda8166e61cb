"""Runs in buckets: their shapes, their record, going on, and several processes."""

import dataclasses
import json
import signal
import subprocess

import jax
import numpy as np
import pytest

from hyperjax import metrics
from hyperjax.artifacts import bucketing, run_file
from hyperjax.batch import Lengths
from hyperjax.data import pairs, sources
from hyperjax.data.buckets import Buckets, Microbatches
from hyperjax.data.store import mixtures
from hyperjax.models import problems
from hyperjax.planning import jobs
from tests import distributed_test, runs_example, runs_test, testing

GIN = (
  "--gin.BUCKETS=@buckets.Buckets()",
  "--gin.NUM_MICROBATCHES=2",
)


def _run(world, folder, **changes):
  options = {"buckets": Buckets(), "num_microbatches": 2, "batch_size": 64}
  options |= changes
  return runs_example.multitask(
    world / "tokens", folder, world / "backbone", **options
  )


def _without_dropout(run):
  problem = run.problem
  t5 = dataclasses.replace(problem.backbone, dropout_rate=0.0)
  hyper = dataclasses.replace(problem.hypermodel, t5=t5)
  problem = dataclasses.replace(problem, backbone=t5, hypermodel=hyper)
  return dataclasses.replace(run, problem=problem)


def _lines(folder):
  return (folder / metrics.METRICS).read_bytes()


def _shapes(folder):
  record = run_file.read(folder)
  assert record.training.buckets.kind == "Buckets"
  assert record.training.shapes is not None
  return record.training.shapes


@pytest.mark.slow
def test_a_run_says_its_shapes_and_writes_them_down(world, tmp_path, capsys):
  folder = tmp_path / "run"
  _without_dropout(_run(world, folder, steps=2)).execute()
  shapes = _shapes(folder)
  assert 1 < len(shapes) <= 12
  first = dataclasses.asdict(shapes[0])
  # 32 contexts on eight devices, in two parts.
  assert first.pop("contexts") == 16
  assert first == runs_example.LENGTHS | {"num_demonstrations": 0}
  said = capsys.readouterr().out.partition("step 2/2")[0]
  assert f"in microbatches of {len(shapes)} shapes:\n" in said
  assert "16 contexts of inputs 6, targets 6, demonstrations 24" in said
  # The same weights and metrics as of padded batches.
  padded = tmp_path / "padded"
  _without_dropout(_run(world, padded, steps=2, buckets=None)).execute()
  (line,), (own,) = (
    metrics.read(x / metrics.METRICS) for x in (padded, folder)
  )
  for name in ("loss", "token_accuracy", "gradient_norm"):
    assert own[name] == pytest.approx(line[name], rel=1e-5), name
  assert run_file.read(padded).training.shapes is None


@pytest.mark.slow
def test_a_run_goes_on_with_the_shapes_of_its_record(world, tmp_path):
  folder = tmp_path / "run"
  _run(world, folder, steps=2).execute()
  # Others than would be chosen, which make other microbatches.
  path = folder / "run.json"
  content = json.loads(path.read_text())
  assert content["training"]["shapes"][1]["demonstrations"] < 24
  content["training"]["shapes"] = content["training"]["shapes"][:1]
  path.write_text(json.dumps(content))
  _run(world, folder).execute()
  assert len(_shapes(folder)) == 1
  # Of another number of microbatches they are chosen anew.
  _run(world, folder, steps=5, num_microbatches=4).execute()
  assert len(_shapes(folder)) > 1
  assert {x.contexts for x in _shapes(folder)} == {8}


@pytest.mark.slow
def test_a_run_that_was_padded_may_go_on_in_buckets(world, tmp_path, capsys):
  folder = tmp_path / "run"
  _run(world, folder, steps=2, buckets=None).execute()
  _run(world, folder).execute()
  assert len(_shapes(folder)) > 1
  assert "training.buckets.kind" in capsys.readouterr().out
  assert [x["step"] for x in metrics.read(folder / metrics.METRICS)] == [2, 4]


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_bit_for_bit(world, tmp_path):
  folders = [tmp_path / name / "run" for name in ("whole", "killed")]
  for folder in folders:
    folder.parent.mkdir()
  whole, killed = (
    runs_test._command(world, folder, "--gin.TRAIN_STEPS=80", *GIN)
    for folder in folders
  )
  subprocess.run(**whole, check=True)
  with runs_test._start(killed, folders[1], 40) as process:
    process.send_signal(signal.SIGKILL)
  subprocess.run(**killed, check=True)
  assert _lines(folders[1]) == _lines(folders[0])
  assert _shapes(folders[1]) == _shapes(folders[0])
  assert len(_shapes(folders[0])) > 1


@pytest.mark.slow
def test_two_processes_take_the_same_shapes_and_train_as_one(world, tmp_path):
  two, one = (tmp_path / name / "run" for name in ("two", "one"))
  options = (*distributed_test.OPTIONS, "--gin.TRAIN_STEPS=20", *GIN)
  for folder, count in ((two, 2), (one, 1)):
    folder.parent.mkdir()
    distributed_test._finish(
      distributed_test._start(world, folder, count, 4 // count, *options)
    )
  assert _shapes(two) == _shapes(one)
  assert len(_shapes(one)) > 1
  assert {x.contexts % 4 for x in _shapes(one)} == {0}
  (steps, found), (_, losses) = map(distributed_test._losses, (two, one))
  assert steps == [10, 20]
  np.testing.assert_allclose(found, losses, rtol=1e-5)


def test_what_does_not_say_its_lengths_is_padded(tmp_path, capsys):
  """Windows of text are full, or must be cut to know what they have."""
  runs_example.write_tasks(tmp_path)
  tasks = mixtures.open_mixture(tmp_path, runs_example.MIXTURE, "train")
  lengths = Lengths.from_features(runs_example.LENGTHS)
  trainer = testing.make_trainer(
    problems.LanguageModel(runs_example.CONFIG), num_microbatches=2
  )
  run = runs_example._train(
    tmp_path / "run",
    trainer.problem,
    sources.TextPairs(
      mixtures.StoredTasks(runs_example.MIXTURE, str(tmp_path)),
      runs_example.LENGTHS,
    ),
    initial_checkpoint=None,
    buckets=Buckets(),
  )

  class Windows:
    """A source without sizes."""

    def __init__(self):
      self.tasks, self.lengths, self.num_skipped = tasks, lengths, 0

    def __getitem__(self, index):
      raise NotImplementedError

    def task_of(self, index):
      raise NotImplementedError

  def made(source):
    return bucketing.microbatches(run, source, trainer, None, None)

  assert made(Windows()) is None
  assert "batches are padded" in capsys.readouterr().out
  assert isinstance(made(pairs.Pairs(tasks, lengths)), Microbatches)
  assert "in microbatches of" in capsys.readouterr().out
  run = dataclasses.replace(run, buckets=None)
  assert made(pairs.Pairs(tasks, lengths)) is None
  assert not capsys.readouterr().out


def test_a_plan_says_that_it_is_of_padded_rows(tmp_path):
  run = runs_example.multitask(tmp_path, tmp_path / "run", None)
  devices = jax.devices()[:1]
  assert not jobs.of_training(run, devices).note
  run = dataclasses.replace(run, buckets=Buckets())
  assert "BUCKETS" in jobs.of_training(run, devices).note


def test_tasks_side_by_side_are_not_shared_out(tmp_path):
  with pytest.raises(ValueError, match=r"Train.buckets \(BUCKETS\) is .* None"):
    runs_example.side_by_side(
      tmp_path, tmp_path / "run", tmp_path, buckets=Buckets()
    )


def test_where_a_step_does_not_fit_its_texts_are_cut():
  """The shapes that are checked are cut as those of the padded batch are."""

  class Seen:
    abstract, layout, problem = None, None, None

    def check_memory(self, batch):
      self.batch = batch

  whole = testing.batch(4, demonstrations=24, inputs=6, targets=6)
  shorter = testing.batch(4, demonstrations=12, inputs=3, targets=6)
  seen = Seen()
  step = bucketing._Step(seen, 2, lambda count: [whole] * count)
  step.check_memory(shorter)
  assert len(seen.batch) == 2
  assert seen.batch[0].demonstrations.shape == (4, 12)
  assert seen.batch[0].encoder_input_tokens.shape == (4, 3)
  assert seen.batch[0].decoder_target_tokens.shape == (4, 6)
