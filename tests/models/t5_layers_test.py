import math

import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.models import t5_layers
from hyperjax.models.t5_layers import T5Config
from tests import testing


def _bucket(relative, bidirectional, num_buckets, max_distance):
  """T5's rule for one relative position (Raffel et al., 2020), in words."""
  bucket, distance = 0, -relative
  if bidirectional:
    num_buckets //= 2
    bucket = num_buckets if relative > 0 else 0
    distance = abs(relative)
  distance = max(distance, 0)
  exact = num_buckets // 2
  if distance < exact:
    return bucket + distance
  share = np.float32(
    math.log(distance / exact) / math.log(max_distance / exact)
  )
  return bucket + min(
    exact + int(share * (num_buckets - exact)), num_buckets - 1
  )


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(
  "num_buckets, max_distance", [(32, 128), (16, 128), (8, 20), (20, 50)]
)
def test_relative_buckets_follow_the_rule(
  bidirectional, num_buckets, max_distance
):
  relative = np.arange(-200, 201)
  found = t5_layers.relative_buckets(
    jnp.asarray(relative), bidirectional, num_buckets, max_distance
  )
  wanted = [
    _bucket(int(x), bidirectional, num_buckets, max_distance) for x in relative
  ]
  np.testing.assert_array_equal(found, wanted)


def test_attention_is_a_softmax_over_biased_products():
  rng = np.random.default_rng(0)
  query, key, value = (
    rng.normal(size=shape).astype(np.float32)
    for shape in ((2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 4))
  )
  bias = rng.normal(size=(2, 2, 3, 5)).astype(np.float32)
  found = t5_layers.attention(query, key, value, bias)
  for b, t, h in np.ndindex(2, 3, 2):
    logits = key[b, :, h] @ query[b, t, h] + bias[b, h, t]
    weights = np.exp(logits - logits.max())
    wanted = (weights / weights.sum()) @ value[b, :, h]
    np.testing.assert_allclose(found[b, t, h], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  "field, value",
  [
    ("num_heads", 0),
    ("emb_dim", "64"),
    ("remat", "some"),
    ("mlp_activations", ("tanh",)),
    ("mlp_activations", "relu"),
    ("dropout_rate", 1.0),
  ],
)
def test_a_bad_size_is_refused_by_name(field, value):
  sizes = {
    name: getattr(testing.CONFIG, name)
    for name in testing.CONFIG.__dataclass_fields__
  }
  with pytest.raises(ValueError, match=f"T5Config.{field}"):
    T5Config(**(sizes | {field: value}))
