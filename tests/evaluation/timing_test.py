"""Seconds of answers, without those that compiled."""

import jax
import jax.numpy as jnp

from hyperjax.evaluation import timing


def test_a_batch_that_compiles_is_left_out_and_the_next_counts():
  stopwatch = timing.Stopwatch()
  double = jax.jit(lambda x: 2 * x + 17)
  for size, times in ((3, 3), (4, 1)):
    for _ in range(times):
      with stopwatch.lap("right", size):
        double(jnp.ones(size)).block_until_ready()
  with stopwatch.lap("none", 3):
    double(jnp.ones(3)).block_until_ready()
  found = stopwatch.content()
  # Of three batches of 3 the first compiles; that of 4 does too.
  assert found["controls"]["right"]["targets"] == 6
  assert found["controls"]["none"]["targets"] == 3
  assert 0 < found["controls"]["right"]["seconds_per_target"] < 1
  assert found["device_kind"] == jax.devices()[0].device_kind
