"""Small tasks in memory for tests of what reads them."""

import dataclasses

from hyperjax.data.store import store

EOS = 1


@dataclasses.dataclass(frozen=True)
class Tasks:
  """A mixture in memory, in place of one that is stored."""

  tasks: tuple[store.Task, ...]
  mixture_or_task: str = "some"
  split: str = "train"

  def open(self):
    return list(self.tasks)


def task(name, pairs, rate=1.0):
  """A task of (input, target) id lists, each closed by the end of sequence."""
  rows = [
    {"inputs": [*inputs, EOS], "targets": [*targets, EOS]}
    for inputs, targets in pairs
  ]
  return store.Task(
    name, "train", store.in_memory(rows, ("inputs", "targets")), rate
  )


def numbered(name, count, first=10, length=1, rate=1.0):
  """Row i has input [first + i] * length and target [first + i + 1000]."""
  return task(
    name,
    [([first + i] * length, [first + i + 1000]) for i in range(count)],
    rate,
  )


def documents(name, lengths, first=100):
  """Document d holds the ids first * (d + 1), first * (d + 1) + 1, ..."""
  rows = [
    {"targets": [*range(first * (d + 1), first * (d + 1) + n), EOS]}
    for d, n in enumerate(lengths)
  ]
  return store.Task(name, "train", store.in_memory(rows, ("targets",)))
