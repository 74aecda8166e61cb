"""What `benchmarks.gpu` measures: each case by itself, in a process of its own.

Text is random ids. Where padding matters, lengths are drawn so that their means are
those of Super-NaturalInstructions' episodes at the run file's lengths.
"""

import dataclasses
import functools
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.gpu_timing import Found, timed
from hyperjax import adapters, optimizers, sharding
from hyperjax.artifacts import bucketing
from hyperjax.batch import Batch, Context, Lengths, Sizes
from hyperjax.data import buckets, feed
from hyperjax.models import decoding, flops, forward, hypermodel, problems
from hyperjax.models.t5_layers import T5Config
from hyperjax.trainer import Trainer

SNI_MEANS = {"demonstrations": 457, "inputs": 62, "targets": 10}


@dataclasses.dataclass(frozen=True)
class Size:
  """Models and lengths of a benchmark, of cards or of a try-out."""

  large: T5Config
  xl: T5Config
  base: T5Config
  lengths: Lengths
  rows: int  # contexts of a step, and rows of a decode
  head: int  # of the hypermodel's heads, hidden
  decoded: int

  def scaled(self, mean: float, feature: str) -> float:
    """A mean of Super-NaturalInstructions' at lengths other than the run's."""
    full = FULL.lengths
    return mean * getattr(self.lengths, feature) / getattr(full, feature)


def _t5(*sizes: Any) -> T5Config:
  return T5Config(*sizes, dtype="bfloat16", remat="full")


FULL = Size(
  large=_t5(32128, 1024, 16, 64, 2816, 24, 24),
  xl=_t5(32128, 2048, 32, 64, 5120, 24, 24),
  base=_t5(32128, 768, 12, 64, 2048, 12, 12),
  lengths=Lengths(inputs=512, targets=128, demonstrations=1024),
  rows=16,
  head=1024,
  decoded=64,
)
TINY = Size(
  large=_t5(256, 32, 2, 16, 64, 2, 2),
  xl=_t5(256, 48, 3, 16, 64, 2, 2),
  base=_t5(256, 32, 2, 16, 64, 2, 2),
  lengths=Lengths(inputs=16, targets=8, demonstrations=32),
  rows=4,
  head=16,
  decoded=4,
)
SIZES = {"full": FULL, "tiny": TINY}
KINDS = {
  "lora": adapters.LoraSpec(16),
  "prefix": adapters.PrefixSpec(32),
}


def hypertuning(
  size: Size,
  name: str = "large",
  kind: str = "lora",
  contexts: int = 1,
  **changes: Any,
) -> Found:
  """A step of a hypermodel for a frozen T5, of rows without padding.

  `contexts` is their number in units of the size's.
  """
  t5 = dataclasses.replace(getattr(size, name), **changes)
  problem = _hypertuning(size, t5, kind)
  count = max(1, size.rows * contexts)
  batch = _random_batch(count, size.lengths, t5.vocab_size)
  sizes = flops.Sizes(count, count, *_lengths(size.lengths))
  needed = flops.needed(problem, sizes)["total"]
  tokens = count * sum(_lengths(size.lengths))
  return _train(_trainer(problem), batch, tokens, needed)


def xl(size: Size) -> Found:
  """A quarter of the contexts."""
  quarter = dataclasses.replace(size, rows=max(1, size.rows // 4))
  return hypertuning(quarter, "xl")


def full_finetuning(size: Size, **changes: Any) -> Found:
  """All weights of a T5, twice the rows."""
  t5 = dataclasses.replace(size.base, **changes)
  problem = problems.LanguageModel(t5)
  rows = 2 * size.rows
  lengths = dataclasses.replace(size.lengths, demonstrations=0)
  batch = _random_batch(rows, lengths, t5.vocab_size)
  trainer = _trainer(problem)
  return _train(
    trainer,
    batch,
    rows * (lengths.inputs + lengths.targets),
    flops.count(trainer.trace_train_step(batch).jaxpr),
  )


def padding(size: Size, is_bucketed: bool) -> Found:
  """A step of four microbatches' contexts as long as real ones are."""
  t5 = size.large
  trainer = _trainer(_hypertuning(size, t5, "lora"), 4)
  source: Any = _Drawn(size)
  count = 4 * size.rows
  sizes = np.asarray([source.sizes(i) for i in range(count)])
  given: Any = feed.make_batch(source, 0, range(count))
  if is_bucketed:
    run: Any = types.SimpleNamespace(
      buckets=buckets.Buckets(),
      data=types.SimpleNamespace(rows_per_context=1),
      num_contexts=count,
    )
    found = bucketing.choose(run, source, trainer, 4)
    given = buckets.Microbatches(source, count, found)(0)
  tokens = int(sizes.sum())
  needed = sum(
    flops.needed(
      trainer.problem,  # pyright: ignore[reportArgumentType]: it is HyperTuning
      flops.Sizes(1, 1, *(int(own[i]) for i in (2, 0, 1))),
    )["total"]
    for own in sizes
  )
  return _train(trainer, given, tokens, needed)


def decode(
  size: Size,
  kind: str | None = None,
  decoder: decoding.Decoder = decoding.Greedy,
) -> Found:
  """Twice the rows of `size`, as many positions as it says; nothing ends early."""
  never = size.large.vocab_size - 1
  t5 = dataclasses.replace(
    size.large, remat="none", param_dtype="bfloat16", eos_ids=(never,)
  )
  rows = 2 * size.rows
  tokens = _ids(rows, size.lengths.inputs, t5.vocab_size)
  params = jax.device_put(_drawn_params(t5))
  written = adapters.Adapters()
  if kind:
    abstract = KINDS[kind].abstract(t5, rows)
    written = jax.tree.map(
      lambda leaf: jnp.full(leaf.shape, 1e-3, leaf.dtype), abstract
    )

  @jax.jit
  def run(params: Any, written: Any, tokens: Any) -> Any:
    setting = forward.Setting(params, tokens, written)
    return forward.decode(
      t5,
      setting,
      max_length=size.decoded,
      decoder=decoder,
      num_tokens=never,
    )

  return timed(lambda: run(params, written, tokens), rows * size.decoded, None)


def precision(size: Size) -> Found:
  """How far logits in float32 are from those of full products; and by how much."""
  t5 = dataclasses.replace(size.base, dtype="float32", remat="none")
  params = jax.device_put(_drawn_params(t5))
  inputs = _ids(4, size.lengths.inputs, t5.vocab_size)
  targets = _ids(4, size.lengths.targets, t5.vocab_size)
  found = []
  for wanted in ("default", "highest"):
    config = dataclasses.replace(t5, matmul_precision=wanted)
    logits = jax.jit(functools.partial(forward.logits, config))
    found.append(logits(forward.Setting(params, inputs), targets))
  apart = float(jnp.abs(found[0] - found[1]).max())
  return {"apart": apart, "largest": float(jnp.abs(found[1]).max())}


def matrix_products(size: Size) -> Found:
  """What the card gives at best: a product of wide square arrays in bfloat16."""
  width = 8 * size.large.emb_dim
  x = jnp.ones((width, width), jnp.bfloat16)
  product = jax.jit(jnp.matmul)
  return timed(lambda: product(x, x), width, 2 * width**3)


Case = Callable[[Size], Found]
_part = functools.partial
CASES: Mapping[str, Case] = {
  "products": matrix_products,
  "large lora": hypertuning,
  "large lora plain attention": _part(hypertuning, attention="plain"),
  "large lora no remat": _part(hypertuning, remat="none"),
  "large lora minimal remat": _part(hypertuning, remat="minimal"),
  "large prefix": _part(hypertuning, kind="prefix"),
  "large lora 2x contexts": _part(hypertuning, contexts=2),
  "decode": decode,
  "decode lora": _part(decode, kind="lora"),
  "decode prefix": _part(decode, kind="prefix"),
  "decode 4 beams": _part(decode, decoder=decoding.Beam(4)),
  "sni lengths padded": _part(padding, is_bucketed=False),
  "sni lengths buckets": _part(padding, is_bucketed=True),
  "base all weights": _part(full_finetuning, remat="none"),
  "xl lora": xl,
  "float32": precision,
}


class _Drawn:
  """Contexts of random ids whose lengths are as real ones are."""

  def __init__(self, size: Size):
    self.lengths, self._size = size.lengths, size

  def sizes(self, index: int) -> Sizes:
    generator = np.random.default_rng(index)
    drawn = {
      name: int(
        np.clip(
          generator.exponential(self._size.scaled(mean, name)),
          1,
          getattr(self.lengths, name),
        )
      )
      for name, mean in SNI_MEANS.items()
    }
    return Sizes(drawn["inputs"], drawn["targets"], drawn["demonstrations"])

  def __getitem__(self, index: int) -> Context:
    inputs, targets, read, _ = self.sizes(index)
    vocab = self._size.large.vocab_size
    made = [_ids(1, length, vocab)[0] for length in (inputs, targets, read)]
    return Context([made[0]], [made[1]], made[2])

  def position(self, index: int) -> Any:
    return {"index": index}


def _hypertuning(size: Size, t5: T5Config, kind: str) -> problems.HyperTuning:
  return problems.HyperTuning(
    dataclasses.replace(t5, param_dtype="bfloat16"),
    hypermodel.HyperT5Config(t5, head_hidden_dim=size.head),
    KINDS[kind],
  )


def _trainer(problem: problems.Problem, num_microbatches: int = 1) -> Trainer:
  return Trainer(
    problem,
    optimizers.Adafactor(optimizers.Constant(1e-4)),
    sharding.MeshSpec().build(jax.devices()[:1]),
    num_microbatches,
  )


def _lengths(lengths: Lengths) -> tuple[int, int, int]:
  return lengths.demonstrations, lengths.inputs, lengths.targets


def _ids(rows: int, length: int, vocab_size: int) -> np.ndarray:
  generator = np.random.default_rng(0)
  drawn = generator.integers(2, vocab_size - 2, (rows, length))
  return drawn.astype(np.int32)


def _random_batch(rows: int, lengths: Lengths, vocab_size: int) -> Batch:
  targets = _ids(rows, lengths.targets, vocab_size)
  read = None
  if lengths.demonstrations:
    read = _ids(rows, lengths.demonstrations, vocab_size)
  return Batch(
    encoder_input_tokens=_ids(rows, lengths.inputs, vocab_size),
    decoder_input_tokens=np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
    decoder_target_tokens=targets,
    decoder_loss_weights=np.ones(targets.shape, np.float32),
    demonstrations=read,
  )


def _drawn_params(t5: T5Config) -> Any:
  return _trainer(problems.LanguageModel(t5)).init(0).params["backbone"]


def _train(trainer: Trainer, given: Any, tokens: int, operations: int) -> Found:
  placed = trainer.layout.place_own(given)
  held = [trainer.init(0)]

  def step() -> Any:
    held[0], metrics = trainer.train_step(held[0], placed)
    return metrics

  return timed(step, tokens, operations)


def measure(name: str, size: Size) -> Found:
  """A case, with the device that it ran on."""
  start = time.perf_counter()
  found = CASES[name](size)
  device = jax.devices()[0]
  return found | {
    "case": name,
    "device": device.device_kind,
    "process_s": time.perf_counter() - start,
  }
