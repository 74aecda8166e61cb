"""Batched decoding of a trained state, on its mesh."""

import functools
from typing import Any

import jax
import numpy as np

from hyperjax.batch import Batch
from hyperjax.models import decoding
from hyperjax.models.problems import Problem
from hyperjax.sharding import Layout


class Predictor:
  """Decodes batches of one shape; compiled once with and once without adapters.

  `num_tokens` is how many ids the tokenizer has: others are never decoded.
  """

  def __init__(
    self,
    problem: Problem,
    layout: Layout,
    decoder: decoding.Decoder,
    num_tokens: int | None,
  ):
    self._layout = layout
    self._predict = {
      use_adapters: jax.jit(
        functools.partial(
          problem.predict,
          decoder=decoder,
          num_tokens=num_tokens,
          use_adapters=use_adapters,
        ),
        out_shardings=layout.replicated,
      )
      for use_adapters in (True, False)
    }

  def __call__(
    self, params: Any, frozen: Any, batch: Batch, use_adapters: bool = True
  ) -> np.ndarray:
    """Token ids [B, T] of a batch whose arrays are on the mesh."""
    with self._layout.activate():
      decoded = self._predict[use_adapters](params, frozen, batch)
    return np.asarray(decoded.tokens)
