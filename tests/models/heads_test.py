"""A head by itself: its initial values, and how they make what it writes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hyperjax import adapters
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
