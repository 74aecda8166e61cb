"""The arrays of adapters, written by a run's hypermodel on one device.

Programs are compiled for few shapes: contexts and positions are padded to powers
of two, none of which changes more than rounding.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from hyperjax.adapters import Adapters
from hyperjax.artifacts import encoded_examples, run_folder
from hyperjax.batch import Lengths, pad_demonstrations, power_of_two

_CONTEXTS = 16  # written in one pass at most
_ROWS = 64  # read apart in one pass at most, where their encodings are kept


class Writer:
  """A run's hypermodel; its arrays are restored when they are needed."""

  def __init__(self, run: run_folder.Trained):
    self._run, self._lengths = run, run.lengths

  @functools.cached_property
  def params(self) -> Any:
    run = self._run
    return run_folder.load_params(run.folder, run.step, run.problem)

  @functools.cached_property
  def identity(self) -> str:
    """Of the hypermodel, wherever its run lies."""
    return run_folder.identity(self._run, self.params)

  def room(self, num_rows: int) -> Lengths:
    """As in training; for more rows that are read apart, room for all of them."""
    most = self._lengths.num_demonstrations
    if not self._lengths.are_apart or num_rows <= most:
      return self._lengths
    rows = power_of_two(num_rows)
    return dataclasses.replace(self._lengths, num_demonstrations=rows)

  def write(self, read: Sequence[Any]) -> list[Adapters]:
    """Arrays of each context, from the ids that are read of it.

    Args:
      read: of each context, an array of ids, or of ids read apart a list.
    """
    found = []
    for first in range(0, len(read), _CONTEXTS):
      some = list(read[first : first + _CONTEXTS])
      contexts = power_of_two(len(some))
      tokens = pad_demonstrations(
        [*some, *some[-1:] * (contexts - len(some))],
        self.room(max(map(len, some))),
      )
      written = jax.device_get(self._write(self.params, tokens))
      found += [
        jax.tree.map(lambda leaf, i=i: leaf[:, i : i + 1], written)
        for i in range(len(some))
      ]
    return found

  def encode(self, rows: Sequence[np.ndarray]) -> encoded_examples.Encoded:
    """The encoder's output for rows that are read apart, without padding."""
    found = []
    for first in range(0, len(rows), _ROWS):
      some = rows[first : first + _ROWS]
      tokens = pad_demonstrations([some], self.room(len(some)))
      encoded_1SD, mask_1S = jax.device_get(self._encode(self.params, tokens))
      found.append(encoded_examples.Encoded(encoded_1SD[mask_1S], len(some)))
    return encoded_examples.joined(found)

  def write_encoded(self, encoded: encoded_examples.Encoded) -> Adapters:
    """Arrays of one context, from what the encoder gave of its rows."""
    size = len(encoded.values)
    padding = max(power_of_two(size), self._lengths.demonstrations)
    values_SD = np.pad(encoded.values, ((0, padding - size), (0, 0)))
    mask_S = np.arange(padding) < size
    return jax.device_get(
      self._write_encoded(self.params, values_SD[None], mask_S[None])
    )

  @functools.cached_property
  def _write(self) -> Any:
    return jax.jit(self._run.problem.write)

  @functools.cached_property
  def _encode(self) -> Any:
    return jax.jit(self._run.problem.encode)

  @functools.cached_property
  def _write_encoded(self) -> Any:
    return jax.jit(self._run.problem.write_encoded)
