"""Runs whose hypermodel computes with the frozen T5's weights, in all their stages."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from hyperjax import adapters, loop, metrics, serving, sharding
from hyperjax.artifacts import restore, run_file
from hyperjax.batch import sequences
from hyperjax.data import buckets
from hyperjax.trainer import Trainer
from tests import runs_example, served_example
from tests.runs_test import _assert_same_run, _saved

pytestmark = pytest.mark.slow

LIGHT = {
  "shared": {"body": "shared", "body_rank": 2, "head": "shared"},
  "frozen_encoder": {
    "body": "frozen_encoder",
    "decoder_layers": 1,
    "head": "factorised",
    "head_latent_dim": 4,
  },
}


def _run(world, folder, body, initial=None, **changes):
  run = runs_example.multitask(
    world / "tokens",
    folder,
    initial or world / "backbone",
    **{"periods": loop.Periods(log=1, save=2), **changes},
  )
  hyper = dataclasses.replace(run.problem.hypermodel, **LIGHT[body])
  problem = dataclasses.replace(run.problem, hypermodel=hyper)
  return dataclasses.replace(run, problem=problem)


@pytest.fixture(scope="module", params=LIGHT)
def undisturbed(world, tmp_path_factory, request):
  """A body, and a run of four steps with it; dropout is on."""
  folder = tmp_path_factory.mktemp(request.param) / "run"
  _run(world, folder, request.param).execute()
  return request.param, folder


def test_a_run_goes_on_bit_for_bit_from_what_is_trained_alone(
  world, undisturbed, tmp_path
):
  body, folder = undisturbed
  _run(world, tmp_path, body, steps=2).execute()
  _run(world, tmp_path, body).execute()
  _assert_same_run(tmp_path, folder)
  _, arrays = _saved(folder)
  assert not any("backbone" in path for path in arrays)
  is_own = {
    "shared": r"lora|norm|relpos_bias|slots|head",
    "frozen_encoder": r"decoder|slots|head",
  }
  for path in arrays:
    if path.startswith("['params']"):
      assert re.search(is_own[body], path), path
  # As model-info.txt says, beside the T5, which is frozen whole.
  trained = sum(x.size for p, x in arrays.items() if p.startswith("['params']"))
  info = (folder / run_file.MODEL_INFO).read_text()
  of_t5 = (world / "backbone" / run_file.MODEL_INFO).read_text()
  frozen = re.search(r"trained: ([\d,]+)", of_t5)[1]
  assert info.startswith(f"trained: {trained:,} parameters\nfrozen: {frozen} ")


def test_it_begins_as_the_t5_does_wherever_that_is_not_its_own(
  world, undisturbed, tmp_path
):
  body, folder = undisturbed
  run = _run(world, tmp_path, body)
  trainer = Trainer(run.problem, run.optimizer, run.mesh.build())
  given = restore.load(str(world / "backbone"), trainer)
  begun = given.params["hypermodel"]
  t5 = given.frozen["backbone"]
  np.testing.assert_array_equal(
    begun["decoder"]["decoder_norm"]["scale"],
    t5["decoder"]["decoder_norm"]["scale"],
  )
  assert ("encoder" in begun) == (body == "shared")
  record = json.loads((folder / "run.json").read_text())
  own = record["problem"]["hypermodel"]
  assert {name: own[name] for name in LIGHT[body]} == LIGHT[body]


def test_split_over_devices_its_losses_are_those_of_copies(
  world, undisturbed, tmp_path
):
  body, folder = undisturbed
  mesh = sharding.MeshSpec({"replica": 2, "fsdp": 2, "tensor": 2})
  _run(world, tmp_path, body, mesh=mesh).execute()
  split, whole = (
    [line["loss"] for line in metrics.read(x / metrics.METRICS)]
    for x in (tmp_path, folder)
  )
  assert len(whole) == 4
  np.testing.assert_allclose(split, whole, rtol=1e-5)


def test_the_next_stage_begins_with_it_in_buckets_too(
  world, undisturbed, tmp_path
):
  body, folder = undisturbed
  run = _run(world, tmp_path, body, folder, steps=1, buckets=buckets.Buckets())
  run.execute()
  record = run_file.read(tmp_path)
  assert record.backbone == run_file.read(folder).backbone
  assert record.training.shapes
  other = "shared" if body == "frozen_encoder" else "frozen_encoder"
  with pytest.raises(ValueError, match=rf"hypermodel.body +{body} +{other}"):
    _run(world, tmp_path / "other", other, folder).execute()


def test_adapters_that_are_trained_further_begin_as_it_writes_them(
  world, undisturbed, tmp_path
):
  _, folder = undisturbed
  runs_example.side_by_side(
    world / "tokens", tmp_path, folder, steps=2
  ).execute()
  record = run_file.read(tmp_path)
  assert record.initial_values.hypermodel.run == str(folder)
  assert record.backbone == run_file.read(folder).backbone


def test_a_hypermodel_begins_as_another_t5_than_its_backbone(world, tmp_path):
  """As whose arrays, and as whose not; and the run says so."""
  run = runs_example.backbone(world / "tokens", tmp_path / "other", seed=7)
  run.execute()
  options = {"hypermodel_checkpoint": str(tmp_path / "other"), "steps": 1}
  tuned = runs_example.multitask(
    world / "tokens", tmp_path / "tuned", world / "backbone", **options
  )
  frozen_rate = dataclasses.replace(
    tuned.optimizer, learning_rate=type(tuned.optimizer.learning_rate)(0.0)
  )
  dataclasses.replace(tuned, optimizer=frozen_rate).execute()
  _, arrays = _saved(tmp_path / "tuned")
  _, other = _saved(tmp_path / "other")
  name = "['params']['{}']['encoder']['layers']['mlp']['wo']['kernel']"
  np.testing.assert_array_equal(
    arrays[name.format("hypermodel")], other[name.format("backbone")]
  )
  record = run_file.read(tmp_path / "tuned")
  assert record.hypermodel_checkpoint.source == str(tmp_path / "other")
  assert record.hypermodel_checkpoint.identity != record.backbone.identity
  # The stage after it begins as that run, so nothing else can be asked for.
  for initial, body, message in (
    (tmp_path / "tuned", None, "is a hypermodel's run"),
    (world / "backbone", "shared", "computes with the backbone's weights"),
  ):
    again = runs_example.multitask(
      world / "tokens", tmp_path / "again", initial, **options
    )
    if body:
      again = dataclasses.replace(
        _run(world, tmp_path / "again", body), **options
      )
    with pytest.raises(ValueError, match=f"HYPERMODEL_CHECKPOINT.*{message}"):
      again.execute()


def test_its_run_is_served_evaluated_and_updated(served, tmp_path):
  """Adapters are what its arrays and the T5's write; updates are exact."""
  served_example.train(
    tmp_path / "run",
    served / "tokens",
    "lora",
    served / "backbone",
    lengths=served_example.SEPARATE,
    hyper=LIGHT["shared"],
  )
  pairs = served_example.pairs(7)
  model = serving.load(str(tmp_path / "run"))
  fitted = model.fit(pairs)
  adapter = model.adapt(pairs, keep_encoded=True)
  rows = sequences(fitted.tokens)
  tokens = np.zeros((1, len(rows), max(map(len, rows))), np.int32)
  for i, row in enumerate(rows):
    tokens[0, i, : len(row)] = row
  whole = model.hypermodel.params | {"backbone": model.backbone.params}
  wanted = jax.jit(model.run.problem.write)(whole, tokens)
  _assert_close(adapter.arrays, wanted)
  some = model.adapt(pairs[:2], keep_encoded=True)
  _assert_close(model.update(some, pairs[2:]).arrays, wanted)
  plain = model.predict(served_example.questions())
  assert model.predict(served_example.questions(), adapter) != plain
  # The same arrays: the T5 lies on the devices once.
  assert model.hypermodel._whole["backbone"] is model.backbone.params
  served_example.score(tmp_path / "run", served / "tokens", model.run.problem)
  assert list((tmp_path / "run" / "inference_eval").rglob("*.json"))


def _assert_close(one, other):
  found, wanted = map(adapters.path_leaves, (one, other))
  for path, leaf in found.items():
    np.testing.assert_allclose(leaf, wanted[path], rtol=1e-4, atol=1e-5)
