"""Answers chosen from given ones by their log-likelihood (rank classification)."""

import dataclasses

import numpy as np

from hyperjax.models import decoding


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
