"""Adapters: what is written for a T5, and what can be done with it.

`spec` says what a kind of adapter owes; prefix, lora and ia3 are the kinds, one
file each; `tree` holds what is done with adapters of whatever kind.
"""

from hyperjax.adapters.ia3 import Ia3Spec
from hyperjax.adapters.lora import LoraSpec, PlacedLoraSpec, lora_spec
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
)
from hyperjax.adapters.thin import updates
from hyperjax.adapters.tree import (
  as_params,
  cut,
  distance,
  from_params,
  mean,
  nodes,
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
  "DecoderAdapter",
  "EncoderAdapter",
  "Ia3Spec",
  "Leaf",
  "LoraSpec",
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
)
