import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import adapters
from hyperjax.models import flops, forward, hypermodel, problems
from hyperjax.models.t5_layers import T5Config
from tests import testing

DEEP = T5Config(
  vocab_size=200,
  emb_dim=32,
  num_heads=4,
  head_dim=8,
  mlp_dim=64,
  num_encoder_layers=12,
  num_decoder_layers=12,
)
SIZES = flops.Sizes(
  contexts=2, rows=6, demonstrations=48, inputs=24, targets=16
)
SPECS = {
  "prefix": adapters.PrefixSpec(8),
  "lora": adapters.LoraSpec(8),
  "ia3": adapters.Ia3Spec(8),
  "memory": adapters.MemorySpec(48),
}
KINDS = [x for x in SPECS if x != "memory"]
KINDS.append(pytest.param("memory", marks=pytest.mark.slow))


LIGHT = {
  "shared": {"body": "shared", "body_rank": 4, "head": "shared"},
  "frozen_encoder": {
    "body": "frozen_encoder",
    "decoder_layers": 4,
    "head": "factorised",
    "head_latent_dim": 8,
  },
}


def _problem(name, hyper=None, **changes):
  config = dataclasses.replace(DEEP, **changes)
  hyper = hypermodel.HyperT5Config(config, 32, **(hyper or {}))
  return problems.HyperTuning(config, hyper, SPECS[name])


def _batch():
  return testing.batch(
    SIZES.contexts,
    SIZES.rows // SIZES.contexts,
    demonstrations=SIZES.demonstrations,
    inputs=SIZES.inputs,
    targets=SIZES.targets,
  )


def _counted(problem):
  of_trainer = testing.make_trainer(problem)
  return flops.count(of_trainer.trace_train_step(_batch()).jaxpr)


def test_a_product_takes_two_operations_for_each_pair():
  jaxpr = jax.make_jaxpr(jnp.matmul)(jnp.ones((3, 5)), jnp.ones((5, 7)))
  assert flops.count(jaxpr) == 2 * 3 * 5 * 7


def test_the_body_of_a_scan_counts_as_often_as_it_runs():
  weights = jnp.ones((11, 4, 4))

  def chain(x):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, weights)[0]

  jaxpr = jax.make_jaxpr(jax.jit(chain))(jnp.ones((2, 4)))
  assert flops.count(jaxpr) == 11 * 2 * 2 * 4 * 4


def test_a_product_in_a_while_loop_cannot_be_counted():
  def endless(x):
    return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, x)

  with pytest.raises(ValueError, match="while loop"):
    flops.count(jax.make_jaxpr(endless)(jnp.ones((2, 2))))


@pytest.mark.parametrize("name", SPECS)
def test_a_step_takes_the_arithmetic_that_the_method_needs(name):
  problem = _problem(name)
  share = _counted(problem) / flops.needed(problem, SIZES)["total"]
  assert 0.98 <= share <= 1.10


@pytest.mark.parametrize("body", LIGHT)
@pytest.mark.parametrize(
  "name", ["lora", pytest.param("memory", marks=pytest.mark.slow)]
)
def test_no_more_is_needed_of_a_body_than_reaches_what_is_trained(name, body):
  problem = _problem(name, LIGHT[body])
  share = _counted(problem) / flops.needed(problem, SIZES)["total"]
  assert 0.95 <= share <= 1.05


@pytest.mark.parametrize("name", KINDS)
def test_a_query_takes_what_one_forward_pass_takes(name):
  problem = _problem(name)
  found = flops.per_query(problem, SIZES)

  def counted(inputs, use_adapters):
    batch = testing.batch(1, demonstrations=48, inputs=inputs, targets=16)

    def answer(params, frozen):
      given = testing.alone(params, frozen, batch)
      if use_adapters:
        given = testing.setting(problem, params, frozen, batch)
      targets = batch.decoder_target_tokens
      return forward.log_likelihood(problem.backbone, given, targets)

    state = testing.make_trainer(problem).abstract
    return flops.count(jax.make_jaxpr(answer)(state.params, state.frozen))

  with_adapter = found["writing_adapter"] + found["with_adapter"]
  assert counted(24, True) == pytest.approx(with_adapter, rel=0.02)
  assert counted(24, False) == pytest.approx(found["input_alone"], rel=0.02)
  in_input = found["demonstrations_in_input"]
  assert counted(24 + 48, False) == pytest.approx(in_input, rel=0.02)
  assert found["with_adapter"] < in_input


def _products(*sizes):
  return sum(2 * m * k * n for m, k, n in sizes)


def _encoder_layer(s):
  """Of width 12, two heads of 8, three products of 20: weights, activations."""
  weights = [(s, 12, 16)] * 4 + [(s, 12, 20)] * 3
  return np.array([_products(*weights), _products(*[(s, s, 16)] * 2)])


def _decoder_layer(t, s):
  weights = [(t, 12, 16)] * 6 + [(s, 12, 16)] * 2 + [(t, 12, 20)] * 3
  both = [(t, t, 16)] * 2 + [(t, s, 16)] * 2
  return np.array([_products(*weights), _products(*both)])


def _t5(s, t, vocab):
  logits = np.array([_products((t, 12, vocab)), 0])
  return 2 * _encoder_layer(s) + 3 * _decoder_layer(t, s) + logits


def test_the_formulas_are_sums_over_all_products_by_hand():
  """A prefix of 3: 48 numbers of keys and of values in each of 8 layers."""
  problem = testing.hypertuning(testing.SPECS["prefix"])
  sizes = flops.Sizes(2, 6, demonstrations=9, inputs=7, targets=5)
  # The head: hidden layers of 16 for each slot, from them each number.
  head = np.array([_products((3, 12, 16), (1, 16, 8 * 48 * 2)), 0])
  writing = 2 * _encoder_layer(9) + 3 * _decoder_layer(3, 9) + head
  # A prefix is looked at by every position: scores, and sums of values.
  looks = 2 * _products(*[(7, 16, 3)] * 2) + 6 * _products(*[(5, 16, 3)] * 2)
  found = flops.per_query(problem, sizes)
  assert found == {
    "input_alone": _t5(7, 5, 40).sum(),
    "demonstrations_in_input": _t5(16, 5, 40).sum(),
    "with_adapter": _t5(7, 5, 40).sum() + looks,
    "writing_adapter": writing.sum(),
  }
  apart = dataclasses.replace(sizes, num_separate=4)
  found = flops.per_query(problem, apart)
  assert found["demonstrations_in_input"] == _t5(7 + 36, 5, 40).sum()
  several = 4 * 2 * _encoder_layer(9) + 3 * _decoder_layer(3, 36) + head
  assert found["writing_adapter"] == several.sum()
  weights, activations = 6 * _t5(7, 5, 40)
  parts = {
    "hypermodel, forward and backward": 2 * 3 * writing.sum(),
    "backbone, forward and input gradient": 2 * weights + 3 * activations,
    "adapters, forward and backward": 6 * 3 * looks,
  }
  total = sum(parts.values())
  assert flops.needed(problem, sizes) == parts | {"total": total}


def test_of_branches_the_longer_counts():
  def either(x):
    return jax.lax.cond(x.sum() > 0, lambda x: x @ x, lambda x: x @ x @ x, x)

  assert flops.count(jax.make_jaxpr(either)(jnp.ones((3, 3)))) == 2 * 2 * 27


def test_demonstrations_encoded_separately_take_less():
  """Their encoder sees each alone; its output is as long as when joined."""
  problem = _problem("lora")
  separate = dataclasses.replace(SIZES, demonstrations=12, num_separate=4)
  shapes = testing.make_trainer(problem).abstract.params
  tokens_CNS = jnp.ones((1, 4, 12), jnp.int32)
  jaxpr = jax.make_jaxpr(problem.write)(shapes, tokens_CNS)
  found = flops.per_query(problem, separate)
  assert flops.count(jaxpr) == pytest.approx(found["writing_adapter"], rel=0.02)
  joined = flops.per_query(problem, SIZES)
  assert found["writing_adapter"] < joined["writing_adapter"]
  whole = "demonstrations_in_input"
  assert found[whole] == joined[whole]


def test_a_query_of_a_t5_alone_has_no_adapter_to_count():
  problem = problems.LanguageModel(DEEP)
  assert flops.per_query(problem, SIZES).keys() == {
    "input_alone",
    "demonstrations_in_input",
  }


@pytest.mark.parametrize("name", KINDS)
def test_rematerialisation_costs_at_most_one_more_forward_pass(name):
  plain, again = (
    _counted(_problem(name)),
    _counted(_problem(name, remat="full")),
  )
  assert plain < again < 1.5 * plain


def test_the_count_is_that_of_an_unrolled_lowering():
  problem = _problem("lora", scan_unroll=12)
  of_trainer = testing.make_trainer(problem)
  lowered = of_trainer.trace_train_step(_batch()).lower().as_text()
  assert _lowered_products(lowered) == _counted(problem)


@pytest.mark.slow
def test_no_adapter_is_copied_for_each_row():
  """C = 2 contexts of G = 3 rows: no array of six LoRA matrices exists."""
  rank = 7  # found nowhere else among the extents
  config = dataclasses.replace(DEEP, num_encoder_layers=2, num_decoder_layers=2)
  hyper = hypermodel.HyperT5Config(config, 32)
  problem = problems.HyperTuning(config, hyper, adapters.LoraSpec(rank))
  of_trainer = testing.make_trainer(problem)
  text = of_trainer.trace_train_step(_batch()).lower().compile().as_text()
  shapes = {
    tuple(map(int, found.split(",")))
    for found in re.findall(r"f32\[([\d,]+)\]", text)
  }
  matrices = {(32, rank), (rank, 32)}
  assert any(shape[-2:] in matrices and 2 in shape[:-2] for shape in shapes)
  for shape in shapes:
    if shape[-2:] in matrices:
      assert np.prod(shape[:-2], initial=1) <= 2 * SIZES.contexts
      assert SIZES.rows not in shape[:-2]


def _lowered_products(text: str) -> int:
  """Operations of every dot_general of a StableHLO module, calls followed."""
  bodies = dict(
    re.findall(r"func\.func \w+ @([\w.]+)\((.*?)\n  }", text, re.DOTALL)
  )

  def total(name):
    body = bodies[name]
    found = sum(map(_operations, re.findall(r"stablehlo\.dot_general.*", body)))
    calls = re.findall(r"(?:func\.)?call @([\w.]+)\(", body)
    return found + sum(total(called) for called in calls)

  return total("main")


def _operations(line: str) -> int:
  contracted = re.search(r"contracting_dims = \[([\d, ]*)\]", line)[1]
  left, out = re.search(
    r": \(tensor<(\S+)>, \S+ -> tensor<(\S+)>", line
  ).groups()
  left, out = ([int(x) for x in t.split("x")[:-1]] for t in (left, out))
  sizes = [left[int(i)] for i in contracted.split(", ")]
  return 2 * int(np.prod(out)) * int(np.prod(sizes))
