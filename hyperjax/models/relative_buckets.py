"""T5's buckets of relative positions, each of which has one entry of a bias table."""

import jax
import jax.numpy as jnp
import numpy as np


def relative_buckets(
  relative: jax.Array, bidirectional: bool, num_buckets: int, max_distance: int
) -> jax.Array:
  """Bucket of each relative position (key minus query), T5's rule.

  Half of the buckets hold one distance each, the others grow logarithmically
  up to `max_distance`. One-directional buckets put all later keys in bucket 0.
  """
  if bidirectional:
    num_buckets //= 2
    offset = jnp.where(relative > 0, num_buckets, 0)
    distance = jnp.abs(relative)
  else:
    offset = 0
    distance = jnp.maximum(-relative, 0)
  # A distance's bucket is how many buckets begin at or before it, less one.
  starts = _bucket_starts(num_buckets, max_distance)
  bucket = jnp.searchsorted(jnp.asarray(starts), distance, side="right") - 1
  return bucket + offset


def _bucket_starts(num_buckets: int, max_distance: int) -> np.ndarray:
  """The least distance of each bucket, from T5's formula in float32."""
  max_exact = num_buckets // 2
  distances = np.arange(max_exact, max_distance + 1)
  log_ratio = np.log(distances.astype(np.float32) / np.float32(max_exact))
  share = log_ratio / np.float32(np.log(max_distance / max_exact))
  large = max_exact + (share * (num_buckets - max_exact)).astype(np.int64)
  large = np.minimum(large, num_buckets - 1)
  wanted = np.arange(max_exact, num_buckets)
  # A bucket that the formula skips begins where the next one does.
  starts = distances[np.searchsorted(large, wanted, side="left")]
  return np.concatenate([np.arange(max_exact), starts]).astype(np.int32)
