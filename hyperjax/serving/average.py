"""Weighted means of adapters.

Prefixes: the mean of keys and of values, each for itself. LoRA: the mean of the
updates `down @ up`, exactly. The mean of the factors would be another thing, since
the product of means is no mean of products; so the factors are put side by side,
the weights inside `up`, and ranks add up.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperjax import adapters
from hyperjax.artifacts import adapter_folder
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.serving import answering_t5


def average(
  given: Sequence[Adapter],
  weights: Sequence[float] | None = None,
  names: Sequence[Any] | None = None,
) -> Adapter:
  """The mean of adapters by `weights`, which are scaled to a sum of 1.

  Args:
    given: of one kind, spec and backbone.
    weights: one for each; by default all equal.
    names: of each, for messages.

  Raises:
    ValueError: adapters or weights do not allow it.
  """
  if len(given) < 2:
    raise ValueError(f"a mean takes at least two adapters, got {len(given)}")
  shares = _shares(len(given), weights)
  infos = [adapter.info for adapter in given]
  names = names or [f"adapter {i}" for i in range(1, len(infos) + 1)]
  answering_t5.check_alike(infos, names)
  for name, info in zip(names, infos, strict=True):
    for field in ("spec", "tokenizer", "instruction"):
      one, other = getattr(infos[0], field), getattr(info, field)
      if one != other:
        raise ValueError(
          f"{names[0]} and {name} differ in their {field}: {one} and {other}"
        )
  spec = infos[0].spec
  leaves = [adapters.path_leaves(adapter.arrays) for adapter in given]
  match spec:
    case adapters.PrefixSpec():
      found = {path: _mean(path, leaves, shares) for path in leaves[0]}
    case adapters.LoraSpec():
      found = {path: _side_by_side(path, leaves, shares) for path in leaves[0]}
      # The scale of an update, alpha over rank, stays.
      count = len(given)
      spec = dataclasses.replace(
        spec, rank=spec.rank * count, alpha=spec.alpha * count
      )
    case _:
      raise ValueError(f"there is no mean of {type(spec).__name__} adapters")
  info = dataclasses.replace(
    infos[0], spec=spec, origin={"average": _origins(given, shares)}
  )
  return Adapter(info, adapter_folder.of_paths(info, found))


def interpolate(
  first: Adapter,
  second: Adapter,
  weight: float,
  names: Sequence[Any] | None = None,
) -> Adapter:
  """`1 - weight` of the first adapter and `weight` of the second.

  Raises:
    ValueError: as for `average`, or the weight is not from 0 to 1.
  """
  if not 0 <= weight <= 1:
    raise ValueError(f"--weight must be from 0 to 1, got {weight}")
  return average([first, second], [1 - weight, weight], names)


def truncate(
  adapter: Adapter, spec: adapters.LoraSpec
) -> tuple[Adapter, float]:
  """The nearest LoRA of the lower rank that `spec` has, and what it leaves out.

  The best for each update by itself (Eckart and Young, 1936). Left out is the
  norm of the difference over that of the update, of all updates together.
  """
  leaves = adapters.path_leaves(adapter.arrays)
  found: dict[str, np.ndarray] = {}
  lost = total = 0.0
  for path, down_LCDR in leaves.items():
    if not path.endswith(".down"):
      continue
    up_path = path.removesuffix("down") + "up"
    left, values, right = _svd(down_LCDR, leaves[up_path])
    lost += float(np.sum(values[..., spec.rank :] ** 2))
    total += float(np.sum(values**2))
    roots = np.sqrt(values[..., : spec.rank])
    down = left[..., : spec.rank] * roots[..., None, :]
    up = roots[..., None] * right[..., : spec.rank, :]
    found[path] = down.astype(down_LCDR.dtype)
    found[up_path] = up.astype(leaves[up_path].dtype)
  info = dataclasses.replace(adapter.info, spec=spec)
  arrays = adapter_folder.of_paths(info, found)
  return Adapter(info, arrays), math.sqrt(lost / total) if total else 0.0


def _svd(down: np.ndarray, up: np.ndarray) -> tuple[Any, Any, Any]:
  """Of `down @ up` in float64, which is never made: [..., D, R], [..., R, F]."""
  left, inner = np.linalg.qr(down.astype(np.float64))
  right, outer = np.linalg.qr(up.astype(np.float64).swapaxes(-1, -2))
  u, values, v = np.linalg.svd(inner @ outer.swapaxes(-1, -2))
  return left @ u, values, v @ right.swapaxes(-1, -2)


def _shares(count: int, weights: Sequence[float] | None) -> list[float]:
  if weights is None:
    return [1 / count] * count
  if len(weights) != count:
    raise ValueError(
      f"--weights takes one for each of {count} adapters, got {len(weights)}"
    )
  if not all(math.isfinite(w) and w >= 0 for w in weights) or not any(weights):
    raise ValueError(
      "--weights must be finite, from 0 on and not all 0, got "
      f"{', '.join(map(str, weights))}"
    )
  return [weight / sum(weights) for weight in weights]


def _mean(path: str, leaves: Any, shares: Sequence[float]) -> np.ndarray:
  total = sum(
    np.float32(share) * own[path].astype(np.float32)
    for own, share in zip(leaves, shares, strict=True)
  )
  return np.asarray(total).astype(leaves[0][path].dtype)


def _side_by_side(path: str, leaves: Any, shares: Sequence[float]) -> Any:
  if path.endswith(".down"):
    return np.concatenate([own[path] for own in leaves], axis=-1)
  weighted = [
    (np.float32(share) * own[path].astype(np.float32)).astype(own[path].dtype)
    for own, share in zip(leaves, shares, strict=True)
  ]
  return np.concatenate(weighted, axis=-2)


def _origins(
  given: Sequence[Adapter], shares: Sequence[float]
) -> list[dict[str, Any]]:
  return [
    {
      "weight": share,
      "arrays_sha256": adapter.identity,
      "origin": adapter.info.origin,
    }
    for adapter, share in zip(given, shares, strict=True)
  ]
