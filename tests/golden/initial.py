"""How parameters begin that are drawn: the content of `initial.json`.

Moments of each array, which hold on every version of jax; its last bits need not.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hyperjax import adapters, trees
from hyperjax.models import heads, hypermodel, problems
from hyperjax.models.t5_layers import T5Config

CONFIG = T5Config(
  vocab_size=40,
  emb_dim=12,
  num_heads=2,
  head_dim=8,
  mlp_dim=20,
  num_encoder_layers=2,
  num_decoder_layers=1,
  mlp_activations=("relu",),
  logits_via_embedding=True,
)
SPECS = {
  "prefix": adapters.PrefixSpec(3, key_stddev=2.0, value_stddev=0.5),
  "lora": adapters.LoraSpec(2, projections=("query", "wi")),
  "ia3": adapters.Ia3Spec(2),
  "memory": adapters.MemorySpec(3, stddev=2.0),
  "both": adapters.ComposedSpec(
    (adapters.LoraSpec(2, projections=("query",)), adapters.PrefixSpec(3))
  ),
}


def compute() -> dict[str, Any]:
  """As JSON: size, mean, standard deviation, least and greatest."""
  return {name: _moments(params) for name, params in _drawn()}


def _drawn() -> Iterator[tuple[str, Any]]:
  key = jax.random.key(7)
  for name, spec in SPECS.items():
    head = heads.MlpHead(spec, CONFIG, CONFIG, hidden_dim=16)
    slots = jnp.zeros((1, spec.num_slots, CONFIG.emb_dim))
    read = heads.Read(slots, jnp.ones((1, spec.num_slots), bool))
    given = (slots if spec.num_slots else None, read)
    yield f"head of {name}", jax.jit(head.init)(key, *given)["params"]
    own = problems.AdapterFineTuning(CONFIG, spec)
    # Without what it is not asked for, the T5.
    yield f"adapters: {name}", jax.jit(lambda k, own=own: own.init(k)[0])(key)
  hyper = hypermodel.HyperT5Config(CONFIG, head_hidden_dim=16)
  whole = problems.HyperTuning(CONFIG, hyper, SPECS["prefix"])
  params, frozen = jax.jit(whole.init)(key)
  yield "hypertuning", {"params": params, "frozen": frozen}


def _moments(params: Any) -> dict[str, list[float]]:
  flat = trees.flatten(jax.device_get(nn.meta.unbox(params)))
  return {path: _of(np.float64(flat[path])) for path in sorted(flat)}


def _of(x: np.ndarray) -> list[float]:
  found = x.size, x.mean(), x.std(), x.min(), x.max()
  return [float(f"{value:.7g}") for value in found]
