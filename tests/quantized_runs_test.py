"""Runs whose frozen T5 is in eight bits, from training to an export."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from hyperjax import checkpoints, optimizers, runs, serving, sharding, trees
from hyperjax.artifacts import restore, run_file
from hyperjax.data import sources
from hyperjax.evaluation import restored
from hyperjax.interop import weights
from hyperjax.loop import Periods
from hyperjax.models import problems
from hyperjax.serving import export
from tests import served_example

EIGHT = dataclasses.replace(served_example.CONFIG, quantization="int8")


class _One(sharding.MeshSpec):
  def build(self, devices=None):
    return super().build(devices or jax.devices()[:1])


def _run(served, folder, mesh, body="shared"):
  head = {"body": body, "head": "shared" if body == "shared" else "mlp"}
  problem = served_example.problem("lora", head)
  return runs.Train(
    str(folder),
    dataclasses.replace(problem, backbone=EIGHT),
    sources.FewShotEpisodes(
      served_example._tasks(served / "tokens"),
      served_example.LENGTHS,
      (1, 3),
      2,
    ),
    batch_size=16,
    optimizer=optimizers.AdamW(optimizers.Constant(1e-2)),
    steps=3,
    initial_checkpoint=str(served / "backbone"),
    periods=Periods(log=1, save=3),
    mesh=mesh,
  )


def _losses(folder):
  lines = (folder / "metrics.jsonl").read_text().splitlines()
  return [json.loads(line)["loss"] for line in lines]


@pytest.fixture(scope="module")
def trained(served, tmp_path_factory):
  folder = tmp_path_factory.mktemp("eight") / "run"
  mesh = sharding.MeshSpec({"fsdp": 2, "tensor": 2})
  _run(served, folder, mesh).execute()
  return folder


@pytest.mark.slow
def test_a_split_t5_in_eight_bits_trains_a_hypermodel_as_a_whole_one_does(
  served, trained, tmp_path
):
  _run(served, tmp_path / "one", _One()).execute()
  found = _losses(trained)
  np.testing.assert_allclose(found, _losses(tmp_path / "one"), rtol=1e-4)
  assert found[-1] < found[0]


@pytest.mark.slow
def test_a_run_names_the_t5_as_stored_and_the_precision_and_holds_neither(
  served, trained
):
  own, plain = run_file.read(trained), run_file.read(served / "lora")
  assert own.backbone.identity == plain.backbone.identity
  problem = own.problem.fields
  assert problem["backbone"].fields["quantization"] == "int8"
  assert problem["hypermodel"].fields["t5"].fields["quantization"] == "none"
  saver = checkpoints.Checkpoints(trained / restore.CHECKPOINTS, read_only=True)
  try:
    names = saver.shapes(3)
  finally:
    saver.close()
  assert {name.split("/")[0] for name in names} == {"hypermodel"}


@pytest.mark.slow
def test_an_adapter_of_a_t5_in_eight_bits_is_exported_with_it_as_stored(
  served, trained, tmp_path
):
  adapter = serving.load(str(trained)).adapt(served_example.pairs(7))
  assert adapter.info.config.quantization == "int8"
  adapter.save(tmp_path / "a")
  export.export(tmp_path / "a", "orbax", tmp_path / "t5", verified=True)
  flat = [
    trees.flatten(weights.load(source, served_example.CONFIG).params)
    for source in map(restore.open_t5, (tmp_path / "t5", served / "backbone"))
  ]
  changed = {x for x, own in flat[0].items() if (own != flat[1][x]).any()}
  assert {x.split("/")[-2] for x in changed} == {"query", "value"}


@pytest.mark.slow
def test_a_copy_begins_as_the_t5_was_before_it_was_rounded(served, tmp_path):
  run = _run(served, tmp_path / "run", _One(), "copy")
  trainer = runs.Trainer(run.problem, run.optimizer, run.mesh.build())
  given = restore.load(run.initial_checkpoint, trainer)
  frozen = trees.flatten(given.frozen["backbone"])
  own = trees.flatten(given.params["hypermodel"])
  path = "encoder/layers/attention/query/kernel"
  source = restore.open_t5(served / "backbone")
  whole = trees.flatten(weights.load(source, served_example.CONFIG).params)
  np.testing.assert_array_equal(own[path], whole[path])
  assert frozen[path].dtype == np.int8


@pytest.mark.slow
def test_an_evaluation_answers_in_eight_bits_if_it_is_told_so(served):
  layout = sharding.MeshSpec().build(jax.devices()[:1])
  found = [
    restored.load(str(served / "lora"), None, [], layout, quantization=own)
    for own in (None, "int8")
  ]
  kernels = [
    trees.flatten(x.frozen)["backbone/encoder/layers/mlp/wi_0/kernel"]
    for x in found
  ]
  assert [str(x.dtype) for x in kernels] == ["float32", "int8"]


@pytest.mark.parametrize("kind", ["LanguageModel", "FullFineTuning"])
def test_a_t5_that_is_trained_is_not_in_eight_bits(kind, tmp_path):
  run = _run(tmp_path, tmp_path / "run", sharding.MeshSpec())
  problem = getattr(problems, kind)(EIGHT)
  with pytest.raises(
    ValueError, match=rf"^T5Config.quantization is 'int8', but {kind} trains"
  ):
    dataclasses.replace(run, problem=problem)
  assert not list(tmp_path.iterdir())
