"""Weighted means of adapters, by what they do: each kind has its own."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from hyperjax import adapters, checks
from hyperjax.artifacts import adapter_folder
from hyperjax.artifacts.adapter_folder import Adapter
from hyperjax.artifacts.run_record import TokenizerRef


def average(
  given: Sequence[Adapter],
  weights: Sequence[float] | None = None,
  names: Sequence[Any] | None = None,
) -> Adapter:
  """The mean of adapters by `weights`, which are scaled to a sum of 1.

  Args:
    given: of one backbone, and of one spec; LoRA may differ in ranks and
      places, memories in length.
    weights: one for each; by default all equal, as memories want them.
    names: of each, for messages.

  Raises:
    ValueError: adapters or weights do not allow it.
  """
  if len(given) < 2:
    raise ValueError(f"a mean takes at least two adapters, got {len(given)}")
  shares = _shares(len(given), weights)
  spec = given[0].info.spec
  if spec.keeps_read and max(shares) != min(shares):
    raise ValueError(
      f"{spec.label}: positions of memories are put side by side, and nothing "
      f"weighs them but attention: --weights must be equal, got {weights}"
    )
  return combined(given, shares, names)


def combined(
  given: Sequence[Adapter],
  weights: Sequence[float],
  names: Sequence[Any] | None = None,
) -> Adapter:
  """The mean by numbers of examples, of which memories have more positions.

  Raises:
    ValueError: as for `average`.
  """
  shares = _shares(len(given), weights)
  infos = [adapter.info for adapter in given]
  names = names or [f"adapter {i}" for i in range(1, len(infos) + 1)]
  for name, info in zip(names, infos, strict=True):
    _check_alike(infos[0], info, f"{names[0]} and {name}")
  first, *others = infos
  info = dataclasses.replace(
    first,
    spec=first.spec.mean_of([info.spec for info in others], first.config),
    # What is imported may say neither.
    tokenizer=_tokenizer(infos, names),
    lengths=next((x.lengths for x in infos if x.lengths), {}),
    origin={"average": _origins(given, shares)},
    check=None,
  )
  arrays = adapters.mean([adapter.arrays for adapter in given], shares)
  return Adapter(info, arrays)


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
  checks.rule_of(checks.Share).check("--weight", weight)
  spec = first.info.spec
  if spec.keeps_read:
    raise ValueError(
      f"{spec.label}: positions of memories are of other tokens each, so there is "
      "nothing between two; their mean has those of both (adapter average)"
    )
  return average([first, second], [1 - weight, weight], names)


def truncate(adapter: Adapter, spec: adapters.Spec) -> tuple[Adapter, float]:
  """The nearest adapter with the slots of `spec`, and what it leaves out.

  Left out is the norm of the difference over that of what the adapter does.
  """
  arrays, left_out = adapters.cut(
    adapter.arrays, spec.leaves(adapter.info.config)
  )
  info = dataclasses.replace(adapter.info, spec=spec, check=None)
  return Adapter(info, arrays), left_out


def _check_alike(
  one: adapter_folder.Info, other: adapter_folder.Info, names: str
) -> None:
  """Refuses what has no mean.

  Raises:
    ValueError: says in what they differ.
  """
  ours, theirs = (info.backbone.identity[:16] for info in (one, other))
  if ours != theirs:
    raise ValueError(f"{names} are of different backbones: {ours} and {theirs}")
  try:
    one.spec.mean_of([other.spec], one.config)
  except ValueError as error:
    is_kind = type(one.spec) is not type(other.spec)
    differ = "are of different kinds" if is_kind else "differ in their spec"
    raise ValueError(
      f"{names} {differ}: {one.spec} and {other.spec}"
    ) from error
  if one.instruction != other.instruction:
    raise ValueError(
      f"{names} differ in their instruction: {one.instruction} and "
      f"{other.instruction}"
    )


def _tokenizer(
  infos: Sequence[adapter_folder.Info], names: Sequence[Any]
) -> TokenizerRef | None:
  """The one that all name that name any, wherever it lies.

  Raises:
    ValueError: two name different ones.
  """
  known = [
    (name, info.tokenizer)
    for name, info in zip(names, infos, strict=True)
    if info.tokenizer
  ]
  for name, own in known[1:]:
    first, one = known[0]
    if (own.identity, own.name) != (one.identity, one.name):
      raise ValueError(
        f"{first} and {name} differ in their tokenizer: {one} and {own}"
      )
  return known[0][1] if known else None


def _shares(count: int, weights: Sequence[float] | None) -> list[float]:
  if weights is None:
    return [1 / count] * count
  if len(weights) != count:
    raise ValueError(
      f"--weights takes one for each of {count} adapters, got {len(weights)}"
    )
  for weight in weights:
    checks.rule_of(checks.Weight).check("--weights", weight)
  if not any(weights):
    raise ValueError(f"--weights must not all be 0, got {list(weights)}")
  return [weight / sum(weights) for weight in weights]


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
