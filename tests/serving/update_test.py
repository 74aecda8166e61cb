"""Adapters with further examples: exact where it can be, else a known mean."""

import dataclasses
import hashlib
import json
import shutil

import jax
import numpy as np
import pytest

from hyperjax import adapters, serving
from hyperjax.artifacts import adapter_folder
from hyperjax.artifacts.run_record import BackboneRef
from hyperjax.batch import Lengths
from hyperjax.data import instructions
from hyperjax.serving import distance, update
from hyperjax.serving.examples import Example, Fitted
from tests import served_example, testing

PAIRS = served_example.pairs(7, 6)
ASKED = served_example.questions()


def _read(*inputs):
  examples = [Example(text, "y", line) for line, text in enumerate(inputs, 1)]
  return Fitted(np.zeros(1, np.int32), examples, [])


def _adapter(fitted, arrays, spec=None, **origin):
  info = adapter_folder.Info(
    spec=spec or adapters.PrefixSpec(1, sites=("encoder.attention",)),
    config=testing.CONFIG,
    backbone=BackboneRef("ab" * 32, "/t5"),
    tokenizer=None,
    lengths={},
    origin={
      "hypermodel": {"run": "/run", "step": 3, "identity": "cd" * 32},
      "demonstrations": update.read_from(fitted),
      **origin,
    },
  )
  leaves = {
    path: np.full(leaf.shape, arrays[path.rpartition(".")[2]], np.float32)
    for path, leaf in adapters.path_leaves(
      info.spec.abstract(testing.CONFIG)
    ).items()
  }
  return adapter_folder.Adapter(info, adapter_folder.of_paths(info, leaves))


def test_a_mean_weighs_each_adapter_by_its_examples():
  """Three examples at 1 and one at 5 are four at 2, then two more at 8: 4."""
  old = _adapter(_read("a", "b", "c"), {"key": 1.0, "value": 10.0})
  new = _adapter(_read("d"), {"key": 5.0, "value": 50.0})
  found = update.by_mean(old, new)
  prefix = found.arrays.encoder.attention.prefix
  np.testing.assert_allclose(prefix.key, 2.0)
  np.testing.assert_allclose(prefix.value, 20.0)
  more = _adapter(_read("e", "f"), {"key": 8.0, "value": 80.0})
  again = update.by_mean(found, more)
  prefix = again.arrays.encoder.attention.prefix
  np.testing.assert_allclose(prefix.key, 4.0)
  np.testing.assert_allclose(prefix.value, 40.0)


def test_the_history_says_what_was_updated_and_with_how_many():
  old = _adapter(_read("a", "b", "c"), {"key": 1.0, "value": 1.0})
  new = _adapter(_read("d"), {"key": 5.0, "value": 5.0})
  found = update.by_mean(update.by_mean(old, new), new)
  origin = found.info.origin
  own = update.read_from(_read("d"))
  assert origin["demonstrations"]["count"] == 5
  assert len(origin["demonstrations"]["examples"]) == 5
  assert [(x["by"], x["count"]) for x in origin["updates"]] == [("mean", 1)] * 2
  assert origin["updates"][0]["of"] == old.identity
  assert origin["updates"][1]["sha256"] == own["sha256"]
  assert origin["hypermodel"] == old.info.origin["hypermodel"]


def test_a_mean_of_loras_keeps_their_rank_and_scale():
  spec = adapters.LoraSpec(1, alpha=3.0, sites=("encoder.attention",))
  old = _adapter(_read("a"), {"down": 1.0, "up": 1.0}, spec)
  new = _adapter(_read("b", "c", "d"), {"down": 2.0, "up": 2.0}, spec)
  found = update.by_mean(old, new)
  assert found.info.spec == spec
  query = found.arrays.encoder.attention.query
  # One part of 1 and three of 4, and both of the same rank 1.
  product = query.down[:, 0] @ query.up[:, 0]
  np.testing.assert_allclose(product, 3.25, rtol=1e-5)
  assert found.info.origin["updates"][0]["left_out"] < 1e-6


@pytest.mark.parametrize(
  "origin, lengths, message",
  [
    (
      {},
      Lengths(8, 8, 9, 2),
      "a was written from examples encoded joined in one row; this model "
      "encodes them each by itself",
    ),
    (
      {"hypermodel": {"run": "/x", "step": 1, "identity": "ef" * 32}},
      Lengths(8, 8, 9),
      r"a was written by the hypermodel efefefefefefefef \(/x\); this one is "
      "cdcdcdcdcdcdcdcd",
    ),
    (
      {"hypermodel": {"run": "/x", "step": 1}},
      Lengths(8, 8, 9),
      "a does not say which hypermodel wrote it",
    ),
    (
      {"demonstrations": {"count": 3}},
      Lengths(8, 8, 9),
      "does not say .* of an earlier version; write it again",
    ),
  ],
  ids=["reading", "hypermodel", "no hypermodel", "earlier version"],
)
def test_what_another_hypermodel_wrote_is_not_updated(origin, lengths, message):
  info = _adapter(_read("a"), {"key": 1.0, "value": 1.0}, **origin).info
  with pytest.raises(ValueError, match=message):
    update.check(info, "cd" * 32, lengths, "a")


def test_old_examples_are_found_by_their_text_and_none_may_lack():
  info = _adapter(_read("b", "a", "b"), {"key": 1.0, "value": 1.0}).info
  given = [Example(text, "y", line) for line, text in enumerate("cab", 11)]
  chosen = update.choose(given, info, "folder")
  assert [(x.input, x.line) for x in chosen] == [
    ("b", 13),
    ("a", 12),
    ("b", 13),
  ]
  with pytest.raises(ValueError, match="2 of the 3 examples that folder was"):
    update.choose(given[:2], info, "folder")
  assert [x.line for x in update.repeated(info, _read("x", "a", "z"))] == [2]


def test_distance_is_relative_and_of_the_array_that_differs_most():
  one = _adapter(_read("a"), {"key": 1.0, "value": 0.5})
  other = _adapter(_read("a"), {"key": 1.1, "value": 0.7})
  assert distance.of_arrays(one, other) == pytest.approx(0.4)
  assert distance.of_arrays(one, one) == 0


def test_loras_of_one_product_do_not_differ_whatever_their_factors():
  spec = adapters.LoraSpec(2, sites=("encoder.attention",))
  one = _adapter(_read("a"), {"down": 2.0, "up": 3.0}, spec)
  same = _adapter(_read("a"), {"down": 6.0, "up": 1.0}, spec)
  more = _adapter(_read("a"), {"down": 2.0, "up": 4.5}, spec)
  assert distance.of_arrays(one, same) < 1e-12
  assert distance.of_arrays(one, more) == pytest.approx(0.5)


def _assert_close(one, other):
  wanted = adapters.path_leaves(one.arrays)
  for path, leaf in adapters.path_leaves(other.arrays).items():
    np.testing.assert_allclose(leaf, wanted[path], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module", params=served_example.KINDS)
def model(separate, request):
  return serving.load(str(separate / request.param))


@pytest.mark.parametrize("sizes", [(2, 1), (1, 1, 1), (1, 5)])
def test_updates_are_a_reading_of_all_examples_at_once(model, sizes):
  """To rounding, also beyond the three rows of training."""
  begin = sizes[0]
  adapter = model.adapt(PAIRS[:begin], keep_encoded=True)
  for size in sizes[1:]:
    adapter = model.update(adapter, PAIRS[begin : begin + size])
    begin += size
  again = model.read_again(adapter, PAIRS[:begin])
  _assert_close(again, adapter)
  if begin <= 3:
    _assert_close(model.adapt(PAIRS[:begin]), adapter)
  assert adapter.encoded.num_rows == begin
  origin = adapter.info.origin["demonstrations"]
  assert (
    origin["count"] == again.info.origin["demonstrations"]["count"] == begin
  )
  assert origin["examples"] == again.info.origin["demonstrations"]["examples"]
  # The new examples count, or the above would say nothing.
  first = model.adapt(PAIRS[: sizes[0]])
  assert distance.of_arrays(again, first) > 1e-3


def test_an_adapter_that_keeps_its_encodings_is_the_same_adapter(model):
  kept = model.adapt(PAIRS[:3], keep_encoded=True)
  plain = model.adapt(PAIRS[:3])
  _assert_close(plain, kept)
  assert kept.info == plain.info and plain.encoded is None
  # Positions without padding: ten tokens each.
  assert kept.encoded.values.shape == (30, served_example.CONFIG.emb_dim)


def test_what_is_kept_travels_with_folder_and_run(model, tmp_path):
  adapter = model.adapt(PAIRS[:2], keep_encoded=True)
  adapter.save(tmp_path / "a")
  shutil.copytree(model.run.folder, tmp_path / "run")
  moved = serving.load(str(tmp_path / "run"))
  read = adapter_folder.read(tmp_path / "a", with_encoded=True)
  found = moved.update(read, PAIRS[2:3])
  _assert_close(model.update(adapter, PAIRS[2:3]), found)


def test_distance_is_rounding_when_exact_and_more_by_the_mean(model):
  adapter = model.adapt(PAIRS[:1], keep_encoded=True)
  exact = model.distance(model.update(adapter, PAIRS[1:3]), PAIRS[:3], ASKED)
  assert exact.num_examples == 3 and exact.arrays < 1e-4
  assert exact.answers.count == len(ASKED) and exact.answers.equal == 1
  assert 0 <= exact.answers.divergence < 1e-6
  by_mean = model.update(adapter, PAIRS[1:3], by_mean=True)
  mean = model.distance(by_mean, PAIRS[:3], ASKED)
  assert mean.arrays > 10 * exact.arrays
  assert mean.answers.divergence > 10 * exact.answers.divergence
  assert by_mean.encoded is None
  assert model.distance(by_mean, PAIRS[:3]).answers is None


def test_divergence_is_that_of_the_distributions(model):
  """By hand, from both adapters' logits of one answer."""
  from hyperjax.models import t5

  one, other = [model.adapt(PAIRS[i : i + 1]) for i in (0, 1)]
  ids = model.encode("london then city rome")
  found = model.divergence(ASKED[:1], one, other, [ids])
  logits = [
    t5.T5(served_example.CONFIG).apply(
      {"params": model.backbone.params},
      np.asarray([model.encode(ASKED[0])]),
      np.asarray([[0, *ids[:-1]]]),
      adapter.arrays,
    )
    for adapter in (one, other)
  ]
  p, q = [np.asarray(jax.nn.softmax(x[0]), np.float64) for x in logits]
  np.testing.assert_allclose(found, (p * np.log(p / q)).sum(), rtol=1e-2)


def test_what_cannot_be_exact_is_refused_not_approximated(separate, model):
  plain = model.adapt(PAIRS[:2])
  message = r"given adapter has no encoded\.safetensors.*--keep_encoded"
  with pytest.raises(ValueError, match=message):
    model.update(plain, PAIRS[2:3])
  other = next(k for k in served_example.SPECS if k != model.run.folder.name)
  kept = serving.load(str(separate / other)).adapt(PAIRS[:2], keep_encoded=True)
  with pytest.raises(ValueError, match="was written by the hypermodel "):
    model.update(kept, PAIRS[2:3])
  own = model.adapt(PAIRS[:2], keep_encoded=True)
  tokenizer = dataclasses.replace(own.info.tokenizer, identity="0" * 64)
  info = dataclasses.replace(own.info, tokenizer=tokenizer)
  with pytest.raises(ValueError, match="with the tokenizer 0000000000000000"):
    model.update(dataclasses.replace(own, info=info), PAIRS[2:3])
  with pytest.raises(ValueError, match="none of 1 examples fits"):
    model.update(own, [("red " * 40, "x")])


@pytest.mark.parametrize("kind", served_example.KINDS)
def test_examples_read_joined_are_updated_by_the_mean(served, separate, kind):
  model = serving.load(str(served / kind))
  adapter = model.adapt(PAIRS[:1])
  found = model.update(adapter, PAIRS[1:3])
  wanted = update.by_mean(adapter, model.adapt(PAIRS[1:3]))
  assert found.identity == wanted.identity
  assert found.info.spec == adapter.info.spec
  assert found.info.origin["updates"][0]["by"] == "mean"
  with pytest.raises(ValueError, match="joined in one row, where each changes"):
    model.adapt(PAIRS[:1], keep_encoded=True)
  other = serving.load(str(separate / kind))
  with pytest.raises(ValueError, match="encoded joined in one row; this model"):
    other.update(adapter, PAIRS[1:3])


@pytest.mark.slow
def test_an_update_keeps_the_instruction_and_reads_it_once(served, tmp_path):
  served_example.train(
    tmp_path / "run",
    served / "tokens",
    "prefix",
    served / "backbone",
    (instructions.HYPERMODEL,),
    lengths={**served_example.SEPARATE, "num_demonstrations": 4},
  )
  model = serving.load(str(tmp_path / "run"))
  text = served_example.INSTRUCTION
  adapter = model.adapt(PAIRS[:1], text, keep_encoded=True)
  found = model.update(adapter, PAIRS[1:4])
  assert found.info.instruction == adapter.info.instruction
  # One row for the instruction, four for examples.
  assert found.encoded.num_rows == 5
  again = model.read_again(found, PAIRS[:4])
  assert again.info.origin["demonstrations"]["count"] == 4
  _assert_close(again, found)


def test_an_example_is_known_by_the_beginning_of_its_hash():
  """Written down: adapters that were saved are updated by later versions."""
  content = json.dumps(["ü", "y"], ensure_ascii=False).encode()
  wanted = hashlib.sha256(content).hexdigest()[:16]
  assert update.read_from(_read("ü"))["examples"] == [wanted]
