"""Answers chosen from given ones by their log-likelihood (rank classification).

Every choice of an example is scored from one pass of the encoder, and one of the
hypermodel for all examples of a context: decoder row b of B * A reads encoder
row b // A. Choices that an example lacks have no weight and are never chosen.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hyperjax.batch import Batch, decoder_fields, pad_choices
from hyperjax.models import decoding
from hyperjax.models.problems import Problem
from hyperjax.sharding import Layout


@dataclasses.dataclass(frozen=True)
class Rank:
  """Takes the choice with the highest log-likelihood; of equals, the first.

  With `per_token` the mean over a choice's tokens counts (MetaICL, Min et al.,
  2022), without, their sum (T0, Sanh et al., 2021). The end of sequence is one
  of the tokens.

  A row without choices is decoded as `free_form` says, or refused where that is
  None: a mixture may hold tasks of both kinds.
  """

  per_token: bool = False
  free_form: decoding.Decoder | None = None

  def choose(self, ranking: "Ranking") -> int:
    """The index of the best choice."""
    scores = np.asarray(ranking.log_likelihoods)
    if self.per_token:
      scores = scores / np.asarray(ranking.num_tokens)
    return int(scores.argmax())


@dataclasses.dataclass(frozen=True)
class Ranking:
  """What the choices of one example came to, in their order."""

  log_likelihoods: list[float]  # natural logarithm, summed over tokens
  num_tokens: list[int]


class Ranker:
  """Scores batches of examples; compiled once for each shape.

  The number of choices, and the length that they are padded to, are those of the
  batch rounded up to a power of two: most choices are a word or two, and logits
  over the vocabulary are what takes the memory.
  """

  def __init__(self, problem: Problem, layout: Layout):
    self._layout = layout
    self._score = {
      use_adapters: jax.jit(
        functools.partial(problem.log_likelihood, use_adapters=use_adapters),
        out_shardings=layout.replicated,
      )
      for use_adapters in (True, False)
    }

  def __call__(
    self,
    params: Any,
    frozen: Any,
    batch: Batch,
    choices: Sequence[Sequence[np.ndarray]],
    max_length: int,
    use_adapters: bool = True,
  ) -> list[Ranking]:
    """Rankings of each row's choices.

    Args:
      params: trained ones, on the mesh.
      frozen: frozen ones, on the mesh.
      batch: B rows; what its decoder reads is replaced by the choices.
      choices: of each row, token ids with the end of sequence.
      max_length: that choices are padded to at most.
      use_adapters: or the plain backbone.
    """
    targets_BAT = pad_choices(choices, max_length)
    num_rows, width, length = targets_BAT.shape
    decoder = decoder_fields(targets_BAT.reshape(-1, length))
    asked = dataclasses.replace(batch, **self._layout.place(decoder))
    with self._layout.activate():
      sums = self._score[use_adapters](params, frozen, asked)
    sums_BA = np.asarray(sums, np.float64).reshape(num_rows, width)
    return [
      Ranking(sums_BA[row, : len(own)].tolist(), [len(ids) for ids in own])
      for row, own in enumerate(choices)
    ]
