"""What many examples are answered, each under its own adapter, in few batches."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.batch import power_of_two, sequences
from hyperjax.memory.answer import OutOfMemory
from hyperjax.serving import broken_rows
from hyperjax.serving.answering_t5 import Options
from hyperjax.serving.examples import Example, Fitted

if TYPE_CHECKING:
  from hyperjax.serving.model import Model


@dataclasses.dataclass(frozen=True)
class Asked:
  """An example, and what answers it."""

  example: Example
  adapter: Adapter  # perhaps without arrays; its instruction is read
  shown: Fitted | None = None  # examples that stand in the T5's own input


@dataclasses.dataclass(frozen=True)
class Found:
  """What an example was answered."""

  text: str  # empty where only scores were asked for
  log_likelihood: float  # of the example's output, summed over its tokens


def answer(
  model: "Model",
  asked: Sequence[Asked],
  batch_size: int,
  is_decoded: bool = True,
) -> list[Found]:
  """What each is answered, and how likely its example's output is.

  Rows of about one length are answered together, and the last batch is filled up.

  Args:
    model: whose T5 answers.
    asked: of any tasks.
    batch_size: rows that are answered together at most.
    is_decoded: whether there are answers, or only log-likelihoods.

  Raises:
    OutOfMemory: not even one row fits.
    NotFinite: answers come of no numbers.
  """
  read = [_read(model, one) for one in asked]
  by_length: dict[int, list[int]] = {}
  for number, ids in enumerate(read):
    by_length.setdefault(power_of_two(len(ids)), []).append(number)
  found: dict[int, Found] = {}
  for numbers in by_length.values():
    first = 0
    while first < len(numbers):
      some = numbers[first : first + batch_size]
      lacking = min(batch_size, len(numbers)) - len(some)
      rows = [*some, *some[-1:] * lacking]
      batch = [(asked[i], read[i]) for i in rows]
      try:
        answers = _batch(model, batch, batch_size, is_decoded)
      except OutOfMemory:
        if len(some) == 1:
          raise
        batch_size = power_of_two(len(some)) // 2
        continue
      found.update(zip(some, answers, strict=False))
      first += len(some)
  return [found[number] for number in range(len(asked))]


def _read(model: "Model", asked: Asked) -> np.ndarray:
  """Ids that the T5 reads; as in evaluation, examples go before an input."""
  ids, _ = model.read(asked.example.input, asked.adapter)
  if asked.shown is None:
    return ids
  return np.concatenate([*sequences(asked.shown.tokens), ids])


def _batch(
  model: "Model",
  batch: Sequence[tuple[Asked, np.ndarray]],
  batch_size: int,
  is_decoded: bool,
) -> list[Found]:
  own = [one.adapter for one, _ in batch]
  read = [ids for _, ids in batch]
  outputs: list[Any] = [[model.encode(x.example.output)] for x, _ in batch]
  texts = [""] * len(batch)
  try:
    if is_decoded:
      texts = model.answer(read, own, Options(batch_size=batch_size)).texts
    scores = model.score(read, own, outputs, batch_size)
  except broken_rows.NotFinite as error:
    names = [f"the example of line {one.example.line}" for one, _ in batch]
    raise error.of(names) from error
  return [Found(x, score) for x, [score] in zip(texts, scores, strict=True)]
