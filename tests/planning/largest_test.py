"""The largest arrays of a program, against sizes by hand."""

import jax
import pytest

from hyperjax.planning import jobs, largest
from tests.planning import plan_test

pytestmark = pytest.mark.usefixtures("no_configuration")


def test_rows_are_split_and_weights_as_they_lie():
  run = plan_test._run("--gin.MESH={'fsdp': 4}")
  job = jobs.of_training(run, jax.devices()[:8])
  jaxpr = job.trace().jaxpr
  found = largest.arrays(job, jaxpr, most=1000)
  sizes = [size for _, size in found]
  assert sizes == sorted(sizes, reverse=True)
  by_shape = {name.partition(" ")[0]: size for name, size in found}
  # Logits of 16 rows, 2 on each of 8 devices; a feed-forward's weights in 4 parts.
  assert by_shape["float32[16,5,64]"] == 2 * 5 * 64 * 4
  assert by_shape["float32[1,16,32]"] == 16 * 32 * 4 // 4
  assert len(by_shape) == len(found)
  assert largest.arrays(job, jaxpr, most=2) == found[:2]
