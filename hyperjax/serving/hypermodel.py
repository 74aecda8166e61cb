"""The hypermodel of a run: its arrays, who it is, what it writes from examples.

Programs are compiled for few shapes: contexts and positions are padded to powers
of two, none of which changes more than rounding.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from hyperjax import trees
from hyperjax.adapters import Adapters
from hyperjax.artifacts import encoded_examples, restore, run_folder
from hyperjax.batch import Lengths, pad_demonstrations, power_of_two, sequences
from hyperjax.memory import program
from hyperjax.memory.answer import Fitting, OutOfMemory
from hyperjax.serving.writer import Writer
from hyperjax.sharding import Layout
from hyperjax.trainer import abstract_params

_CONTEXTS = 16  # written in one pass at most
_ROWS = 64  # encoded by themselves in one pass at most, where that is kept
_SMALL = 1 << 17  # elements of an array that an identity covers


class Hypermodel:
  """Its arrays are restored when they are needed, and kept on the mesh."""

  def __init__(
    self,
    run: run_folder.Trained,
    layout: Layout,
    backbone: Callable[[], Any] | None = None,
  ):
    """Describes one; `backbone` gives its T5's parameters, if it computes with them.

    They are on the mesh, and stay there only once.
    """
    self._run, self._layout, self._lengths = run, layout, run.lengths
    self._backbone = backbone
    self._writer = Writer(run.problem, layout)

  @functools.cached_property
  def params(self) -> Any:
    """Of the hypermodel alone, also where it was trained with its T5."""
    run = self._run
    whole, _ = abstract_params(run.problem, self._layout)
    own = {"hypermodel": whole["hypermodel"]}
    return restore.restored(run.folder, run.step, own, run.trains_t5)

  @property
  def _whole(self) -> Any:
    """What it computes with."""
    if self._backbone is None:
      return self.params
    return self.params | {"backbone": self._backbone()}

  @functools.cached_property
  def identity(self) -> str:
    """Which hypermodel it is, wherever its run lies.

    A hash of the step, all shapes, and the values of small arrays: norms, position
    biases, slots. Training moves all of these at once with the others, to hash
    which would take as long as to restore them.
    """
    digest = hashlib.sha256(f"step {self._run.step}".encode())
    for path, leaf in sorted(trees.flatten(self.params["hypermodel"]).items()):
      digest.update(f" {path} {leaf.dtype} {leaf.shape} ".encode())
      if leaf.size <= _SMALL:
        digest.update(np.ascontiguousarray(jax.device_get(leaf)).tobytes())
    return digest.hexdigest()

  def room(self, num_rows: int) -> Lengths:
    """As in training; for more rows encoded by themselves, room for all of them."""
    if num_rows <= self._lengths.num_demonstrations:
      return self._lengths
    return self._padded(num_rows)

  def _padded(self, num_rows: int) -> Lengths:
    """As in training, but for fewer rows encoded by themselves."""
    if not self._lengths.are_separate:
      return self._lengths
    rows = power_of_two(num_rows)
    return dataclasses.replace(self._lengths, num_demonstrations=rows)

  def write(self, read: Sequence[Any]) -> list[Adapters]:
    """Arrays of each context on the host, from the ids that are read of it.

    Args:
      read: of each context an array of ids, or a list of them, each of which is
        encoded by itself.

    Raises:
      ValueError: a memory has no room for what is read.
      OutOfMemory: not even one context fits.
    """
    for own in read:
      self._check_room(sum(map(len, sequences(own))))

    def some_contexts(some: Sequence[Any], least: int) -> list[Adapters]:
      contexts = self._layout.padded(power_of_two(least))
      tokens = pad_demonstrations(
        [*some, *[some[-1]] * (contexts - len(some))],
        self._padded(max(map(len, some))),
        self._run.problem.backbone.pad_id,
      )
      placed = self._layout.place(tokens)
      written = jax.device_get(self._writer(self._whole, placed))
      return [_context(written, i) for i in range(len(some))]

    return self._in_parts(read, _CONTEXTS, some_contexts)

  def encode(self, rows: Sequence[np.ndarray]) -> encoded_examples.Encoded:
    """The encoder's output for rows, each by itself, without padding.

    Raises:
      OutOfMemory: not even one row fits.
    """

    def some_rows(some: Sequence[np.ndarray], _: int) -> list[Any]:
      pad_id = self._run.problem.backbone.pad_id
      padded = pad_demonstrations([some], self._padded(len(some)), pad_id)
      given = self._alone(padded)
      encoded, mask = jax.device_get(self._writer.encode(self._whole, given))
      return [encoded_examples.Encoded(encoded[0][mask[0]], len(some))]

    return encoded_examples.joined(self._in_parts(rows, _ROWS, some_rows))

  def write_encoded(self, encoded: encoded_examples.Encoded) -> Adapters:
    """Arrays of one context on the host, from what the encoder gave of its rows.

    Raises:
      ValueError: as for `write`.
    """
    size = len(encoded.values)
    self._check_room(size)
    padding = max(power_of_two(size), self._lengths.demonstrations)
    values_SD = np.pad(encoded.values, ((0, padding - size), (0, 0)))
    mask_S = np.arange(padding) < size
    given = (self._alone(values_SD[None]), self._alone(mask_S[None]))
    with program.advising(
      f"writing an adapter from {encoded.num_rows} encoded examples",
      "keep none of them encoded (--no-keep_encoded, --by_mean)",
    ):
      written = self._writer.write_encoded(self._whole, *given)
      return _context(jax.device_get(written), 0)

  def _check_room(self, length: int) -> None:
    """Refuses more tokens than the adapters that are written hold."""
    spec = self._run.problem.adapters
    if not spec.has_room(length):
      raise ValueError(
        f"the examples have {length} tokens; this model writes a {spec.label}: give "
        f"fewer or shorter ones, of {spec.most_read} tokens in all"
      )

  def _in_parts(
    self,
    read: Sequence[Any],
    most: int,
    make: Callable[[Sequence[Any], int], list],
  ) -> list[Any]:
    """What `make` gives of all, at most so many at a time, fewer if they must be.

    It is also told how many there are of other parts, so that the last may be
    filled up, rather than compiled for.
    """
    found, first = [], 0
    while first < len(read):
      some = read[first : first + most]
      try:
        found += make(some, most if len(read) > most else len(some))
        first += len(some)
      except OutOfMemory as error:
        if len(some) == 1:
          raise error.advised(_advice(error.fitting())) from error
        most = len(some) // 2
    return found

  def _alone(self, array: np.ndarray) -> Any:
    """An array of one context on the mesh, which wants as many as it has parts."""
    return self._layout.place(np.repeat(array, self._layout.padded(1), axis=0))


def _context(written: Adapters, index: int) -> Adapters:
  return jax.tree.map(lambda leaf: leaf[:, index : index + 1], written)


def _advice(found: Fitting | None) -> str:
  if found is None:
    return "no shorter example fits; a smaller model, or more memory is needed"
  if found.demonstrations is None:
    return f"give {found.num_demonstrations} examples at most"
  return (
    "it needs a hypermodel that was trained to read less: with "
    f"TASK_FEATURE_LENGTHS['demonstrations'] {found.demonstrations}"
  )
