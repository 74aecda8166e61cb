"""Rows of an evaluation on the host: what is read, asked and padded of each."""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperjax import batch
from hyperjax.batch import Lengths
from hyperjax.evaluation import batching, questions
from hyperjax.evaluation.batching import Shape
from hyperjax.evaluation.questions import Questions


@dataclasses.dataclass(frozen=True)
class Target:
  """A row, and what is asked of it."""

  unit: questions.Unit
  context: int  # the unit's number among those that are answered together
  row: int
  inputs: np.ndarray
  # Whose likelihoods are asked for; None where it is decoded.
  outputs: list[np.ndarray] | None

  @property
  def number(self) -> int:
    """Of what is drawn for it: of its draw, task and row alone."""
    key = self.unit.draw, self.unit.task, self.row
    return zlib.crc32(np.asarray(key, np.int64).tobytes())


def read(
  asked: Questions,
  units: Sequence[questions.Unit],
  asks_losses: bool,
  control: str,
) -> list[Target]:
  """The rows of units; with `asks_losses` their own targets are the outputs."""
  found = []
  for context, unit in enumerate(units):
    own = asked.read(unit, control)
    for i, row in enumerate(asked.rows(unit, control).tolist()):
      outputs = None
      if asks_losses:
        outputs = [own["targets"][i]]
      elif unit.is_ranked:
        outputs = asked.choices(unit, row, control)
      found.append(Target(unit, context, row, own["inputs"][i], outputs))
  return found


def in_front(
  demonstrations: Sequence[Any], targets: Sequence[Target]
) -> list[Target]:
  """The same, each context's demonstrations before its inputs."""
  shown = [np.concatenate(batch.sequences(own)) for own in demonstrations]
  return [
    dataclasses.replace(
      target, inputs=np.concatenate([shown[target.context], target.inputs])
    )
    for target in targets
  ]


def shape(
  target: Target, lengths: Lengths, least: int, beams: int = 1
) -> Shape:
  """What a row is padded to; inputs to at least so many tokens."""
  most, outputs = lengths.inputs, target.outputs
  if len(target.inputs) > most:  # with demonstrations before it
    most += lengths.read_tokens
  inputs = batching.padded(len(target.inputs), least, most)
  if outputs is None:
    return Shape(beams, lengths.targets, inputs)
  # Powers of four: their number and that of outputs make shapes, too.
  longest = 1
  while longest < max(map(len, outputs)):
    longest *= 4
  longest = min(longest, lengths.targets)
  return Shape(batch.power_of_two(len(outputs)), longest, inputs)
