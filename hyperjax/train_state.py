"""What a training step takes and returns."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

SKIPPED = "skipped"  # a metric: the share of steps whose batch was left out


@struct.dataclass
class TrainState:
  """Trained and frozen parameters are two fields, not a mask.

  No gradient and no optimizer state exists for `frozen`. The key never
  changes: a step folds its own number into it.
  """

  step: Any  # [], int32: updates done
  params: Any
  frozen: Any
  opt_state: Any
  key: Any  # a typed PRNG key


def unbroken(
  before: TrainState, after: TrainState, metrics: Mapping[str, Any]
) -> tuple[TrainState, dict[str, Any]]:
  """The state after a step, or where its batch was broken that before it.

  Broken is what has a metric that is not finite, the gradient's norm among them.
  The step counts all the same. Metrics of a broken batch weigh nothing, but for
  `SKIPPED`, which is there only here.
  """
  sums = jnp.stack([jnp.float32(x) for pair in metrics.values() for x in pair])
  is_whole = jnp.isfinite(sums).all()

  def chosen(new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(is_whole, new, old)

  state = dataclasses.replace(
    after,
    params=jax.tree.map(chosen, after.params, before.params),
    opt_state=jax.tree.map(chosen, after.opt_state, before.opt_state),
  )
  kept = {
    name: (
      chosen(total, jnp.zeros_like(total)),
      chosen(weight, jnp.zeros_like(weight)),
    )
    for name, (total, weight) in metrics.items()
  }
  kept[SKIPPED] = jnp.float32(~is_whole), jnp.float32(1)
  return state, kept
