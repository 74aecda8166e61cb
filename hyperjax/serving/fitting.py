"""Which part of a batch fits where the whole does not: found by compiling it."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from hyperjax import adapters
from hyperjax.memory.answer import Fitting, OutOfMemory
from hyperjax.memory.program import Program
from hyperjax.models import forward
from hyperjax.sharding import Layout

_LEAST_LENGTH = 16  # tokens that rows are shortened to at least


@dataclasses.dataclass(frozen=True)
class Asked:
  """What a program is asked of a batch of rows."""

  # "setting", and arrays of its rows: [B, ...] or [B * A, T], and adapters.
  batch: Mapping[str, Any]
  others: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  max_length: int | None = None  # of what is decoded

  @property
  def named(self) -> dict[str, Any]:
    """As keywords of the program."""
    found = {**self.batch, **self.others}
    if self.max_length is not None:
      found["max_length"] = self.max_length
    return found

  @property
  def num_rows(self) -> int:
    return len(self.batch["setting"].tokens)


def find(program: Program, asked: Asked, layout: Layout) -> Fitting | None:
  """The most rows that fit, by halves; if not even the fewest do, shorter ones.

  None where nothing was found. Compiles a program for each that is tried.
  """
  for smaller in _smaller(asked, layout):
    with layout.activate():
      try:
        program.check(**smaller.named)
      except OutOfMemory:
        continue
    inputs, targets = [
      new if new < old else None
      for new, old in zip(_lengths(smaller), _lengths(asked), strict=True)
    ]
    return Fitting(smaller.num_rows, inputs, targets)
  return None


def _smaller(asked: Asked, layout: Layout) -> Iterator[Asked]:
  """Half of the contexts, a quarter and so on; then of each one's rows, tokens.

  Rows that share an adapter, or have none, are a context each.
  """
  own = adapters.num_contexts(asked.batch["setting"].adapters) or 1
  contexts = own if own > 1 else asked.num_rows
  rows = asked.num_rows // contexts
  while (fewer := layout.padded(max(1, contexts // 2))) < contexts:
    contexts = fewer
    yield _cut(asked, contexts, contexts * rows)
  while rows > 1:
    rows //= 2
    yield _cut(asked, contexts, contexts * rows)
  inputs, targets = _lengths(asked)
  while inputs > _LEAST_LENGTH:
    inputs = max(_LEAST_LENGTH, inputs // 2)
    yield _cut(asked, contexts, contexts * rows, inputs)
  while targets > 1:
    targets //= 2
    yield _cut(asked, contexts, contexts * rows, inputs, targets)


def _lengths(asked: Asked) -> tuple[int, int]:
  """Tokens of inputs and of targets."""
  inputs, targets = asked.batch["setting"].tokens.shape[1], asked.max_length
  if targets is None:
    targets = asked.batch["targets_BT"].shape[1]
  return inputs, targets


def _cut(
  asked: Asked,
  contexts: int,
  rows: int,
  inputs: int | None = None,
  targets: int | None = None,
) -> Asked:
  """What stands for fewer contexts, rows and, where they are given, tokens."""
  before = asked.num_rows

  def of_adapters(tree: Any) -> Any:
    return jax.tree.map(
      lambda leaf: _like(leaf, 1, min(contexts, leaf.shape[1])), tree
    )

  def of_rows(x: Any, length: int | None) -> Any:
    fewer = _like(x, 0, len(x) * rows // before)
    return fewer if length is None else _like(fewer, 1, length)

  batch = dict(asked.batch)
  setting: forward.Setting = batch["setting"]
  batch["setting"] = setting._replace(
    tokens=of_rows(setting.tokens, inputs),
    adapters=of_adapters(setting.adapters),
  )
  if "other" in batch:
    batch["other"] = of_adapters(batch["other"])
  if batch.get("numbers_B") is not None:
    batch["numbers_B"] = of_rows(batch["numbers_B"], None)
  if "targets_BT" in batch:
    batch["targets_BT"] = of_rows(batch["targets_BT"], targets)
  most = asked.max_length
  return Asked(batch, asked.others, most and (targets or most))


def _like(x: Any, axis: int, size: int) -> jax.ShapeDtypeStruct:
  """What stands for an array with another extent, in the same place."""
  shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
  # An array that is committed to no place has none, as one of numpy.
  place = getattr(x, "sharding", None)
  if not getattr(x, "committed", True):
    place = None
  return jax.ShapeDtypeStruct(shape, x.dtype, sharding=place)
