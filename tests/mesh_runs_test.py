"""A run that goes on with other devices, or devices shared out otherwise."""

import jax
import numpy as np
import pytest

from hyperjax import loop, metrics, sharding
from tests import runs_example

pytestmark = pytest.mark.slow


def _mesh(count, axes):
  """Of the first devices alone, as if there were no others."""

  class First(sharding.MeshSpec):
    def build(self, devices=None):
      return super().build(devices or jax.devices()[:count])

  return First(axes)


def _losses(world, folder, *parts):
  """Trained to a step on each mesh in turn."""
  for steps, count, axes in parts:
    runs_example.multitask(
      world / "tokens",
      folder,
      world / "backbone",
      steps=steps,
      periods=loop.Periods(log=1, save=100),
      mesh=_mesh(count, axes),
    ).execute()
  lines = metrics.read(folder / metrics.METRICS)
  assert [line["step"] for line in lines] == list(range(1, parts[-1][0] + 1))
  return [line["loss"] for line in lines]


def test_a_run_goes_on_with_the_same_losses_on_any_devices(world, tmp_path):
  """From eight to two to one and back, split and whole."""
  found = _losses(
    world,
    tmp_path / "moved",
    (2, 8, {"fsdp": 2, "tensor": 4}),
    (4, 2, {"fsdp": 2}),
    (6, 1, {}),
    (8, 8, {"replica": 2, "fsdp": 2, "tensor": 2}),
    (10, 8, {}),
  )
  wanted = _losses(world, tmp_path / "one", (10, 1, {}))
  np.testing.assert_allclose(found, wanted, rtol=1e-5)
