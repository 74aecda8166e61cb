import math

import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.models.relative_buckets import relative_buckets


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
  found = relative_buckets(
    jnp.asarray(relative), bidirectional, num_buckets, max_distance
  )
  wanted = [
    _bucket(int(x), bidirectional, num_buckets, max_distance) for x in relative
  ]
  np.testing.assert_array_equal(found, wanted)


# Where transformers' buckets begin, one-directional, after those of one
# distance each; the formula may skip a bucket, and float32 decides on ties.
_STARTS = {
  (32, 128): [16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113],
  (16, 128): [8, 12, 16, 23, 32, 46, 64, 91],
  (36, 50): [18, *range(20, 25), 26, 27, 29, 30, *range(32, 41, 2), 43, 45, 48],
  (20, 11): [10, 11, 11, 11, 11, 11, 11, 11, 11, 11],
  (7, 20): [3, 5, 8, 13],
  (2, 2): [1],
}


@pytest.mark.parametrize("sizes", _STARTS, ids=str)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_relative_buckets_are_those_of_transformers(sizes, bidirectional):
  num_buckets, max_distance = sizes
  starts = [*range(num_buckets // 2), *_STARTS[sizes]]
  distance = np.arange(2 * max_distance)
  wanted = sum((distance >= start).astype(int) for start in starts) - 1
  factor = 2 if bidirectional else 1
  found = relative_buckets(
    jnp.asarray(-distance), bidirectional, factor * num_buckets, max_distance
  )
  np.testing.assert_array_equal(found, wanted)
  later = relative_buckets(
    jnp.asarray(distance[1:]), bidirectional, factor * num_buckets, max_distance
  )
  after = num_buckets + wanted[1:] if bidirectional else 0 * wanted[1:]
  np.testing.assert_array_equal(later, after)
