"""How far an updated adapter is from one written from all examples at once."""

import dataclasses
from collections.abc import Sequence

from hyperjax import adapters
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.serving import predictor as predicting


@dataclasses.dataclass(frozen=True)
class Answers:
  """What two adapters answer to the same inputs, greedily."""

  count: int
  equal: float  # share
  # Kullback and Leibler's, nats a token: from the distributions of all examples
  # at once to those of the update, given the former's answers.
  divergence: float


@dataclasses.dataclass(frozen=True)
class Drift:
  num_examples: int  # that were read at once
  arrays: float  # relative, of the array or update where it is largest
  answers: Answers | None = None  # where there were inputs


def of_answers(
  again: Adapter,
  adapter: Adapter,
  predictor: predicting.Predictor,
  inputs: Sequence[str],
) -> Answers:
  """How the answers under `adapter` differ from those under `again`."""
  equal, divergence, tokens = 0, 0.0, 0
  for first in range(0, len(inputs), predictor.batch_size):
    some = inputs[first : first + predictor.batch_size]
    one, other = (predictor(some, [own]) for own in (again, adapter))
    equal += sum(x == y for x, y in zip(one.texts, other.texts, strict=True))
    divergence += predictor.divergence(some, again, adapter, one.tokens)
    tokens += sum(map(len, one.tokens))
  return Answers(len(inputs), equal / len(inputs), divergence / max(tokens, 1))


def of_arrays(again: Adapter, adapter: Adapter) -> float:
  """The largest relative difference, at any place, of what arrays do."""
  return adapters.distance(again.arrays, adapter.arrays)
