"""A trace of some steps of a run, by JAX's profiler."""

import pathlib
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import jax

from hyperjax import paths


class Trace:
  """What devices and host do in some steps, for XProf and TensorBoard.

  Of the steps from one on before another; without them there is no trace. It lies in
  "plugins/profile" of the folder.
  """

  def __init__(
    self, steps: Sequence[int] | None = None, folder: pathlib.Path | None = None
  ):
    self._steps, self._folder = steps or (0, 0), folder
    self._local = self._folder  # of this machine
    self._is_on = False

  def step(self, number: int, update: Callable[..., Any], *given: Any) -> Any:
    """What an update gives that comes after `number` others.

    A run may go on among the steps that are traced.
    """
    start, stop = self._steps
    if not start <= number < stop:
      return update(*given)
    if not self._is_on:
      self._local = self._folder
      if paths.is_bucket(self._folder):
        self._local = pathlib.Path(tempfile.mkdtemp(prefix="hyperjax-"))
      jax.profiler.start_trace(str(self._local))
      self._is_on = True
    with jax.profiler.StepTraceAnnotation("train", step_num=number):
      found = update(*given)
    if number + 1 == stop:
      jax.block_until_ready(found)
      self.__exit__()
    return found

  def __enter__(self) -> "Trace":
    return self

  def __exit__(self, *_: object) -> None:
    """Writes what there is of it."""
    if self._is_on:
      jax.profiler.stop_trace()
      self._is_on = False
      if (
        self._folder is not None
        and self._local is not None
        and self._local is not self._folder
      ):
        for name in paths.listing(self._local):
          paths.replace(self._folder / name, (self._local / name).read_bytes())
        shutil.rmtree(self._local, ignore_errors=True)


NO_TRACE = Trace()
