"""Answers chosen from given ones by their log-likelihood (rank classification)."""

import dataclasses

from hyperjax import checks
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

  def __post_init__(self):
    checks.fields(self)
