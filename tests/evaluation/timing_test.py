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


def test_seconds_are_those_of_all_batches_over_all_their_targets(monkeypatch):
  """Laps of 1, 2 and 3 seconds."""

  class Clock:
    def __init__(self):
      self.readings = iter([10.0, 11.0, 20.0, 22.0, 30.0, 33.0])

    def perf_counter(self):
      return next(self.readings)

  monkeypatch.setattr(timing, "time", Clock())
  stopwatch = timing.Stopwatch()
  for count in (4, 8):
    with stopwatch.lap("right", count):
      pass
  with stopwatch.lap("none", 2):
    pass
  assert stopwatch.content()["controls"] == {
    "right": {"seconds_per_target": 0.25, "targets": 12},
    "none": {"seconds_per_target": 1.5, "targets": 2},
  }
  assert stopwatch.content()["devices"] == 8


def test_a_lap_listens_to_compilation_only_while_it_lasts():
  """What compiles between laps is no lap's."""
  stopwatch = timing.Stopwatch()
  for size in (30, 31):
    with stopwatch.lap("right", 1):
      pass
    jax.jit(lambda x: 3 * x - 11)(jnp.ones(size)).block_until_ready()
  assert stopwatch.content()["controls"]["right"]["targets"] == 2
