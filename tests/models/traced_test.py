"""What is in the traced programs, and what is not, whoever compiles them."""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from hyperjax import trees
from hyperjax.models import forward, problems
from tests import testing

KERNEL = dataclasses.replace(testing.CONFIG, attention="interpreted")


def _equations(jaxpr):
  """All of them, with those of inner programs but kernels' own."""
  for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
    yield equation
    if equation.primitive.name == "pallas_call":
      continue
    for value in jax.tree.leaves(equation.params, is_leaf=_is_program):
      if _is_program(value):
        yield from _equations(value)


def _is_program(value):
  return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def _hypertuning(config):
  """A hypermodel for a frozen T5, and the shapes of what is trained and frozen."""
  problem = testing.hypertuning(testing.SPECS["prefix"], config)
  return problem, nn.meta.unbox(jax.eval_shape(problem.init, jax.random.key(0)))


def _gradient(problem, weights):
  given = testing.batch(2, demonstrations=9, inputs=7, targets=5)

  def loss(params, frozen):
    return problem.loss(params, frozen, given, None)[0]

  return list(_equations(jax.make_jaxpr(jax.grad(loss))(*weights)))


def test_the_kernel_computes_a_bias_gradient_only_where_one_is_trained():
  """Encoder and decoder self-attention of the hypermodel, of six sites."""
  kernels = [
    x
    for x in _gradient(*_hypertuning(KERNEL))
    if x.primitive.name == "pallas_call"
  ]
  backward = [x for x in kernels if len(x.outvars) > 2]
  assert sorted(len(x.outvars) for x in backward) == [3, 3, 3, 3, 4, 4]


def test_plain_attention_computes_no_bias_gradient_of_a_frozen_t5():
  heads = testing.CONFIG.num_heads
  found = {
    (1, *x.outvars[0].aval.shape[-3:])
    for x in _gradient(*_hypertuning(testing.CONFIG))
    if x.primitive.name == "reduce_sum"
    or (x.primitive.name == "dot_general" and x.outvars[0].aval.shape[0] == 1)
  }
  assert (1, heads, 9, 9) in found  # the hypermodel's own
  for queries, keys in ((7, 7), (5, 5), (5, 7), (3, 9)):
    assert (1, heads, queries, keys) not in found
    assert (1, heads, queries, 3 + keys) not in found  # behind a prefix


def test_each_weight_is_cast_once_a_step_and_not_in_a_layer():
  low = dataclasses.replace(testing.CONFIG, dtype="bfloat16", remat="full")
  problem = problems.LanguageModel(low)
  weights = nn.meta.unbox(jax.eval_shape(problem.init, jax.random.key(0)))
  found = [
    x.outvars[0].aval.shape
    for x in _gradient(problem, weights)
    if x.primitive.name == "convert_element_type"
    and x.invars[0].aval.dtype == jnp.float32
    and x.outvars[0].aval.dtype == jnp.bfloat16
  ]
  shapes = {
    path: leaf.shape
    for tree in weights
    for path, leaf in trees.flatten(tree).items()
    if path.endswith("kernel") and "logits_dense" not in path
  }
  assert len(shapes) == 18
  every = list(shapes.values())
  for path, shape in shapes.items():
    assert found.count(shape) == every.count(shape), path
    if "/layers/" in path:
      assert found.count(shape[1:]) == every.count(shape[1:]), path
  assert (testing.CONFIG.vocab_size, testing.CONFIG.emb_dim) not in found


def test_loras_that_read_one_array_share_the_product_with_it():
  config, spec = testing.CONFIG, testing.SPECS["lora"]
  setting = forward.Setting(
    testing.t5_params(),
    testing.tokens(2, 7),
    testing.draw(spec.abstract(config, 2)),
  )
  jaxpr = jax.make_jaxpr(functools.partial(forward.logits, config))(
    setting, testing.tokens(2, 5)
  )
  right = [
    x.invars[1].aval.shape
    for x in _equations(jaxpr)
    if x.primitive.name == "dot_general"
  ]
  width, joined, rank = config.emb_dim, 16, spec.rank
  wanted = {
    # Query, key and value of both self-attentions.
    (2, width, 3 * rank): 2,
    # Key and value of cross-attention, wi_0 and wi_1 of both stacks.
    (2, width, 2 * rank): 3,
    (2, width, rank): 1,  # cross-attention's query
    (2, joined, rank): 3,
    (2, config.mlp_dim, rank): 2,
  }
  assert {shape: right.count(shape) for shape in wanted} == wanted


def test_products_have_the_precision_that_is_asked_for():
  config = dataclasses.replace(testing.CONFIG, matmul_precision="highest")
  jaxpr = jax.make_jaxpr(functools.partial(forward.logits, config))(
    forward.Setting(testing.t5_params(), testing.tokens(2, 7)),
    testing.tokens(2, 5),
  )
  found = {
    x.params["precision"]
    for x in _equations(jaxpr)
    if x.primitive.name == "dot_general"
  }
  assert found == {(jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)}


def test_gradients_have_the_precision_of_their_products():
  """They are traced when what the configuration set no longer holds."""
  config = dataclasses.replace(testing.CONFIG, matmul_precision="highest")

  def total(params):
    setting = forward.Setting(params, testing.tokens(2, 7))
    return forward.logits(config, setting, testing.tokens(2, 5)).sum()

  jaxpr = jax.make_jaxpr(jax.grad(total))(testing.t5_params())
  found = collections.Counter(
    x.params["precision"] is not None
    for x in _equations(jaxpr)
    if x.primitive.name == "dot_general"
  )
  # On CPUs a bias's gradient is summed over rows by a product of each stack.
  assert found[False] == 2
  assert found[True] > 60


def test_what_is_kept_of_a_layer_is_not_multiplied_again():
  """Products of weights, by "minimal"; "full" keeps nothing."""

  def products(remat):
    config = dataclasses.replace(testing.CONFIG, remat=remat)

    def total(params):
      setting = forward.Setting(params, testing.tokens(2, 7))
      return forward.logits(config, setting, testing.tokens(2, 5)).sum()

    jaxpr = jax.make_jaxpr(jax.grad(total))(testing.t5_params())
    return sum(x.primitive.name == "dot_general" for x in _equations(jaxpr))

  none, minimal, full = map(products, ("none", "minimal", "full"))
  # Two for each attention are of no weights: three attentions in the layers' bodies.
  assert minimal - none == 6
  assert full - none > 18
