"""A head by itself: its initial values, and how they make what it writes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hyperjax import adapters, trees
from hyperjax.models import heads
from tests import testing

WIDTH, HIDDEN = 64, 128
HYPERMODEL = dataclasses.replace(testing.CONFIG, emb_dim=WIDTH)
# Large enough for a standard deviation to three percent.
BACKBONE = dataclasses.replace(
  testing.CONFIG, emb_dim=24, num_heads=4, num_encoder_layers=3
)
# The spread of each leaf that a head writes of unit normal features, and its
# mean; kernels of the output blocks have that over sqrt(0.43 * HIDDEN).
ONE_SITE = ("encoder.attention",)
WRITTEN = {
  adapters.PrefixSpec(2, ONE_SITE, key_stddev=2.0, value_stddev=0.5): {
    "key": (2.0, 0.0),
    "value": (0.5, 0.0),
  },
  adapters.LoraSpec(2, projections=("query", "out"), sites=ONE_SITE): {
    "query.down": (24**-0.5, 0.0),
    "out.down": (32**-0.5, 0.0),
    "up": (0.0, 0.0),
  },
  adapters.PlacedLoraSpec({"encoder.attention.key": 2, "decoder.mlp.wo": 1}): {
    "key.down": (24**-0.5, 0.0),
    "wo.down": (20**-0.5, 0.0),
    "up": (0.0, 0.0),
  },
  adapters.Ia3Spec(2): {"scale": (0.0, 1.0)},
}


def _leaf(wanted, path):
  (found,) = [x for name, x in wanted.items() if path.endswith(name)]
  return found


@pytest.mark.parametrize("spec", WRITTEN, ids=lambda spec: spec.label)
def test_each_array_of_a_head_begins_as_spread_as_its_place_says(spec):
  head = heads.MlpHead(spec, BACKBONE, HYPERMODEL, HIDDEN)
  drawn = np.random.default_rng(0).normal(size=(64, 2, WIDTH))
  slots_CPD = jnp.asarray(drawn, jnp.float32)

  @jax.jit
  def run(key):
    written, variables = head.init_with_output(key, slots_CPD)
    return written, nn.meta.unbox(variables)["params"]

  written, params = run(jax.random.key(1))
  kernel = params["hidden"]["kernel"]
  assert kernel.shape == (WIDTH, HIDDEN)
  assert np.std(kernel) == pytest.approx(WIDTH**-0.5, rel=0.03)
  assert np.mean(kernel) == pytest.approx(0, abs=3e-3)
  # A truncated normal, cut at two standard deviations of the whole one.
  assert np.abs(kernel).max() <= 2 / 0.87962566 * WIDTH**-0.5 * 1.0001
  biases = [x for name, x in params.items() if name.endswith(".bias")]
  for bias in (params["hidden"]["bias"], *biases):
    np.testing.assert_array_equal(bias, np.zeros_like(bias))
  paths = adapters.path_leaves(written)
  assert params.keys() == {"hidden"} | {
    f"{path}.{name}" for path in paths for name in ("kernel", "bias")
  }
  for path, leaf in paths.items():
    stddev, mean = _leaf(WRITTEN[spec], path)
    block = params[f"{path}.kernel"]
    assert np.std(block) == pytest.approx(
      stddev / (0.43 * HIDDEN) ** 0.5, rel=0.05
    ), path
    # GELU's mean square at unit normal input is 0.43: as spread as the spec says.
    assert np.std(leaf) == pytest.approx(stddev, rel=0.15), path
    assert np.mean(leaf) == pytest.approx(mean, abs=0.15 * stddev), path


SMALL = {
  "factorised": lambda spec, config=BACKBONE: heads.FactorisedHead(
    spec, config, HYPERMODEL, HIDDEN, latent_dim=48
  ),
  "shared": lambda spec, config=BACKBONE: heads.SharedHead(
    spec, config, HYPERMODEL, HIDDEN
  ),
}


def _begun(head, contexts=64):
  drawn = np.random.default_rng(0).normal(
    size=(contexts, head.spec.num_slots, WIDTH)
  )
  slots_CPD = jnp.asarray(drawn, jnp.float32)
  written, variables = jax.jit(head.init_with_output)(
    jax.random.key(1), slots_CPD
  )
  params = jax.device_get(nn.meta.unbox(variables)["params"])
  return adapters.path_leaves(jax.device_get(written)), params


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("spec", WRITTEN, ids=lambda spec: spec.label)
def test_a_small_head_writes_the_same_tree_as_spread(spec, name):
  written, _ = _begun(SMALL[name](spec))
  wanted = adapters.path_leaves(spec.abstract(BACKBONE, contexts=64))
  assert {p: x.shape for p, x in written.items()} == {
    p: x.shape for p, x in wanted.items()
  }
  for path, leaf in written.items():
    stddev, mean = _leaf(WRITTEN[spec], path)
    assert np.std(leaf) == pytest.approx(stddev, rel=0.2), path
    assert np.mean(leaf) == pytest.approx(mean, abs=0.15 * stddev), path


def test_a_latent_is_all_that_outputs_are_made_of():
  spec = adapters.LoraSpec(2, projections=("query", "out"), sites=ONE_SITE)
  _, params = _begun(SMALL["factorised"](spec), 1)
  assert params["latent"]["kernel"].shape == (HIDDEN, 48)
  # Of each array the features, then layers and its own width.
  assert {p: x.shape for p, x in params.items() if ".kernel" in p} == {
    "encoder.attention.query.down.kernel": (48, 3, 24),
    "encoder.attention.query.up.kernel": (48, 3, 32),
    "encoder.attention.out.down.kernel": (48, 3, 32),
    "encoder.attention.out.up.kernel": (48, 3, 24),
  }


def test_a_shared_head_grows_with_layers_by_their_embeddings_alone():
  """And by sites likewise, unless an array is of a new width."""

  def size(layers, sites):
    config = dataclasses.replace(BACKBONE, num_encoder_layers=layers)
    config = dataclasses.replace(config, num_decoder_layers=3)
    head = SMALL["shared"](adapters.LoraSpec(2, sites=sites), config)
    slots = jax.ShapeDtypeStruct((1, 2, WIDTH), jnp.float32)
    return trees.count(jax.eval_shape(head.init, jax.random.key(0), slots))

  sites = adapters.ATTENTION_SITES
  one = size(3, sites[:1])
  embed, joined = HIDDEN * 24 + 24, HIDDEN * 32 + 32
  # Query and value have two arrays each; all downs and all ups have a block.
  assert one == (WIDTH + 1 + 4 + 3) * HIDDEN + embed + joined
  assert size(30, sites[:1]) - one == 27 * HIDDEN
  # Two further sites, and the decoder's three layers.
  assert size(3, sites) - one == (2 * 4 + 3) * HIDDEN


def test_a_shared_head_tells_layers_and_sites_apart_by_embeddings_alone():
  spec = adapters.PrefixSpec(2)
  head = SMALL["shared"](spec)
  written, params = _begun(head, 2)
  site, layer = "decoder.self_attention.prefix.key", 1
  other = "decoder.encoder_decoder_attention.prefix.key"
  assert not np.allclose(written[site][0], written[site][layer], atol=0.1)
  assert not np.allclose(written[site], written[other], atol=0.1)
  same = params | {
    f"{other}.site": params[f"{site}.site"],
    "decoder.layers": np.zeros_like(params["decoder.layers"]),
  }
  drawn = np.random.default_rng(0).normal(size=(2, 2, WIDTH))
  slots_CPD = jnp.asarray(drawn, jnp.float32)
  found = adapters.path_leaves(jax.jit(head.apply)({"params": same}, slots_CPD))
  np.testing.assert_array_equal(found[site], found[other])
  np.testing.assert_array_equal(found[site][0], found[site][layer])
