"""Log-likelihoods of the choices of an example, and the best of them."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Ranking:
  """What the choices of one example came to, in their order."""

  log_likelihoods: list[float]  # natural logarithm, summed over tokens
  num_tokens: list[int]

  def best(self, per_token: bool) -> int:
    """The index of the highest sum, or mean over tokens; of equals the first."""
    scores = np.asarray(self.log_likelihoods)
    if per_token:
      scores = scores / np.asarray(self.num_tokens)
    return int(scores.argmax())
