"""LoRA: low-rank updates of projections."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self

import jax
import numpy as np
from flax import struct

from hyperjax import checks, sharding
from hyperjax.adapters import spec

ATTENTION_PROJECTIONS = ("query", "key", "value", "out")
MLP_PROJECTIONS = ("wi", "wi_0", "wi_1", "wo")
_PROJECTIONS = ATTENTION_PROJECTIONS + MLP_PROJECTIONS


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

  def flops(self, positions: int) -> int:
    """Two thin products."""
    return 2 * positions * (self.down.size + self.up.size)

  @classmethod
  def mean(cls, given: Sequence[Any], weights: Sequence[float]) -> Self:
    """Factors side by side, the weights inside `up`, so that ranks add up."""
    dtype = spec.common_dtype([own.up for own in given])
    # Widened first: a product with a weight must not round to fewer bits.
    ups = [
      spec.weighted([own.up.astype(dtype)], [weight])
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
    return spec.ratio(difference, _norm(self.down, self.up))

  def kernel(self, place: str) -> str:
    return place

  def merged(self, kernel: np.ndarray) -> np.ndarray:
    update = self.down.astype(np.float32) @ self.up.astype(np.float32)
    return kernel.astype(np.float32) + update

  def peft(self, module: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """PEFT multiplies by alpha / rank; the scale is inside `up`: alpha = rank."""
    rank = self.down.shape[-1]
    settings = {
      "peft_type": "LORA",
      "r": rank,
      "lora_alpha": rank,
      "use_rslora": False,
      "use_dora": False,
      "bias": "none",
      "lora_dropout": 0.0,
      "target_modules": [module],
    }
    return settings, {"lora_A.weight": self.down.T, "lora_B.weight": self.up.T}


@dataclasses.dataclass(frozen=True)
class LoraSpec(spec.Spec):
  """Low-rank updates of projections, scaled by `alpha / rank`; a slot a rank.

  `up` starts at zero, so that an untrained hypermodel leaves the backbone as
  it is. Feed-forward projections are taken at every layer once named.
  """

  rank: checks.Size
  alpha: Annotated[float, checks.Number(above=0)] = 16.0
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

  def of_mean(self, count: int) -> "LoraSpec":
    """The scale of an update, alpha over rank, stays."""
    return dataclasses.replace(
      self, rank=self.rank * count, alpha=self.alpha * count
    )

  def leaves(self, config: spec.Backbone) -> spec.Adapters:
    joined = config.num_heads * config.head_dim
    embed = (config.emb_dim, sharding.EMBED)
    heads = (joined, sharding.JOINED_KV)
    mlp = (config.mlp_dim, sharding.MLP)
    ends = dict.fromkeys(("query", "key", "value"), (embed, heads))
    ends |= {"out": (heads, embed), "wo": (mlp, embed)}
    ends |= dict.fromkeys(("wi", "wi_0", "wi_1"), (embed, mlp))
    mlp_names = _mlp_projections(config)
    missing = set(self.projections) & set(MLP_PROJECTIONS) - set(mlp_names)
    if missing:
      raise ValueError(
        f"LoraSpec.projections names {', '.join(sorted(missing))}, but a "
        f"feed-forward of {'/'.join(config.mlp_activations)} has only "
        f"{', '.join(mlp_names)}"
      )
    nodes = {}
    for name in self.projections:
      is_mlp = name in MLP_PROJECTIONS
      for site in spec.MLP_SITES if is_mlp else self.sites:
        layers = spec.num_layers(config, site)
        nodes[f"{site}.{name}"] = self._lora(layers, *ends[name])
    return spec.assemble(nodes)

  def _lora(self, num_layers: int, fan_in, fan_out) -> Lora:
    return Lora(
      down=spec.Leaf(
        (num_layers, 1, fan_in[0], self.rank),
        (sharding.LAYERS, sharding.BATCH, fan_in[1], sharding.SLOTS),
        1 / math.sqrt(fan_in[0]),
      ),
      up=spec.Leaf(
        (num_layers, 1, self.rank, fan_out[0]),
        (sharding.LAYERS, sharding.BATCH, sharding.SLOTS, fan_out[1]),
        0.0,
        self.alpha / self.rank,
      ),
    )


def _norm(down: np.ndarray, up: np.ndarray) -> float:
  """Of `down @ up`, which is never made, in all layers."""
  inner = np.linalg.qr(down.astype(np.float64)).R
  outer = np.linalg.qr(up.astype(np.float64).swapaxes(-1, -2)).R
  return float(np.linalg.norm(inner @ outer.swapaxes(-1, -2)))


def _mlp_projections(config: spec.Backbone) -> tuple[str, ...]:
  if len(config.mlp_activations) == 1:
    return ("wi", "wo")
  return ("wi_0", "wi_1", "wo")
