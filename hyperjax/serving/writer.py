"""Adapters from examples: what a problem writes, compiled once for each shape."""

import functools
from collections.abc import Iterator
from typing import Any

import jax

from hyperjax.adapters import Adapters
from hyperjax.memory.answer import Fitting, OutOfMemory
from hyperjax.memory.program import Program
from hyperjax.sharding import Layout


class Writer:
  """Writes the adapters of batches of contexts on a mesh.

  A hypermodel writes them from what it reads; of a problem that trains adapters
  themselves they are the trained ones, and of a T5 alone there are none.
  """

  def __init__(self, problem: Any, layout: Layout):
    self._problem, self._layout = problem, layout
    self._write = Program(problem.write, "writing adapters")

  def __call__(self, params: Any, demonstrations: Any) -> Adapters:
    """Arrays [L, C or 1, ...] on the mesh, from ids [C, S] or [C, N, S].

    Raises:
      OutOfMemory: they do not fit; its `fitting` says which contexts, rows
        and tokens of one would.
    """
    return self._run(self._write, params, demonstrations)

  def encode(self, params: Any, demonstrations: Any) -> Any:
    """A hypermodel's encoder alone, as `HyperTuning.encode`."""
    return self._run(self._encode, params, demonstrations)

  def write_encoded(
    self, params: Any, encoded_CSD: Any, mask_CS: Any
  ) -> Adapters:
    """The adapters of each context, from what `encode` gave of it."""
    with self._layout.activate():
      return self._write_encoded(params, encoded_CSD, mask_CS)

  def _run(self, program: Program, params: Any, demonstrations: Any) -> Any:
    with self._layout.activate():
      try:
        return program(params, demonstrations)
      except OutOfMemory as error:
        error.fitting = lambda: self._fitting(program, params, demonstrations)
        raise

  def _fitting(
    self, program: Program, params: Any, demonstrations: Any
  ) -> Fitting | None:
    """The most contexts that fit, or else rows of one, or else tokens of a row."""
    like = functools.partial(
      jax.ShapeDtypeStruct,
      dtype=demonstrations.dtype,
      sharding=demonstrations.sharding,
    )
    for shape in _smaller(demonstrations.shape, self._layout):
      with self._layout.activate():
        try:
          program.check(params, like(shape))
        except OutOfMemory:
          continue
      contexts, *rows, _ = [
        new if new < old else None
        for new, old in zip(shape, demonstrations.shape, strict=True)
      ]
      is_shorter = shape[-1] < demonstrations.shape[-1]
      has_fewer = is_shorter or any(rows)
      return Fitting(
        contexts=contexts,
        demonstrations=shape[-1] if is_shorter else None,
        num_demonstrations=shape[1] if rows and has_fewer else None,
      )
    return None

  @functools.cached_property
  def _encode(self) -> Program:
    return Program(self._problem.encode, "encoding demonstrations")

  @functools.cached_property
  def _write_encoded(self) -> Program:
    return Program(self._problem.write_encoded, "writing an adapter")


def _smaller(
  shape: tuple[int, ...], layout: Layout
) -> Iterator[tuple[int, ...]]:
  """With half of the contexts, a quarter and so on; then of the rows [C, N, S] of
  each, then of their tokens.
  """
  contexts, *before, tokens = shape
  while (fewer := layout.padded(max(1, contexts // 2))) < contexts:
    contexts = fewer
    yield (contexts, *before, tokens)
  while before and before[0] > 1:
    before[0] //= 2
    yield (contexts, *before, tokens)
  while tokens > 1:
    tokens //= 2
    yield (contexts, *before, tokens)
