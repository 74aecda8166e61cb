"""LoRA: low-rank updates of projections."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

import jax
import numpy as np
from flax import struct

from hyperjax import checks, sharding
from hyperjax.adapters import arrays, spec

ATTENTION_PROJECTIONS = ("query", "key", "value", "out")
MLP_PROJECTIONS = ("wi", "wi_0", "wi_1", "wo")
_PROJECTIONS = ATTENTION_PROJECTIONS + MLP_PROJECTIONS
# Every place that a LoRA can stand at, in the order of the T5's arrays.
PLACES = tuple(
  f"{site}.{name}"
  for sites, names in (
    (spec.ATTENTION_SITES, ATTENTION_PROJECTIONS),
    (spec.MLP_SITES, MLP_PROJECTIONS),
  )
  for site in sites
  for name in names
)


@struct.dataclass
class Lora(spec.Node):
  """A low-rank update of one projection (Hu et al., 2021).

  The scale is already inside `up`. The update is the product, which many factors
  share: a mean of factors would be no mean of updates, nor their distance one.
  """

  down: Any  # [*L, C or 1, in, R]
  up: Any  # [*L, C or 1, R, out]

  neutral: ClassVar = {"down": 0, "up": 0}

  def __call__(self, x_BTD: jax.Array) -> jax.Array:
    """Rows of a context are contiguous, so they share its matrices unexpanded."""
    contexts, width = len(self.down), x_BTD.shape[-1]
    x_CND = x_BTD.reshape(contexts, -1, width)
    y_CNF = x_CND @ self.down.astype(x_BTD.dtype) @ self.up.astype(x_BTD.dtype)
    return y_CNF.reshape(*x_BTD.shape[:-1], -1)

  def flops(self, positions: int, config: spec.Backbone) -> int:
    """Two thin products."""
    del config
    return 2 * positions * (self.down.size + self.up.size)

  @classmethod
  def mean(cls, given: Sequence[Any], weights: Sequence[float]) -> Self:
    """Factors side by side, the weights inside `up`, so that ranks add up."""
    dtype = arrays.common_dtype([own.up for own in given])
    # Widened first: a product with a weight must not round to fewer bits.
    ups = [
      arrays.weighted([own.up.astype(dtype)], [weight])
      for own, weight in zip(given, weights, strict=True)
    ]
    return cls(
      down=np.concatenate([own.down.astype(dtype) for own in given], axis=-1),
      up=np.concatenate(ups, axis=-2),
    )

  def cut(self, num_slots: int) -> tuple[Any, float, float]:
    """The largest singular values (Eckart and Young, 1936).

    Slots beyond them, of which a small kernel has fewer, are zero.
    """
    # In float64, and without making the product.
    left, inner = np.linalg.qr(self.down.astype(np.float64))
    right, outer = np.linalg.qr(self.up.astype(np.float64).swapaxes(-1, -2))
    u, values, v = np.linalg.svd(
      inner @ outer.swapaxes(-1, -2), full_matrices=False
    )
    roots = np.sqrt(values[..., :num_slots])
    down = (left @ u)[..., :num_slots] * roots[..., None, :]
    up = roots[..., None] * (v @ right.swapaxes(-1, -2))[..., :num_slots, :]
    lacking = [(0, 0)] * (down.ndim - 1) + [(0, num_slots - down.shape[-1])]
    down = np.pad(down, lacking)
    up = np.pad(up, [*lacking[:-2], lacking[-1], (0, 0)])
    lost = float(np.sum(values[..., num_slots:] ** 2))
    total = float(np.sum(values**2))
    own = Lora(down.astype(self.down.dtype), up.astype(self.up.dtype))
    return own, lost, total

  def distance(self, other: Any) -> float:
    difference = _norm(
      np.concatenate([self.down, other.down], axis=-1),
      np.concatenate([self.up, -other.up], axis=-2),
    )
    return arrays.ratio(difference, _norm(self.down, self.up))

  def kernel(self, place: str) -> str:
    return place

  def merged(self, kernel: np.ndarray) -> np.ndarray:
    update = self.down.astype(np.float32) @ self.up.astype(np.float32)
    return kernel.astype(np.float32) + update

  def peft(self, module: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """PEFT multiplies by alpha / rank; the scale is inside `up`: alpha = rank.

    Ranks of nothing but zeros only fill a layer up to those beside it.
    """
    used = (self.down != 0).any(axis=0) | (self.up != 0).any(axis=1)
    rank = int(np.count_nonzero(used))
    settings: dict[str, Any] = {
      "peft_type": "LORA",
      "use_rslora": False,
      "use_dora": False,
      "bias": "none",
      "lora_dropout": 0.0,
      "target_modules": [module] if rank else [],
      "rank_pattern": {module: rank} if rank else {},
      "alpha_pattern": {module: rank} if rank else {},
    }
    arrays = {
      "lora_A.weight": self.down[:, used].T,
      "lora_B.weight": self.up[used].T,
    }
    return settings, arrays if rank else {}


@dataclasses.dataclass(frozen=True)
class LoraSpec(spec.Spec):
  """Low-rank updates of projections, scaled by `alpha / rank`; a slot a rank.

  `up` starts at zero, so that an untrained hypermodel leaves the backbone as
  it is. Feed-forward projections are taken at every layer once named.
  """

  rank: checks.Size
  alpha: checks.Positive = 16.0
  projections: Annotated[Sequence[str], checks.Some(_PROJECTIONS, 1)] = (
    "query",
    "value",
  )
  sites: spec.Sites = spec.ATTENTION_SITES

  @property
  def label(self) -> str:
    return f"LoRA of rank {self.rank}"

  @property
  def num_slots(self) -> int:
    return self.rank

  def mean_of(
    self, others: Sequence[spec.Spec], config: spec.Backbone
  ) -> spec.Spec:
    """The scale of an update, alpha over rank, stays."""
    if any(other != self for other in others):
      return _mean_of([self, *others], config)
    count = 1 + len(others)
    return dataclasses.replace(
      self, rank=self.rank * count, alpha=self.alpha * count
    )

  def leaves(self, config: spec.Backbone) -> spec.Adapters:
    scale = self.alpha / self.rank
    return spec.assemble(
      {
        place: _lora(config, place, self.rank, scale)
        for place in self.places(config)
      }
    )

  def places(self, config: spec.Backbone) -> list[str]:
    """Where they stand, in the order of the fields."""
    _check_mlp(config, self.projections, "LoraSpec.projections")
    return [
      f"{site}.{name}"
      for name in self.projections
      for site in (spec.MLP_SITES if name in MLP_PROJECTIONS else self.sites)
    ]


@dataclasses.dataclass(frozen=True)
class PlacedLoraSpec(spec.Spec):
  """Low-rank updates at places of their own, each of its own rank.

  As other programs train them, such as only what cross-attention reads, or all
  projections of the decoder; layers of a place share its rank, and those that
  have fewer are filled up with zeros. Their scales are inside `up`.
  """

  ranks: Annotated[
    Mapping[str, int], checks.Entries(PLACES, checks.rule_of(checks.Size))
  ]

  def __post_init__(self):
    super().__post_init__()
    if not self.ranks:
      raise ValueError(
        "PlacedLoraSpec.ranks must have at least one place, of "
        f"{', '.join(PLACES)}"
      )
    # In one order, so that equal ones train, hash and print alike.
    ranks = {
      place: self.ranks[place] for place in PLACES if place in self.ranks
    }
    object.__setattr__(self, "ranks", ranks)

  def __hash__(self) -> int:
    return hash(tuple(self.ranks.items()))

  @property
  def label(self) -> str:
    low, high = min(self.ranks.values()), max(self.ranks.values())
    ranks = f"rank {low}" if low == high else f"ranks {low} to {high}"
    return f"LoRA of {ranks} at {len(self.ranks)} places"

  @property
  def num_slots(self) -> int:
    return max(self.ranks.values())

  def mean_of(
    self, others: Sequence[spec.Spec], config: spec.Backbone
  ) -> spec.Spec:
    return _mean_of([self, *others], config)

  def leaves(self, config: spec.Backbone) -> spec.Adapters:
    names = [place.rpartition(".")[2] for place in self.ranks]
    _check_mlp(config, names, "PlacedLoraSpec.ranks")
    return spec.assemble(
      {
        place: _lora(config, place, rank, 1.0)
        for place, rank in self.ranks.items()
      }
    )


def lora_spec(
  ranks: Mapping[str, int], scale: float | None
) -> LoraSpec | PlacedLoraSpec:
  """What describes LoRA of these ranks by place.

  Args:
    ranks: the largest of any layer, by place.
    scale: of all updates; None where they differ.
  """
  names = [
    name for name in _PROJECTIONS if any(x.endswith(f".{name}") for x in ranks)
  ]
  sites = [
    x for x in spec.ATTENTION_SITES if any(y.startswith(x) for y in ranks)
  ]
  if scale is not None and scale > 0 and len(set(ranks.values())) == 1:
    [rank] = set(ranks.values())
    sites = tuple(sites or spec.ATTENTION_SITES)
    whole = LoraSpec(rank, scale * rank, tuple(names), sites)
    places = {
      f"{site}.{name}"
      for name in names
      for site in (spec.MLP_SITES if name in MLP_PROJECTIONS else sites)
    }
    if places == ranks.keys():
      return whole
  return PlacedLoraSpec(ranks)


def _ranks(own: spec.Spec, config: spec.Backbone) -> Mapping[str, int]:
  if isinstance(own, PlacedLoraSpec):
    return own.ranks
  if isinstance(own, LoraSpec):
    return dict.fromkeys(own.places(config), own.rank)
  raise ValueError(f"{own.label} is no LoRA")


def _mean_of(
  given: Sequence[spec.Spec], config: spec.Backbone
) -> PlacedLoraSpec:
  """Ranks add up, place by place."""
  total: dict[str, int] = {}
  for own in given:
    for place, rank in _ranks(own, config).items():
      total[place] = total.get(place, 0) + rank
  return PlacedLoraSpec(total)


def _lora(config: spec.Backbone, place: str, rank: int, scale: float) -> Lora:
  site, _, name = place.rpartition(".")
  embed = (config.emb_dim, sharding.EMBED)
  heads = (config.num_heads * config.head_dim, sharding.JOINED_KV)
  mlp = (config.mlp_dim, sharding.MLP)
  fan_in, fan_out = embed, heads if name in ATTENTION_PROJECTIONS else mlp
  if name in ("out", "wo"):
    fan_in, fan_out = fan_out, fan_in
  num_layers = spec.num_layers(config, site)
  return Lora(
    down=spec.Leaf(
      (num_layers, 1, fan_in[0], rank),
      (sharding.LAYERS, sharding.BATCH, fan_in[1], sharding.SLOTS),
      1 / math.sqrt(fan_in[0]),
    ),
    up=spec.Leaf(
      (num_layers, 1, rank, fan_out[0]),
      (sharding.LAYERS, sharding.BATCH, sharding.SLOTS, fan_out[1]),
      0.0,
      scale,
    ),
  )


def _check_mlp(
  config: spec.Backbone, names: Sequence[str], setting: str
) -> None:
  """Refuses feed-forward projections that a T5 does not have."""
  own = ("wi", "wo")
  if len(config.mlp_activations) > 1:
    own = ("wi_0", "wi_1", "wo")
  missing = set(names) & set(MLP_PROJECTIONS) - set(own)
  if missing:
    raise ValueError(
      f"{setting} names {', '.join(sorted(missing))}, but a feed-forward of "
      f"{'/'.join(config.mlp_activations)} has only {', '.join(own)}"
    )


def _norm(down: np.ndarray, up: np.ndarray) -> float:
  """Of `down @ up`, which is never made, in all layers."""
  inner = np.linalg.qr(down.astype(np.float64)).R
  outer = np.linalg.qr(up.astype(np.float64).swapaxes(-1, -2)).R
  return float(np.linalg.norm(inner @ outer.swapaxes(-1, -2)))
