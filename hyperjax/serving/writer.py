"""Adapters from examples: what a problem writes, compiled once for each shape."""

import functools
from typing import Any

import jax

from hyperjax.adapters import Adapters
from hyperjax.sharding import Layout


class Writer:
  """Writes the adapters of batches of contexts on a mesh.

  A hypermodel writes them from what it reads; of a problem that trains adapters
  themselves they are the trained ones, and of a T5 alone there are none.
  """

  def __init__(self, problem: Any, layout: Layout):
    self._problem, self._layout = problem, layout
    self._write = jax.jit(problem.write)

  def __call__(self, params: Any, demonstrations: Any) -> Adapters:
    """Arrays [L, C or 1, ...] on the mesh, from ids [C, S] or [C, N, S]."""
    with self._layout.activate():
      return self._write(params, demonstrations)

  def encode(self, params: Any, demonstrations: Any) -> Any:
    """A hypermodel's encoder alone, as `HyperTuning.encode`."""
    with self._layout.activate():
      return self._encode(params, demonstrations)

  def write_encoded(
    self, params: Any, encoded_CSD: Any, mask_CS: Any
  ) -> Adapters:
    """The adapters of each context, from what `encode` gave of it."""
    with self._layout.activate():
      return self._write_encoded(params, encoded_CSD, mask_CS)

  @functools.cached_property
  def _encode(self) -> Any:
    return jax.jit(self._problem.encode)

  @functools.cached_property
  def _write_encoded(self) -> Any:
    return jax.jit(self._problem.write_encoded)
