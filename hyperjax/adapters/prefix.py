"""Soft prefixes: keys and values in front of an attention site's own."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hyperjax import checks, sharding
from hyperjax.adapters import arrays, spec

_NO_WEIGHT = "prefixes are no part of any weight, so they cannot be merged"


@struct.dataclass
class Prefix(spec.Node):
  """Keys and values put in front of a site's own (Li and Liang, 2021).

  They get no relative position bias and are visible from every position, but
  for those of a context whose prefix is shorter than the others'.
  """

  key: Any  # [*L, C or 1, P, H, K]
  value: Any  # [*L, C or 1, P, H, K]
  visible: Any = None  # bool [*L, C or 1, P]; None: all of them

  neutral: ClassVar = {"key": 0, "value": 0, "visible": False}

  def __call__(
    self, key_BSHK: jax.Array, value_BSHK: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Keys and values of one layer with the prefix in front.

    Attention wants one key array, so a prefix is copied to each row of its
    context; splitting the attention logits instead moves more bytes.
    """
    rows = len(key_BSHK)

    def extend(prefix_CPHK, rows_BSHK):
      prefix_BPHK = arrays.per_row(prefix_CPHK.astype(rows_BSHK.dtype), rows)
      return jnp.concatenate([prefix_BPHK, rows_BSHK], axis=1)

    return extend(self.key, key_BSHK), extend(self.value, value_BSHK)

  @property
  def length(self) -> int:
    return self.key.shape[-3]

  def hidden(self, rows: int) -> jax.Array | None:
    """What its logits get in one layer, [B, P]; None where all are visible."""
    if self.visible is None:
      return None
    # Below what padding gets, or a row of nothing but padding would see it.
    return arrays.per_row(jnp.where(self.visible, 0.0, 2 * spec.MASKED), rows)

  def flops(self, positions: int, config: spec.Backbone) -> int:
    """A product with each key, and one with each value."""
    del config
    return 2 * positions * (self.key.size + self.value.size)

  @classmethod
  def stack(cls, given: Sequence[Any], contexts: Sequence[int]) -> Self:
    """Positions that a context lacks are masked, where any lacks one."""
    lengths = {0 if x is None else x.key.shape[2] for x in given}
    if len(lengths) > 1 or any(x and x.visible is not None for x in given):
      given = [x and x.with_mask() for x in given]
    return super().stack(given, contexts)

  def with_mask(self) -> "Prefix":
    if self.visible is not None:
      return self
    visible = np.ones(self.key.shape[:3], bool)
    return dataclasses.replace(self, visible=visible)


@dataclasses.dataclass(frozen=True)
class PrefixSpec(spec.Spec):
  """Soft prefixes of `length` positions at attention sites, a slot for each.

  HyperTuning (Phang et al., 2022) writes them for encoder and decoder
  self-attention; whether for cross-attention too is open, so it is a choice.
  """

  length: checks.Length
  sites: spec.Sites = spec.ATTENTION_SITES
  key_stddev: checks.Weight = 1.0
  value_stddev: checks.Weight = 0.1

  @property
  def not_exported(self) -> Mapping[str, str]:
    # `adapters` is the library of AdapterHub.
    return {
      "peft": (
        "PEFT's prefix tuning reaches only the self-attention of a T5's decoder, "
        "and gives prefixes T5's relative position bias"
      ),
      "hf": _NO_WEIGHT,
      "orbax": _NO_WEIGHT,
      "ct2": _NO_WEIGHT,
      "gguf": "llama.cpp's adapters are LoRA",
      "adapters": (
        "the adapters library gives a T5's prefixes its relative position bias, "
        "and moves all other keys by the prefix's length, so the same keys and "
        "values compute something else there"
      ),
    }

  @property
  def label(self) -> str:
    return f"prefixes of {self.length}"

  @property
  def num_slots(self) -> int:
    return self.length

  def leaves(self, config: spec.Backbone) -> spec.Adapters:
    axes = (
      sharding.LAYERS,
      sharding.BATCH,
      sharding.SLOTS,
      sharding.HEADS,
      sharding.KV,
    )
    nodes = {}
    for site in self.sites:
      layers = spec.num_layers(config, site)
      shape = (layers, 1, self.length, config.num_heads, config.head_dim)
      nodes[f"{site}.prefix"] = Prefix(
        key=spec.Leaf(shape, axes, self.key_stddev),
        value=spec.Leaf(shape, axes, self.value_stddev),
      )
    return spec.assemble(nodes)
