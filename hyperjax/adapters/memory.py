"""Memory: what an encoder gave of the demonstrations, for cross-attention to read."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hyperjax import checks, sharding
from hyperjax.adapters import arrays, spec

_NO_WEIGHT = "a memory is no part of any weight, so it cannot be merged"


@struct.dataclass
class Memory(spec.Node):
  """Encoder states that the decoder's cross-attention sees beside the input's.

  As HINT fuses an instruction with the input (Ivison et al., 2023): in each layer
  the T5's own projections make keys and values of them, under whatever adapters
  these have. A position of nothing but zeros is none: nothing attends to it.
  """

  states: Any  # [1, C or 1, M, D]: one for all layers

  neutral: ClassVar = {"states": 0}

  def __call__(self, own_CMHK: jax.Array, rows_BSHK: jax.Array) -> jax.Array:
    """Keys, or values, of its positions in front of those of each row's input."""
    own_BMHK = arrays.per_row(own_CMHK, len(rows_BSHK))
    return jnp.concatenate([own_BMHK, rows_BSHK], axis=1)

  @property
  def length(self) -> int:
    return self.states.shape[2]

  def hidden(self, rows: int) -> jax.Array:
    """What the logits of its positions get, [B, M]."""
    is_there_CM = (self.states[0] != 0).any(axis=-1)
    # Below what padding gets, or a row of nothing but padding would see them.
    return arrays.per_row(jnp.where(is_there_CM, 0.0, 2 * spec.MASKED), rows)

  def flops(self, positions: int, config: spec.Backbone) -> int:
    """In each layer a product with each key, and one with each value."""
    joined = config.num_heads * config.head_dim
    each = 4 * positions * self.length * joined
    return each * config.num_decoder_layers

  def context_flops(self, config: spec.Backbone) -> int:
    """In each layer its keys and its values."""
    joined = config.num_heads * config.head_dim
    each = 4 * self.length * config.emb_dim * joined
    return each * config.num_decoder_layers

  @classmethod
  def mean(cls, given: Sequence[Any], weights: Sequence[float]) -> Self:
    """All side by side, but for those of weight 0: they are of other tokens.

    Attention weighs positions by what is asked, so no further weight is given.
    """
    dtype = arrays.common_dtype([own.states for own in given])
    states = [
      own.states.astype(dtype) * np.asarray(weight != 0, dtype)
      for own, weight in zip(given, weights, strict=True)
    ]
    return cls(np.concatenate(states, axis=2))

  def cut(self, num_slots: int) -> tuple[Any, float, float]:
    """The last positions that there are: what was read first falls out."""
    kept = np.zeros(
      (*self.states.shape[:2], num_slots, self.states.shape[3]),
      self.states.dtype,
    )
    lost = total = 0.0
    for i, own_MD in enumerate(self.states[0]):
      there_ND = own_MD[(own_MD != 0).any(axis=-1)]
      first = max(0, len(there_ND) - num_slots)
      kept[0, i, : len(there_ND) - first] = there_ND[first:]
      squares_N = (there_ND.astype(np.float64) ** 2).sum(axis=-1)
      lost += float(squares_N[:first].sum())
      total += float(squares_N.sum())
    return Memory(kept), lost, total

  def distance(self, other: Any) -> float:
    """Position by position, those of zeros left out."""
    length = max(self.length, other.length)
    own, its = (x.cut(length)[0] for x in (self, other))
    return spec.Node.distance(own, its)

  def kernel(self, place: str) -> str:
    del place
    raise ValueError(_NO_WEIGHT)


@dataclasses.dataclass(frozen=True)
class MemorySpec(spec.Spec):
  """The encoder's states of the demonstrations, `length` positions at most.

  A hypermodel adds to each state what its head makes of it, nothing at first: then
  the decoder reads the demonstrations beside the input as the encoder gave them. It
  has no slots. Trained directly, they are drawn by `stddev`.
  """

  length: checks.Length
  stddev: checks.Positive = 1.0

  @property
  def not_exported(self) -> Mapping[str, str]:
    return {
      "peft": "PEFT knows no states that only a T5's cross-attention reads",
      "hf": _NO_WEIGHT,
      "orbax": _NO_WEIGHT,
      "ct2": _NO_WEIGHT,
      "gguf": "llama.cpp's adapters are LoRA",
    }

  @property
  def label(self) -> str:
    return f"memory of {self.length}"

  @property
  def num_slots(self) -> int:
    return 0

  @property
  def most_read(self) -> int:
    return self.length

  def mean_of(
    self, others: Sequence[spec.Spec], config: spec.Backbone
  ) -> spec.Spec:
    """Their positions side by side."""
    length = self.length
    for other in others:
      if not isinstance(other, MemorySpec):
        raise ValueError(f"{self} and {other} have no mean")
      length += other.length
    return dataclasses.replace(self, length=length)

  def leaves(self, config: spec.Backbone) -> spec.Adapters:
    shape = (1, 1, self.length, config.emb_dim)
    axes = (
      sharding.LAYERS,
      sharding.BATCH,
      sharding.LENGTH,
      sharding.EMBED,
    )
    return spec.assemble(
      {"memory": Memory(spec.Leaf(shape, axes, self.stddev))}
    )
