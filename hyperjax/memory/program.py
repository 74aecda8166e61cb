"""Functions compiled once for each shape, and held against memory before they run."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from hyperjax.memory import capacity, scratch
from hyperjax.memory.answer import OutOfMemory, asked_for, found


class Program:
  """A function as `jax.jit` has it, which answers `OutOfMemory` where it is too large.

  A program is compiled for the shapes, types and places of its arguments, which
  are arrays or stand for them (`jax.ShapeDtypeStruct`), when it is first called or
  checked. What it takes is known then, and what would not fit does not run.
  """

  def __init__(
    self,
    function: Callable[..., Any],
    what: str,
    static_argnames: Iterable[str] = (),
    **options: Any,
  ):
    """Describes programs, none of which is compiled yet.

    Args:
      function: is compiled.
      what: it does, in words for messages.
      static_argnames: keywords that are no arrays.
      options: as of `jax.jit`.
    """
    self.what = what
    self._static = frozenset(static_argnames)
    self._are_places_known = "in_shardings" in options
    self._jitted = jax.jit(
      function, static_argnames=tuple(self._static), **options
    )
    self._compiled: dict[Hashable, Any] = {}
    self._fit: set[Hashable] = set()

  def __call__(self, *arrays: Any, **named: Any) -> Any:
    """What the function gives.

    Raises:
      OutOfMemory: it takes more than there is.
    """
    key, compiled = self._find(arrays, named)
    if key not in self._fit:
      self._check(compiled)
      self._fit.add(key)
    given = {k: x for k, x in named.items() if k not in self._static}
    with answering(self.what):
      return compiled(*arrays, **given)

  @property
  def num_compiled(self) -> int:
    """For how many shapes there is a program."""
    return len(self._compiled)

  def trace(self, *arrays: Any, **named: Any) -> jax.stages.Traced:
    """The function for such arguments, neither lowered nor compiled."""
    return self._jitted.trace(*arrays, **named)

  def check(
    self,
    *arrays: Any,
    is_placed: bool = True,
    beside: int = 0,
    **named: Any,
  ) -> int:
    """Bytes that it takes of a device, or of the host that devices share.

    Args:
      arrays: arguments, or what stands for them.
      is_placed: whether they are in memory already, and not counted.
      beside: bytes of a device for arguments that are not there yet, all the same.
      named: arguments by name.

    Raises:
      OutOfMemory: they are more than there are.
    """
    key, compiled = self._find(arrays, named)
    asked = self._check(compiled, is_placed, beside)
    # Not again when it is called, perhaps while what ran before still holds memory.
    self._fit.add(key)
    return asked

  def _find(self, arrays: Any, named: Any) -> tuple[Hashable, Any]:
    leaves, tree = jax.tree.flatten(
      (arrays, {k: x for k, x in named.items() if k not in self._static})
    )
    static = tuple(sorted((k, named[k]) for k in named.keys() & self._static))
    key = (tree, tuple(map(self._shape, leaves)), static)
    if key not in self._compiled:
      with answering(self.what):
        lowered = self._jitted.lower(*arrays, **named)
        self._compiled[key] = lowered.compile()
    return key, self._compiled[key]

  def _shape(self, leaf: Any) -> Hashable:
    if not hasattr(leaf, "dtype"):
      leaf = np.asarray(leaf)
    if self._are_places_known:
      return leaf.shape, leaf.dtype
    is_placed = getattr(leaf, "committed", True)
    place = getattr(leaf, "sharding", None) if is_placed else None
    return leaf.shape, leaf.dtype, place

  def _check(
    self, compiled: Any, is_placed: bool = True, beside: int = 0
  ) -> int:
    devices = _devices(compiled)
    asked = needed(compiled, is_placed) + beside
    if capacity.is_host(devices):
      asked = (asked + scratch.largest(compiled.as_text())) * len(devices)
    refuse(self.what, asked, devices)
    return asked


def needed(compiled: Any, is_placed: bool = True) -> int:
  """Bytes that a compiled program takes of each device while it runs.

  Args:
    compiled: as `jax.stages.Lowered.compile` gives it.
    is_placed: whether its arguments are there already, and not counted.
  """
  stats = compiled.memory_analysis()
  if stats is None:
    return 0  # a backend that does not tell
  total = stats.temp_size_in_bytes + stats.output_size_in_bytes
  total -= stats.alias_size_in_bytes
  return total if is_placed else total + stats.argument_size_in_bytes


def refuse(what: str, asked: int, devices: Any, advice: str = "") -> None:
  """Refuses what takes more of each device, or of their host, than there is.

  Raises:
    OutOfMemory: as it says.
  """
  available = capacity.available(devices)
  if available is not None and asked > available:
    raise OutOfMemory(what, asked, available, advice)


def refuse_held(what: str, held: int, devices: Any, advice: str = "") -> None:
  """As `refuse`, of arrays that are to be held on every one of `devices`."""
  asked = held * len(devices) if capacity.is_host(devices) else held
  refuse(what, asked, devices, advice)


def refuse_on_host(what: str, asked: int, advice: str = "") -> None:
  """As `refuse`, of numpy's arrays."""
  available = capacity.host()
  if available is not None and asked > available:
    raise OutOfMemory(what, asked, available, advice)


@contextmanager
def answering(what: str) -> Iterator[None]:
  """Within it, whatever lacks memory is answered as `OutOfMemory`.

  `what` is done, in words.
  """
  try:
    yield
  except OutOfMemory:
    raise
  except Exception as error:
    lacking = found(error)
    if lacking is None:
      raise
    raise OutOfMemory(what, asked_for(lacking), capacity.of(lacking)) from error


@contextmanager
def advising(what: str, advice: str) -> Iterator[None]:
  """As `answering`, saying `advice`."""
  try:
    with answering(what):
      yield
  except OutOfMemory as error:
    raise error.advised(advice) from error


def _devices(compiled: Any) -> list[Any]:
  """Of this process, those that a program runs on."""
  return compiled.runtime_executable().local_devices()
