"""Weights that are no numbers are refused by their names."""

import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import checkpoints


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_all_arrays_that_hold_what_is_no_number_are_named(dtype):
  tree = {
    "a": {"x": jnp.asarray([1.0, np.nan], dtype), "y": jnp.zeros(2, dtype)},
    "b": (jnp.asarray(-np.inf, dtype), jnp.int32(3)),
  }
  with pytest.raises(ValueError, match=r"^the run holds") as refused:
    checkpoints.check_finite(tree, "the run")
  assert str(refused.value).split("\n  ")[1:] == ["a/x", "b/0"]
  checkpoints.check_finite({"a": tree["a"]["y"], "n": tree["b"][1]}, "the run")
