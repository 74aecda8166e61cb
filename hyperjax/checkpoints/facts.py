"""What a checkpoint says besides arrays."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax import paths
from hyperjax.train_state import TrainState

ITEM = "facts"
PROMISE = "has_manifest"  # a fact of checkpoints that are written with one


@dataclasses.dataclass(frozen=True)
class Facts:
  """What a checkpoint says besides arrays; JSON values."""

  position: int  # contexts trained on
  pending: Mapping[str, Any]  # metrics of steps since the last line was written
  key: Sequence[int]  # of the state: raw key data
  figure: float | None = None  # of an evaluation, by which the best is kept
  figure_of: str | None = None  # its name, as `Kept.best_by` had it


def content(facts: Facts) -> dict[str, Any]:
  """The facts as they are written."""
  return {**dataclasses.asdict(facts), PROMISE: True}


def read(found: Mapping[str, Any], where: str) -> Facts:
  """The facts of what was written; an earlier version's say more.

  Raises:
    KeyError, TypeError: it is of another program.
    ValueError: no checkpoint says so of itself.
  """
  facts = Facts(
    found["position"],
    found["pending"],
    found["key"],
    found.get("figure"),
    found.get("figure_of"),
  )
  _check(facts, where)
  return facts


def peek(step_folder: pathlib.Path) -> dict[str, Any]:
  """The facts of a checkpoint whose files nobody has checked yet; {} if none."""
  try:
    found = json.loads((step_folder / ITEM / "metadata").read_bytes())
  except paths.StoreFailed:
    raise
  except (OSError, ValueError, RecursionError):
    return {}
  return found if isinstance(found, dict) else {}


def figure(step_folder: pathlib.Path, name: str) -> float | None:
  """The figure of this name that a checkpoint was saved with, if it was."""
  facts = peek(step_folder)
  found = facts.get("figure")
  if facts.get("figure_of") == name and isinstance(found, int | float):
    return float(found) if math.isfinite(found) else None
  return None


def key_data(key: jax.Array) -> list[int]:
  """A key as whole numbers, for `Facts`."""
  return [int(x) for x in jax.random.key_data(key)]


def placed(
  facts: Facts, step: int, abstract: TrainState, where: str
) -> tuple[jax.Array, jax.Array]:
  """The step and the key of a state, on its devices.

  Raises:
    ValueError: the key is of another kind.
  """
  key_data = np.asarray(facts.key, np.uint32)
  own = jax.eval_shape(jax.random.key_data, abstract.key).shape
  if key_data.shape != own:
    raise ValueError(
      f"{where}: key has {key_data.size} numbers, this run's {own}"
    )
  place = jax.jit(
    lambda: (jnp.int32(step), jax.random.wrap_key_data(jnp.asarray(key_data))),
    out_shardings=(abstract.step.sharding, abstract.key.sharding),
  )
  return place()


def _check(facts: Facts, where: str) -> None:
  """Refuses what no checkpoint says of itself."""
  if type(facts.position) is not int or facts.position < 0:
    raise ValueError(
      f"{where}: position must be a whole number, got {facts.position!r:.80}"
    )
  key = facts.key if isinstance(facts.key, list) else [None]
  if not key or any(type(x) is not int or not 0 <= x < 2**32 for x in key):
    raise ValueError(
      f"{where}: key must be whole numbers of 32 bits, got {facts.key!r:.80}"
    )
  pending: Any = facts.pending
  for name, pair in (pending if isinstance(pending, dict) else {"": 0}).items():
    numbers = pair if isinstance(pair, list) and len(pair) == 2 else [None]
    if any(type(x) not in (int, float) for x in numbers):
      raise ValueError(
        f"{where}: pending must be a sum and a weight by name, got {name!r:.80} "
        f"{pair!r:.80}"
      )
