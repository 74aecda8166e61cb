"""Answers and written adapters, whatever they are computed beside."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperjax import adapters, serving, sharding
from hyperjax.artifacts import adapter_folder
from hyperjax.artifacts.run_record import BackboneRef
from hyperjax.batch import Lengths
from hyperjax.models.t5_layers import T5Config
from hyperjax.serving import answering_t5, backbone
from hyperjax.tasks import records
from tests import served_example, testing

CONFIG = T5Config(
  vocab_size=96,
  emb_dim=8,
  num_heads=2,
  head_dim=4,
  mlp_dim=8,
  num_encoder_layers=1,
  num_decoder_layers=1,
)
KINDS = {
  "lora": adapters.LoraSpec(2),
  "none": None,
  "prefix": adapters.PrefixSpec(2),
  "ia3": adapters.Ia3Spec(1),
}
WORDS = ["alice", "paris", "red", "seven", "london", "then", ";"]
SEEDS = st.integers(0, 2**20)


@functools.cache
def _t5(num_devices):
  """A random T5 that answers with up to five tokens."""
  abstract = jax.eval_shape(lambda: testing.t5_params(CONFIG))
  drawn = jax.tree.map(np.asarray, testing.draw(abstract, 1, 0.6))
  return answering_t5.AnsweringT5(
    backbone.Backbone(
      CONFIG,
      records.vocabulary(),
      Lengths(32, 5),
      sharding.MeshSpec().build(jax.devices()[:num_devices]),
      lambda: (drawn, "ab" * 32),
    )
  )


def _adapter(name, seed):
  spec = KINDS[name]
  if spec is None:
    return None
  info = adapter_folder.Info(
    spec, CONFIG, BackboneRef("ab" * 32, "/t5"), None, {}, {}
  )
  drawn = testing.draw(spec.abstract(CONFIG), seed, 0.6)
  return adapter_folder.Adapter(info, jax.tree.map(np.asarray, drawn))


@pytest.mark.slow
@settings(max_examples=12)
@given(
  st.lists(
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
    min_size=4,
    max_size=4,
  ),
  st.permutations([*KINDS]),
  st.lists(SEEDS, min_size=4, max_size=4),
)
def test_an_input_is_answered_and_scored_as_alone(texts, kinds, seeds):
  """In a batch of four kinds in any order, on one device and on two."""
  own = [_adapter(name, seed) for name, seed in zip(kinds, seeds, strict=True)]
  outputs = [[_t5(1).encode(text), [5, 1]] for text in texts]
  alone = [
    _t5(1).answer([text], [adapter])
    for text, adapter in zip(texts, own, strict=True)
  ]
  scores = [
    _t5(1).score([text], [adapter], [output])[0]
    for text, adapter, output in zip(texts, own, outputs, strict=True)
  ]
  for num_devices in (1, 2):
    together = _t5(num_devices).answer(texts, own)
    assert together.texts == [answers.texts[0] for answers in alone]
    assert together.tokens == [answers.tokens[0] for answers in alone]
    np.testing.assert_allclose(
      _t5(num_devices).score(texts, own, outputs), scores, rtol=1e-4, atol=1e-4
    )


PAIRS = st.lists(
  st.sampled_from(served_example.pairs(7, 6) + served_example.pairs(300, 6)),
  min_size=1,
  max_size=3,
  unique=True,
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", served_example.SPECS)
@settings(max_examples=12)
@given(data=st.data())
def test_an_adapter_is_written_as_alone_and_read_in_any_order(
  separate, kind, data
):
  """With others of any number of examples, and on a mesh; updates add up."""
  one, many = _models(separate / kind)
  given_ = [data.draw(PAIRS) for _ in range(3)]
  alone = [one.adapt(pairs) for pairs in given_]
  for model in (one, many):
    together = model.write([model.fit(pairs) for pairs in given_])
    for adapter, own in zip(together, alone, strict=True):
      _assert_close(adapter, own)
  # Each demonstration is read by itself: neither order nor steps matter.
  pairs = given_[0]
  shuffled = data.draw(st.permutations(pairs))
  _assert_close(one.adapt(shuffled), alone[0])
  at = data.draw(st.integers(1, len(pairs)))
  kept = one.adapt(pairs[:at], keep_encoded=True)
  if at == len(pairs):
    with pytest.raises(ValueError, match="needs at least one example"):
      one.update(kept, [])
    _assert_close(kept, alone[0])
  else:
    _assert_close(one.update(kept, pairs[at:]), alone[0])


@functools.cache
def _models(folder):
  layouts = [
    sharding.MeshSpec({"tensor": parallel}).build(jax.devices()[:count])
    for count, parallel in ((1, 1), (4, 2))
  ]
  return [serving.load(str(folder), layout=layout) for layout in layouts]


def _assert_close(found, wanted):
  leaves = adapters.path_leaves(found.arrays)
  for path, leaf in adapters.path_leaves(wanted.arrays).items():
    np.testing.assert_allclose(leaves[path], leaf, rtol=1e-4, atol=1e-5)
