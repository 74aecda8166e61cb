"""Examples held out from their own adapters, and what they are answered.

All parts of all tasks are written in passes of one shape, and their rows answered
in batches of few.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.batch import power_of_two, sequences
from hyperjax.memory.answer import OutOfMemory
from hyperjax.scores import columns
from hyperjax.serving import broken_rows
from hyperjax.serving.answering_t5 import Options
from hyperjax.serving.examples import Example, Fitted, Pool

if TYPE_CHECKING:
  from hyperjax.serving.model import Model

NUM_PARTS = 16  # in which more examples than that are held out
MOST_ANSWERED = 128  # of a task, evenly spaced


@dataclasses.dataclass(frozen=True)
class Part:
  """Some of a task's examples, and those of the others that are read."""

  task: int
  held: tuple[Example, ...]
  fitted: Fitted


@dataclasses.dataclass(frozen=True)
class Asked:
  """A held-out example, and what answers it."""

  part: Part
  example: Example
  way: str
  adapter: Adapter  # perhaps without arrays; its instruction is read


def parts(pool: Pool, task: int = 0) -> list[Part]:
  """The parts in which a task's examples are held out, each of them in one.

  Examples of the same input are held out together, or one would give the other
  away; of two that are the same one is. A part without any other example to be
  read is left out.
  """
  by_input: dict[str, list[int]] = {}
  for row, example in enumerate(pool.examples):
    by_input.setdefault(example.input, []).append(row)
  groups = list(by_input.values())
  some = [groups[i] for i in _evenly(len(groups), MOST_ANSWERED)]
  count, found = min(len(some), NUM_PARTS), []
  for first in range(count):
    rows = [row for group in some[first::count] for row in group]
    others = sorted(set(range(len(pool.examples))) - set(rows))
    if pool.has_room(others):
      held = {
        (example.input, example.output): example
        for example in (pool.examples[row] for row in rows)
      }
      found.append(Part(task, tuple(held.values()), pool.fit(others)))
  return found


def write(model: "Model", some: Sequence[Part]) -> list[Adapter]:
  """The adapter of each part; those that read the same are written once."""
  keys = [
    tuple(ids.tobytes() for ids in sequences(part.fitted.tokens))
    for part in some
  ]
  first = {key: part.fitted for key, part in zip(keys, some, strict=True)}
  written = dict(zip(first, model.write(list(first.values())), strict=True))
  return [written[key] for key in keys]


def answer(
  model: "Model", asked: Sequence[Asked], batch_size: int
) -> list[tuple[str, float]]:
  """What each is answered, and the log-likelihood of its example's output.

  Rows of about one length are answered together, and the last batch is filled up.

  Raises:
    OutOfMemory: not even one row fits.
    NotFinite: answers come of no numbers.
  """
  read = [_read(model, one) for one in asked]
  by_length: dict[int, list[int]] = {}
  for number, ids in enumerate(read):
    by_length.setdefault(power_of_two(len(ids)), []).append(number)
  found: dict[int, tuple[str, float]] = {}
  for numbers in by_length.values():
    first = 0
    while first < len(numbers):
      some = numbers[first : first + batch_size]
      lacking = min(batch_size, len(numbers)) - len(some)
      rows = [*some, *some[-1:] * lacking]
      try:
        answers = _batch(
          model, [asked[i] for i in rows], [read[i] for i in rows], batch_size
        )
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
  if asked.way != columns.IN_INPUT:
    return ids
  return np.concatenate([*sequences(asked.part.fitted.tokens), ids])


def _batch(
  model: "Model",
  asked: Sequence[Asked],
  read: Sequence[np.ndarray],
  batch_size: int,
) -> list[tuple[str, float]]:
  own = [one.adapter for one in asked]
  outputs: list[Any] = [[model.encode(one.example.output)] for one in asked]
  try:
    texts = model.answer(read, own, Options(batch_size=batch_size)).texts
    scores = model.score(read, own, outputs, batch_size)
  except broken_rows.NotFinite as error:
    names = [f"the example of line {one.example.line}" for one in asked]
    raise error.of(names) from error
  return [(text, score) for text, [score] in zip(texts, scores, strict=True)]


def _evenly(count: int, most: int) -> list[int]:
  """At most so many of the first `count` numbers, evenly spaced."""
  if count <= most:
    return list(range(count))
  return [i * count // most for i in range(most)]
