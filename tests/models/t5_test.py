import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hyperjax import adapters, sharding, trees
from hyperjax.models import attention, t5, t5_stacks, t5_steps
from tests import testing

PARAMS = testing.t5_params()
MODEL = t5.T5(testing.CONFIG)
INPUTS = testing.tokens(4, 7)
TARGETS = testing.tokens(4, 5, seed=1)


@functools.partial(jax.jit, static_argnames="config")
def _logits(params, inputs, targets, written, config=testing.CONFIG):
  return t5.T5(config).apply({"params": params}, inputs, targets, written)


def _draw(spec, contexts, seed=0):
  return testing.draw(spec.abstract(testing.CONFIG, contexts), seed)


def test_scan_is_a_loop_over_layers():
  encoded = MODEL.apply({"params": PARAMS}, INPUTS, method="encode")
  mask = INPUTS > 0
  encoder = PARAMS["encoder"]
  layer = t5_stacks.EncoderLayer(testing.CONFIG)
  bias = t5_stacks.RelativeBias(testing.CONFIG, bidirectional=True)
  positions = jnp.arange(INPUTS.shape[1])
  own = bias.apply({"params": encoder["relpos_bias"]}, positions, positions)
  added = attention.Bias(own, keys=attention.padding(mask))
  x = PARAMS["token_embedder"]["embedding"][INPUTS]
  for i in range(testing.CONFIG.num_encoder_layers):
    own = jax.tree.map(lambda leaf, i=i: leaf[i], encoder["layers"])
    x, _ = layer.apply(
      {"params": own},
      x,
      adapters.EncoderAdapter(),
      added,
    )
  norm = t5_stacks.layer_norm(testing.CONFIG)
  x = norm.apply({"params": encoder["encoder_norm"]}, x)
  np.testing.assert_allclose(encoded, x, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["full", "minimal"])
def test_rematerialisation_changes_neither_loss_nor_gradient(remat):
  def loss(params, config):
    logits = _logits(params, INPUTS, TARGETS, t5.NO_ADAPTERS, config)
    return jnp.square(logits).mean()

  other = dataclasses.replace(testing.CONFIG, remat=remat)
  plain = jax.jit(jax.value_and_grad(lambda p: loss(p, testing.CONFIG)))(PARAMS)
  again = jax.jit(jax.value_and_grad(lambda p: loss(p, other)))(PARAMS)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
    plain,
    again,
  )


def test_unrolling_changes_nothing():
  unrolled = dataclasses.replace(testing.CONFIG, scan_unroll=3)
  logits = _logits(PARAMS, INPUTS, TARGETS, t5.NO_ADAPTERS, unrolled)
  plain = _logits(PARAMS, INPUTS, TARGETS, t5.NO_ADAPTERS)
  np.testing.assert_allclose(logits, plain, rtol=1e-4, atol=1e-5)


def test_a_position_sees_no_later_target():
  changed = TARGETS.copy()
  changed[:, 3:] = 2
  plain = _logits(PARAMS, INPUTS, TARGETS, t5.NO_ADAPTERS)
  other = _logits(PARAMS, INPUTS, changed, t5.NO_ADAPTERS)
  np.testing.assert_allclose(plain[:, :3], other[:, :3], rtol=1e-4, atol=1e-5)
  assert not np.allclose(plain[:, 3], other[:, 3])


def test_logits_are_float32_in_bfloat16():
  low = dataclasses.replace(testing.CONFIG, dtype="bfloat16")
  logits = _logits(PARAMS, INPUTS, TARGETS, t5.NO_ADAPTERS, low)
  assert logits.dtype == jnp.float32
  # The arithmetic was bfloat16: near the float32 logits, but not equal.
  plain = _logits(PARAMS, INPUTS, TARGETS, t5.NO_ADAPTERS)
  assert 1e-4 < np.abs(logits - plain).max() < 0.3


def test_tied_logits_are_scaled_embedding_products():
  params = testing.t5_params(testing.TIED)
  unscaled = dataclasses.replace(testing.TIED, scale_decoder_output=False)
  logits, plain = (
    _logits(params, INPUTS, TARGETS, t5.NO_ADAPTERS, config)
    for config in (testing.TIED, unscaled)
  )
  np.testing.assert_allclose(logits * 12**0.5, plain, rtol=1e-5, atol=1e-5)
  assert "logits_dense" not in params["decoder"]


def test_lora_without_up_is_the_plain_t5():
  written = _draw(testing.SPECS["lora"], contexts=4)
  silent = jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaf * (path[-1].name != "up"), written
  )
  np.testing.assert_allclose(
    _logits(PARAMS, INPUTS, TARGETS, silent),
    _logits(PARAMS, INPUTS, TARGETS, t5.NO_ADAPTERS),
    rtol=1e-6,
    atol=1e-6,
  )


@pytest.mark.parametrize(
  "config, names",
  [(testing.CONFIG, ("wi_0", "wi_1", "wo")), (testing.TIED, ("wi", "wo"))],
  ids=["1.1", "1.0"],
)
def test_a_lora_of_the_feed_forward_is_a_change_of_its_kernels(config, names):
  """T5 1.0 has one projection inwards, `wi`; each changes what the T5 says."""
  params = testing.t5_params(config)
  written = _draw_for(config, adapters.LoraSpec(2, projections=names))
  plain = _logits(params, INPUTS, TARGETS, t5.NO_ADAPTERS, config)
  for name in names:
    own, changed = _only(written, name), jax.tree.map(jnp.array, params)
    for stack in ("encoder", "decoder"):
      lora = getattr(getattr(written, stack).mlp, name)
      kernel = changed[stack]["layers"]["mlp"][name]
      kernel["kernel"] += np.asarray(lora.down[:, 0]) @ lora.up[:, 0]
    found = _logits(params, INPUTS, TARGETS, own, config)
    wanted = _logits(changed, INPUTS, TARGETS, t5.NO_ADAPTERS, config)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert not np.allclose(found, plain, atol=1e-2), name


def _draw_for(config, spec):
  return testing.draw(spec.abstract(config))


def _only(written, name):
  """With all but one projection's `up` at zero, so without effect."""
  return jax.tree_util.tree_map_with_path(
    lambda path, leaf: leaf * (path[-2].name == name or path[-1].name != "up"),
    written,
  )


def test_a_prefix_is_visible_everywhere_and_has_no_relative_bias():
  """Swapping two prefix positions changes nothing: they have no place."""
  written = _draw(testing.SPECS["prefix"], contexts=4)
  swapped = jax.tree.map(lambda leaf: leaf[:, :, ::-1], written)
  np.testing.assert_allclose(
    _logits(PARAMS, INPUTS, TARGETS, written),
    _logits(PARAMS, INPUTS, TARGETS, swapped),
    rtol=1e-4,
    atol=1e-5,
  )
  # The first target position sees the whole prefix.
  plain = _logits(PARAMS, INPUTS, TARGETS, t5.NO_ADAPTERS)
  prefixed = _logits(PARAMS, INPUTS, TARGETS, written)
  assert not np.allclose(plain[:, 0], prefixed[:, 0], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("rows_per_input", [1, 3])
@pytest.mark.parametrize("name", [None, *testing.SPECS])
def test_cached_decoding_is_the_full_forward_pass(name, rows_per_input):
  written = t5.NO_ADAPTERS
  if name:
    written = _draw(testing.SPECS[name], contexts=2)
  targets = testing.tokens(4 * rows_per_input, 5, seed=3)
  inputs = INPUTS.copy()
  inputs[1, 4:] = 0
  full = _logits(PARAMS, inputs, targets, written)

  @jax.jit
  def cached(params):
    weights = t5_steps.prepared(testing.CONFIG, params)
    of_layers = t5_steps.by_layer(
      written.decoder, testing.CONFIG.num_decoder_layers
    )
    cache = t5_steps.start(testing.CONFIG, weights, inputs, 5, written)
    # Rows of one input, as other programs carry them.
    cache = dataclasses.replace(
      cache,
      own=jax.tree.map(
        lambda x: jnp.repeat(x, rows_per_input, axis=0), cache.own
      ),
    )
    steps = []
    for t in range(5):
      logits, cache = t5_steps.step(
        testing.CONFIG, weights, targets[:, t], cache, of_layers
      )
      steps.append(logits)
    return jnp.stack(steps, axis=1)

  np.testing.assert_allclose(cached(PARAMS), full, rtol=1e-4, atol=1e-5)


def test_an_embedding_begins_as_wide_as_one_and_is_split_by_its_ids():
  shapes = jax.eval_shape(
    t5.T5(testing.CONFIG).init, jax.random.key(0), *[jnp.ones((1, 1), int)] * 2
  )
  specs = trees.flatten(nn.get_partition_spec(shapes)["params"])
  (name,) = [path for path in specs if path.endswith("/embedding")]
  assert tuple(specs[name]) == (sharding.VOCAB, sharding.EMBED)
  drawn = trees.flatten(testing.t5_params())[name]
  assert np.std(drawn) == pytest.approx(1.0, rel=0.1)
