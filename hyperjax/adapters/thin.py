"""Thin products of LoRAs that read the same array."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax.adapters.lora import Lora


def updates(given: Sequence[Any], x_BTD: jax.Array) -> list[jax.Array | None]:
  """What each adds to its own product of `x_BTD`; None adds nothing.

  LoRAs share one product with all their columns: thin ones leave a machine idle.
  """
  present = [x for x in given if x is not None]
  contexts = {len(x.down) if isinstance(x, Lora) else None for x in present}
  if len(present) < 2 or len(contexts) > 1 or None in contexts:
    return [None if x is None else x(x_BTD) for x in given]
  [count] = contexts
  dtype, x_CND = x_BTD.dtype, x_BTD.reshape(count, -1, x_BTD.shape[-1])
  downs = [x.down.astype(dtype) for x in present]
  low_CNR = x_CND @ jnp.concatenate(downs, axis=-1)
  ends = np.cumsum([down.shape[-1] for down in downs])[:-1]
  lows = iter(jnp.split(low_CNR, ends, axis=-1))
  found: list[jax.Array | None] = []
  for x in given:
    if x is None:
      found.append(None)
      continue
    y_CNF = next(lows) @ x.up.astype(dtype)
    found.append(y_CNF.reshape(*x_BTD.shape[:-1], -1))
  return found
