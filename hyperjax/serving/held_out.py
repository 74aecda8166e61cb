"""The parts in which examples are held out from the adapters that answer them."""

import dataclasses

from hyperjax.serving.examples import Example, Pool

NUM_PARTS = 16  # in which more examples than that are held out
MOST_ANSWERED = 128  # inputs of a task, evenly spaced


@dataclasses.dataclass(frozen=True)
class Part:
  """Some of a task's examples, and the rows of those that may be read."""

  task: int
  held: tuple[Example, ...]
  pool: Pool
  others: tuple[int, ...]


def parts(pool: Pool, task: int = 0, most: int = NUM_PARTS) -> list[Part]:
  """At most so many parts, each with examples that no other has.

  Examples of the same input are held out together, or one would give the other
  away; of two that are the same one is. A part without any other example to be
  read is left out.
  """
  by_input: dict[str, list[int]] = {}
  for row, example in enumerate(pool.examples):
    by_input.setdefault(example.input, []).append(row)
  groups = list(by_input.values())
  some = [groups[i] for i in _evenly(len(groups), MOST_ANSWERED)]
  count, found = min(len(some), most), []
  for first in range(count):
    rows = [row for group in some[first::count] for row in group]
    others = sorted(set(range(len(pool.examples))) - set(rows))
    if pool.has_room(others):
      held = {
        (example.input, example.output): example
        for example in (pool.examples[row] for row in rows)
      }
      found.append(Part(task, tuple(held.values()), pool, tuple(others)))
  return found


def _evenly(count: int, most: int) -> list[int]:
  """At most so many of the first `count` numbers, evenly spaced."""
  if count <= most:
    return list(range(count))
  return [i * count // most for i in range(most)]
