"""A T5 in eight bits: which weights, what it computes, and what lies in memory."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hyperjax import trees
from hyperjax.interop import weights
from hyperjax.models import (
  flops,
  forward,
  gathering,
  hypermodel,
  problems,
  quantizing,
  t5_layers,
)
from tests import testing

CONFIG = testing.CONFIG
EIGHT = dataclasses.replace(CONFIG, quantization="int8")
ALL = dataclasses.replace(CONFIG, quantization="int8_wo")
TOKENS = testing.tokens(2, 6), testing.tokens(2, 4, seed=1)


@functools.cache
def _loaded(config):
  """A tiny T5 as `config` has it, and the same in float32 throughout."""
  source = weights.from_params("memory", CONFIG, testing.t5_params())
  params = weights.load(source, config).params
  flat = trees.flatten(params)
  meant = {
    path: x
    if x.dtype != np.int8
    else x * np.expand_dims(flat[path[:-6] + "kernel_scale"], -2)
    for path, x in flat.items()
    if not path.endswith("kernel_scale")
  }
  return params, trees.unflatten(meant)


def test_an_output_has_steps_of_its_own_of_which_its_largest_number_has_127():
  kernel = np.array([[1.27, 0.0, -2.0], [-0.634, 0.0, 1.0]], np.float32)
  values, scale = quantizing.quantized(kernel)
  np.testing.assert_array_equal(values, [[127, 0, -127], [-63, 0, 64]])
  np.testing.assert_allclose(scale[[0, 2]], [0.01, 2 / 127], rtol=1e-6)
  assert values.dtype == np.int8 and scale.dtype == np.float32


@pytest.mark.parametrize(
  "config, kept", [(EIGHT, {"mlp/wo"}), (ALL, set())], ids=["int8", "int8_wo"]
)
def test_projections_are_in_eight_bits_but_for_those_that_are_kept(
  config, kept
):
  found = trees.flatten(_loaded(config)[0])
  for path, x in found.items():
    is_kernel = path.endswith("/kernel")
    is_kept = any(path.endswith(f"{name}/kernel") for name in kept)
    assert (x.dtype == np.int8) == (is_kernel and not is_kept), path
  assert found["decoder/layers/mlp/wi_0/kernel_scale"].shape == (3, 20)
  assert found["decoder/logits_dense/kernel_scale"].shape == (40,)


def test_a_t5_in_eight_bits_computes_what_its_weights_stand_for():
  """Rounding of sums apart: the scale multiplies what comes of a product."""
  params, meant = _loaded(ALL)
  found, wanted = [
    jax.jit(functools.partial(forward.logits, of))(
      forward.Setting(given, TOKENS[0]), TOKENS[1]
    )
    for of, given in ((ALL, params), (CONFIG, meant))
  ]
  np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


@functools.cache
def _problem(config, kind="lora"):
  return problems.AdapterFineTuning(config, testing.SPECS[kind])


def test_a_product_has_the_gradient_of_what_its_weights_stand_for():
  values, scale = quantizing.quantized(
    testing.draw(np.empty((3, 5), np.float32))
  )
  x_BTD = testing.draw(np.empty((2, 4, 3), np.float32))

  def total(x, kernel, *scale):
    y_BTF = gathering.project(x, kernel, ("embed", "mlp"), *scale)
    return (y_BTF**2).sum()

  found = jax.grad(total)(x_BTD, values, scale)
  wanted = jax.grad(total)(x_BTD, values * scale)
  np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_whole_numbers_are_summed_in_what_holds_their_sum(dtype):
  """Here 4,096 times 127 times 8, which float16 has no number for."""
  values, scale = quantizing.quantized(np.full((4096, 2), 1e-3, np.float32))
  x_BD = jnp.full((1, 4096), 8.0, dtype)
  y_BF = gathering.project(x_BD, jnp.asarray(values), ("embed", "mlp"), scale)
  assert y_BF.dtype == dtype
  np.testing.assert_allclose(np.float32(y_BF), 32.768, rtol=5e-3)


def test_no_program_holds_a_stack_of_kernels_in_another_type():
  """Kept for a gradient, or cast before the scan, it would be the whole T5."""
  deep = dataclasses.replace(EIGHT, num_encoder_layers=7, num_decoder_layers=9)
  problem = _problem(deep)
  params, frozen = nn.meta.unbox(
    jax.eval_shape(problem.init, jax.random.key(0))
  )
  batch = dataclasses.replace(testing.batch(2), demonstrations=None)

  def loss(params, frozen):
    return problem.loss(params, frozen, batch, None)[0]

  text = jax.jit(jax.grad(loss)).lower(params, frozen).compile().as_text()
  stacks = {
    (dtype, *map(int, sizes.split(",")))
    for dtype, sizes in re.findall(r"\b([a-z]+\d+)\[([79],\d+,\d+)\]", text)
  }
  shapes = {
    x.shape
    for path, x in trees.flatten(frozen).items()
    if x.dtype == np.int8 and "/layers/" in path
  }
  assert {("s8", *shape) for shape in shapes} <= stacks
  assert not {("f32", *shape) for shape in shapes} & stacks


@pytest.mark.slow
@pytest.mark.parametrize("body", ["shared", "frozen_encoder"])
def test_a_hypermodel_of_the_backbones_weights_has_them_in_eight_bits(body):
  hyper = hypermodel.HyperT5Config(CONFIG, 9, body=body)
  problem = problems.HyperTuning(EIGHT, hyper, testing.SPECS["prefix"])
  own, _ = nn.meta.unbox(jax.eval_shape(problem.init, jax.random.key(0)))
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(own))
  own = testing.draw(own)
  written = [
    jax.jit(dataclasses.replace(problem, backbone=config).write)(
      own | {"backbone": given}, testing.tokens(2, 9)
    )
    for config, given in zip((EIGHT, CONFIG), _loaded(EIGHT), strict=True)
  ]
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4),
    *written,
  )


@pytest.mark.parametrize("name, scale", [("query", 1 / 8), ("wi_0", 1.0)])
def test_a_random_kernel_in_eight_bits_is_as_one_without(name, scale):
  """Of the deviation that its fan-in asks for, and never beyond two of them."""
  x_BD = jnp.ones((1, 64))
  axes = ("embed", "mlp")
  layer = t5_layers.Dense(96, axes, EIGHT, scale, name=name)
  found = nn.meta.unbox(layer.init(jax.random.key(0), x_BD))["params"]
  assert found["kernel"].dtype == jnp.int8
  kernel = found["kernel"] * found["kernel_scale"]
  assert float(kernel.std()) == pytest.approx((scale / 64) ** 0.5, rel=0.03)
  assert abs(found["kernel"]).max() in (126, 127)


def test_a_hypermodels_own_t5_is_not_in_eight_bits():
  with pytest.raises(
    ValueError, match=r"^HyperT5Config.t5 has quantization 'int8'; .* 'none'"
  ):
    hypermodel.HyperT5Config(EIGHT, 9)


@pytest.mark.slow
def test_a_decode_reads_eight_bits_as_all_positions_at_once_do():
  """Greedy, on the weights as they are and on those that they stand for."""
  params, meant = _loaded(ALL)
  found, wanted = [
    jax.jit(functools.partial(forward.decode, of, max_length=5))(
      forward.Setting(given, TOKENS[0])
    )
    for of, given in ((ALL, params), (CONFIG, meant))
  ]
  np.testing.assert_array_equal(found.tokens, wanted.tokens)
  np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-4)


@pytest.mark.parametrize("remat", ["none", "minimal", "full"])
def test_no_product_is_computed_again_that_a_whole_kernels_would_not_be(remat):
  found = []
  for quantization in ("none", "int8"):
    config = dataclasses.replace(
      testing.CONFIG, remat=remat, quantization=quantization
    )
    problem = problems.AdapterFineTuning(config, testing.SPECS["lora"])
    params, frozen = jax.eval_shape(
      lambda problem=problem: nn.meta.unbox(problem.init(jax.random.key(0)))
    )
    batch = dataclasses.replace(testing.batch(2), demonstrations=None)

    def loss(params, frozen, batch, problem=problem):
      return problem.loss(params, frozen, batch, None)[0]

    jaxpr = jax.make_jaxpr(jax.grad(loss))(params, frozen, batch)
    found.append(flops.count(jaxpr))
  assert found[0] == found[1]
