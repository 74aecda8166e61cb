"""Tiny models and batches that tests share."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hyperjax import adapters, optimizers, sharding, trainer
from hyperjax.batch import Batch
from hyperjax.models import forward, hypermodel, problems, t5
from hyperjax.models.t5_layers import T5Config

# No two extents are equal where a mix-up could hide: heads times head width is
# not the embedding width, encoder and decoder differ in depth.
CONFIG = T5Config(
  vocab_size=40,
  emb_dim=12,
  num_heads=2,
  head_dim=8,
  mlp_dim=20,
  num_encoder_layers=2,
  num_decoder_layers=3,
)
TIED = dataclasses.replace(
  CONFIG, mlp_activations=("relu",), logits_via_embedding=True
)
SPECS = {
  "prefix": adapters.PrefixSpec(3),
  "lora": adapters.LoraSpec(
    2, projections=("query", "key", "value", "out", "wi_0", "wi_1", "wo")
  ),
  "ia3": adapters.Ia3Spec(2),
  "memory": adapters.MemorySpec(20),
  "both": adapters.ComposedSpec(
    (adapters.LoraSpec(2, projections=("query", "wo")), adapters.PrefixSpec(3))
  ),
}

# Where what is compiled costs much: parts of the others are among these.
ALONE = [name for name in SPECS if name != "both"]


def draw(abstract: Any, seed: int = 0, scale: float = 0.3) -> Any:
  """Random values of an abstract tree."""
  # By numpy: jax would compile a program for each shape.
  normal = np.random.default_rng(seed).standard_normal
  return jax.tree.map(
    lambda leaf: jnp.asarray(scale * normal(leaf.shape), leaf.dtype), abstract
  )


def moved_by_rounding(answer: Callable[[Any], Any], params: Any) -> Any:
  """How far an answer is moved at most if each weight is its float32 neighbour.

  A right program's answer may be as far from the truth. Of eight draws of which
  neighbour, for each array of the answer.
  """

  def neighbours(leaf: Any) -> np.ndarray:
    toward = np.where(generator.random(np.shape(leaf)) < 0.5, -np.inf, np.inf)
    return np.nextafter(np.asarray(leaf), toward.astype(np.float32))

  found, moved = answer(params), []
  for seed in range(8):
    generator = np.random.default_rng(seed)
    other = answer(jax.tree.map(neighbours, params))
    moved.append(
      jax.tree.map(lambda x, y: float(np.abs(x - y).max()), found, other)
    )
  return jax.tree.map(lambda *each: max(each), *moved)


# Other tests compile fast instead (conftest.py), which costs a little accuracy.
_AS_USERS_COMPILE = {
  "xla_backend_optimization_level": 3,
  "xla_llvm_disable_expensive_passes": False,
}
if "xla_cpu_use_fusion_emitters" in os.environ.get("XLA_FLAGS", ""):
  _AS_USERS_COMPILE["xla_cpu_use_fusion_emitters"] = True


def optimized(function: Any) -> Any:
  """`function`, compiled as users compile it."""
  return jax.jit(function, compiler_options=_AS_USERS_COMPILE)


@contextlib.contextmanager
def compilations() -> Iterator[list[float]]:
  """How many programs are compiled within, or taken from the cache of files."""
  found = []

  def note(event, duration_secs, **_):
    if event == "/jax/core/compile/backend_compile_duration":
      found.append(duration_secs)

  jax.monitoring.register_event_duration_secs_listener(note)
  try:
    yield found
  finally:
    jax.monitoring.unregister_event_duration_listener(note)


def t5_params(config: T5Config = CONFIG, seed: int = 0) -> Any:
  return jax.tree.map(lambda array: array, _t5_params(config, seed))


@functools.cache
def _t5_params(config: T5Config, seed: int) -> Any:
  # What is kept for other tests is no tracer, whatever traces the first of them.
  with jax.ensure_compile_time_eval():
    tokens = jnp.ones((1, 1), jnp.int32)
    key = jax.random.key(seed)
    init = jax.jit(t5.T5(config).init)
    return nn.meta.unbox(init(key, tokens, tokens)["params"])


def tokens(*shape: int, seed: int = 0, vocab_size: int = 40) -> np.ndarray:
  """Ids without padding and without the end of sequence."""
  generator = np.random.default_rng(seed)
  return generator.integers(2, vocab_size, shape).astype(np.int32)


def batch(
  contexts: int,
  rows_per_context: int = 1,
  *,
  demonstrations: int = 9,
  inputs: int = 7,
  targets: int = 5,
  seed: int = 0,
  vocab_size: int = 40,
) -> Batch:
  """A random batch; targets end in padding of different lengths."""
  rows = contexts * rows_per_context
  ids = [
    tokens(rows, inputs, seed=seed, vocab_size=vocab_size),
    tokens(rows, targets, seed=seed + 1, vocab_size=vocab_size),
    tokens(contexts, demonstrations, seed=seed + 2, vocab_size=vocab_size),
  ]
  lengths = np.random.default_rng(seed + 3).integers(1, targets + 1, rows)
  ids[1] *= np.arange(targets) < lengths[:, None]
  shifted = np.pad(ids[1], ((0, 0), (1, 0)))[:, :-1]
  weights = (ids[1] > 0).astype(np.float32)
  return Batch(ids[0], shifted, ids[1], weights, ids[2])


def setting(
  problem: problems.Problem, params: Any, frozen: Any, given: Batch
) -> forward.Setting:
  """What a problem's T5 is given, one function at a time."""
  return forward.Setting(
    (params | frozen)["backbone"],
    problem.read(given),
    problem.write(problem.read_by_write(params, frozen), given.demonstrations),
  )


def alone(params: Any, frozen: Any, given: Batch) -> forward.Setting:
  """What the control without adapters or demonstrations is given."""
  return forward.Setting(
    (params | frozen)["backbone"], given.encoder_input_tokens
  )


def hypertuning(
  spec: adapters.Spec, config: T5Config = CONFIG, **options: Any
) -> problems.HyperTuning:
  hyper = hypermodel.HyperT5Config(config, head_hidden_dim=16)
  return problems.HyperTuning(config, hyper, spec, **options)


def make_trainer(
  problem: problems.Problem,
  optimizer: optimizers.Optimizer | None = None,
  num_devices: int = 1,
  axes: Mapping[str, int] | Iterable[tuple[str, int]] = (),
  num_microbatches: int = 1,
) -> trainer.Trainer:
  layout = sharding.MeshSpec(dict(axes)).build(jax.devices()[:num_devices])
  optimizer = optimizer or optimizers.AdamW(optimizers.Constant(1e-3))
  return trainer.Trainer(problem, optimizer, layout, num_microbatches)
