"""Adapters: what is written for a T5, and what can be done with it.

`spec` says what a kind of adapter owes; prefix, lora, ia3 and memory are the kinds,
one file each, and composed is several of them; `tree` holds what is done with adapters
of whatever kind.
"""

from hyperjax.adapters.composed import ComposedSpec
from hyperjax.adapters.ia3 import Ia3Spec
from hyperjax.adapters.lora import LoraSpec, PlacedLoraSpec, lora_spec
from hyperjax.adapters.memory import Memory, MemorySpec
from hyperjax.adapters.prefix import PrefixSpec
from hyperjax.adapters.spec import (
  ATTENTION_SITES,
  MASKED,
  Adapters,
  AttentionAdapter,
  DecoderAdapter,
  EncoderAdapter,
  Leaf,
  MlpAdapter,
  Node,
  Spec,
  assemble,
  nodes,
)
from hyperjax.adapters.thin import updates
from hyperjax.adapters.tree import (
  as_params,
  cut,
  distance,
  from_params,
  mean,
  num_contexts,
  path_leaves,
  stack,
)

__all__ = [
  "ATTENTION_SITES",
  "MASKED",
  "SPECS",
  "Adapters",
  "AttentionAdapter",
  "ComposedSpec",
  "DecoderAdapter",
  "EncoderAdapter",
  "Ia3Spec",
  "Leaf",
  "LoraSpec",
  "Memory",
  "MemorySpec",
  "MlpAdapter",
  "Node",
  "PlacedLoraSpec",
  "PrefixSpec",
  "Spec",
  "as_params",
  "assemble",
  "cut",
  "distance",
  "from_params",
  "lora_spec",
  "mean",
  "nodes",
  "num_contexts",
  "path_leaves",
  "stack",
  "updates",
]

# Every kind there is: files name a spec by its class.
SPECS: tuple[type[Spec], ...] = (
  PrefixSpec,
  LoraSpec,
  PlacedLoraSpec,
  Ia3Spec,
  MemorySpec,
  ComposedSpec,
)
