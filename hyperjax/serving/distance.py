"""How far an updated adapter is from one written from all examples at once."""

import dataclasses
from collections.abc import Sequence

from hyperjax import adapters
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.memory.answer import OutOfMemory
from hyperjax.serving.answering_t5 import AnsweringT5, Options


@dataclasses.dataclass(frozen=True)
class Answers:
  """What two adapters answer to the same inputs, greedily."""

  count: int
  equal: float  # share
  # Kullback and Leibler's, nats a token: from the distributions of all examples
  # at once to those of the update, given the former's answers.
  divergence: float


@dataclasses.dataclass(frozen=True)
class Distance:
  num_examples: int  # that were read at once
  arrays: float  # relative, of the array or update where it is largest
  answers: Answers | None = None  # where there were inputs


def of_answers(
  t5: AnsweringT5,
  again: Adapter,
  adapter: Adapter,
  inputs: Sequence[str],
  batch_size: int,
) -> Answers:
  """How the answers under `adapter` differ from those under `again`.

  Fewer inputs than `batch_size` are answered together where so many do not fit.
  """
  while True:
    try:
      return _of_batches(t5, again, adapter, inputs, batch_size)
    except OutOfMemory as error:
      found = error.fitting()
      fewer = batch_size if found is None or found.lengths else found.rows
      if fewer is None or fewer >= batch_size:
        raise
      batch_size = fewer


def _of_batches(
  t5: AnsweringT5,
  again: Adapter,
  adapter: Adapter,
  inputs: Sequence[str],
  batch_size: int,
) -> Answers:
  options = Options(batch_size=batch_size)
  equal, divergence, tokens = 0, 0.0, 0
  for first in range(0, len(inputs), batch_size):
    some = inputs[first : first + batch_size]
    one, other = (t5.answer(some, [own], options) for own in (again, adapter))
    equal += sum(x == y for x, y in zip(one.texts, other.texts, strict=True))
    divergence += t5.divergence(some, again, adapter, one.tokens, batch_size)
    tokens += sum(map(len, one.tokens))
  return Answers(len(inputs), equal / len(inputs), divergence / max(tokens, 1))


def of_arrays(again: Adapter, adapter: Adapter) -> float:
  """The largest relative difference, at any place, of what arrays do."""
  return adapters.distance(again.arrays, adapter.arrays)
