"""A memory: what cross-attention sees of it, and what a hypermodel writes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hyperjax import adapters, trees
from hyperjax.models import decoding, heads, hypermodel, problems, t5
from tests import testing

CONFIG = testing.CONFIG
SPEC = testing.SPECS["memory"]
INPUTS, TARGETS = testing.tokens(4, 7), testing.tokens(4, 5, seed=1)
DEMONSTRATIONS = testing.tokens(2, 9, seed=2)


def _memory(states_CMD):
  return adapters.Adapters(
    memory=adapters.Memory(jnp.asarray(states_CMD)[None])
  )


def _drawn(contexts, length, seed=0):
  shape = (contexts, length, CONFIG.emb_dim)
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@functools.cache
def _applied(method="__call__"):
  model = t5.T5(CONFIG)
  return jax.jit(functools.partial(model.apply, method=method))


def _logits(written, inputs=INPUTS, targets=TARGETS):
  return _applied()({"params": testing.t5_params()}, inputs, targets, written)


def test_the_decoder_reads_a_memory_as_further_output_of_the_encoder():
  """Each row that of its context, put in front by hand."""
  variables = {"params": testing.t5_params()}
  states = _drawn(2, 3)
  encoded = _applied("encode")(variables, INPUTS)
  joined = np.concatenate([states.repeat(2, axis=0), encoded], axis=1)
  mask = np.ones(joined.shape[:2], bool)
  wanted = _applied("decode")(variables, TARGETS, joined, mask)
  found = _logits(_memory(states))
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
  assert np.abs(found - _logits(adapters.Adapters())).max() > 1e-2


def test_positions_of_zeros_are_none_wherever_they_stand():
  """Also for a row of nothing but padding, which would see any that is not lower."""
  inputs = INPUTS.copy()
  inputs[3] = 0
  states = _drawn(2, 3)
  gaps = np.zeros((2, 6, CONFIG.emb_dim), np.float32)
  gaps[:, [1, 2, 4]] = states
  found = _logits(_memory(gaps), inputs)
  np.testing.assert_allclose(
    found, _logits(_memory(states), inputs), rtol=1e-4, atol=1e-5
  )
  found = _logits(_memory(gaps * 0), inputs)
  plain = _logits(adapters.Adapters(), inputs)
  np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1e-5)


def test_a_decode_with_a_memory_is_the_forward_pass_token_for_token():
  written = _memory(_drawn(2, 3))
  params = testing.t5_params()
  found = jax.jit(
    lambda tokens: (
      decoding.generate(
        t5.T5(CONFIG), params, tokens, 5, adapters=written
      ).tokens
    )
  )(INPUTS)
  shifted = np.pad(np.asarray(found), ((0, 0), (1, 0)))[:, :-1]
  again = np.asarray(_logits(written, targets=shifted)).argmax(axis=-1)
  for row, own in zip(np.asarray(found), again, strict=True):
    ends = np.flatnonzero(row == 1)
    length = ends[0] + 1 if len(ends) else len(row)
    np.testing.assert_array_equal(row[:length], own[:length])


@functools.cache
def _begun(body, head="mlp", spec=SPEC):
  """An untrained hypermodel of the backbone's weights, and its problem."""
  own = hypermodel.HyperT5Config(CONFIG, 16, body=body, head=head)
  problem = problems.HyperTuning(CONFIG, own, spec)
  params, frozen = nn.meta.unbox(jax.jit(problem.init)(jax.random.key(3)))
  frozen = {"backbone": testing.t5_params()}
  given = trees.flatten(params["hypermodel"])
  theirs = trees.flatten(frozen["backbone"])
  begun = {path: theirs.get(path, leaf) for path, leaf in given.items()}
  return problem, {"hypermodel": trees.unflatten(begun)}, frozen


@pytest.mark.parametrize(
  "body, head",
  [
    ("copy", "mlp"),
    pytest.param("shared", "factorised", marks=pytest.mark.slow),
    ("frozen_encoder", "shared"),
  ],
)
def test_an_untrained_hypermodel_remembers_what_the_encoder_gave(body, head):
  """Padding is left out; and there is no decoder, which would write nothing."""
  problem, params, frozen = _begun(body, head)
  read = DEMONSTRATIONS.copy()
  read[1, 6:] = 0
  written = jax.jit(problem.write)(problem.read_by_write(params, frozen), read)
  states = np.asarray(written.memory.states)
  assert states.shape == (1, 2, SPEC.length, CONFIG.emb_dim)
  encoded = _applied("encode")({"params": frozen["backbone"]}, read)
  for i, length in enumerate((9, 6)):
    np.testing.assert_allclose(
      states[0, i, :length], encoded[i, :length], rtol=1e-4, atol=1e-5
    )
    assert not states[0, i, length:].any()
  own = trees.flatten(params["hypermodel"])
  assert not any("slots" in path or "decoder" in path for path in own)
  assert any(path.startswith("head/memory_hidden") for path in own)


def test_of_more_tokens_than_a_memory_holds_the_first_are_kept():
  """Whatever padding is between: rows that are read by themselves."""
  short = dataclasses.replace(SPEC, length=4)
  head = heads.MlpHead(short, CONFIG, CONFIG, 16)
  encoded = jnp.asarray(_drawn(1, 7))
  mask = jnp.asarray([[True, False, True, True, False, True, True]])
  read = heads.Read(encoded, mask)
  written, _ = jax.jit(head.init_with_output)(jax.random.key(0), None, read)
  np.testing.assert_array_equal(
    written.memory.states[0, 0], encoded[0, [0, 2, 3, 5]]
  )


def test_a_memory_of_another_width_than_the_backbones_is_refused():
  own = dataclasses.replace(CONFIG, emb_dim=16)
  with pytest.raises(ValueError, match=r"emb_dim must be 12, .*, got 16"):
    problems.HyperTuning(CONFIG, hypermodel.HyperT5Config(own, 16), SPEC)


@pytest.mark.slow
def test_a_memory_beside_lora_is_written_of_both():
  """LoRA of slots, the memory of what was read."""
  both = adapters.ComposedSpec((adapters.LoraSpec(2), SPEC))
  problem, params, frozen = _begun("copy", spec=both)
  written = jax.jit(problem.write)(params, DEMONSTRATIONS)
  wanted = both.abstract(CONFIG, contexts=2)
  assert jax.tree.map(jnp.shape, written) == jax.tree.map(jnp.shape, wanted)
  encoded = _applied("encode")({"params": frozen["backbone"]}, DEMONSTRATIONS)
  found = written.memory.states[0, :, :9]
  np.testing.assert_allclose(found, encoded, rtol=1e-4, atol=1e-5)
