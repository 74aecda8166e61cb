"""IA3: learned scales of keys, values and feed-forward activations."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np
from flax import struct

from hyperjax import checks, sharding
from hyperjax.adapters import spec


@struct.dataclass
class Scale(spec.Node):
  """One factor for each feature (Liu et al., 2022)."""

  scale: Any  # [*L, C or 1, F]

  neutral: ClassVar = {"scale": 1}

  def __call__(self, x_BTF: jax.Array) -> jax.Array:
    contexts, width = self.scale.shape
    scale_C1F = self.scale[:, None].astype(x_BTF.dtype)
    return (x_BTF.reshape(contexts, -1, width) * scale_C1F).reshape(x_BTF.shape)

  def kernel(self, place: str) -> str:
    return place.replace("ia3_", "")


@struct.dataclass
class OutputScale(Scale):
  """Of what a projection gives: its kernel's columns."""

  def merged(self, kernel: np.ndarray) -> np.ndarray:
    return kernel.astype(np.float32) * self.scale.astype(np.float32)

  def peft(self, module: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    settings = {"peft_type": "IA3", "target_modules": [module]}
    return settings, {"ia3_l": self.scale[:, None]}


@struct.dataclass
class InputScale(Scale):
  """Of what a projection takes: its kernel's rows."""

  def merged(self, kernel: np.ndarray) -> np.ndarray:
    return kernel.astype(np.float32) * self.scale.astype(np.float32)[:, None]

  def peft(self, module: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    settings = {
      "peft_type": "IA3",
      "target_modules": [module],
      "feedforward_modules": [module],
    }
    return settings, {"ia3_l": self.scale[None]}


@dataclasses.dataclass(frozen=True)
class Ia3Spec(spec.Spec):
  """Scales of keys and values at every attention site, and of what `wo` takes.

  They start at 1, so that an untrained hypermodel leaves the backbone as it is.
  There is one set of them, which all `slots` write together.
  """

  slots: checks.Length

  @property
  def not_exported(self) -> Mapping[str, str]:
    return {"gguf": "llama.cpp's adapters are LoRA"}

  @property
  def label(self) -> str:
    return "IA3"

  @property
  def num_slots(self) -> int:
    return self.slots

  def leaves(self, config: spec.Backbone) -> spec.Adapters:
    joined = config.num_heads * config.head_dim
    nodes: dict[str, Scale] = {}
    for site in spec.ATTENTION_SITES:
      leaf = _leaf(config, site, joined, sharding.JOINED_KV)
      nodes[f"{site}.ia3_key"] = OutputScale(leaf)
      nodes[f"{site}.ia3_value"] = OutputScale(leaf)
    for site in spec.MLP_SITES:
      leaf = _leaf(config, site, config.mlp_dim, sharding.MLP)
      nodes[f"{site}.ia3_wo"] = InputScale(leaf)
    return spec.assemble(nodes)


def _leaf(config: spec.Backbone, site: str, width: int, axis: str) -> spec.Leaf:
  return spec.Leaf(
    (spec.num_layers(config, site), 1, width),
    (sharding.LAYERS, sharding.BATCH, axis),
    stddev=0.0,
    mean=1.0,
  )
