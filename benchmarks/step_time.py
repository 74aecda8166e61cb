"""Wall time of a HyperTuning step against the matrix products that it needs.

A small problem (4+4 layers, width 128, vocabulary 4,096) on one device. In turn,
in one process: the train step; the step's own matrix products, each in its shape
and as often as it runs, and nothing else; and products of 1024 x 1024 that take
as many operations in all, which is what the machine can do at best. Everything
is passed as an argument. LoRA with 4 targets for a context is also measured
against four steps of 1 target each.

  python -m benchmarks.step_time
"""

import collections
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measuring
from hyperjax import adapters, optimizers, sharding
from hyperjax import batch as batches
from hyperjax.models import flops, hypermodel, problems
from hyperjax.models.t5_layers import T5Config
from hyperjax.trainer import Trainer

REPEATS = 7
SQUARE = 1024
T5 = T5Config(
  vocab_size=4096,
  emb_dim=128,
  num_heads=4,
  head_dim=32,
  mlp_dim=344,
  num_encoder_layers=4,
  num_decoder_layers=4,
)
CASES = {
  "prefix, G = 1": (adapters.PrefixSpec(16), 1),
  "LoRA, G = 1": (adapters.LoraSpec(16), 1),
  "LoRA, G = 4": (adapters.LoraSpec(16), 4),
}
FOUR_STEPS = "LoRA, four steps of G = 1"
CONTEXTS = 8
LENGTHS = batches.Lengths(inputs=128, targets=32, demonstrations=256)


def make_trainer(spec: adapters.Spec) -> Trainer:
  hyper = hypermodel.HyperT5Config(T5, head_hidden_dim=128)
  return Trainer(
    problems.HyperTuning(T5, hyper, spec),
    optimizers.AdamW(optimizers.Constant(1e-4)),
    sharding.MeshSpec().build(jax.devices()[:1]),
  )


def make_batch(rows_per_context: int) -> batches.Batch:
  """Random tokens without padding."""
  generator = np.random.default_rng(0)

  def ids(length: int) -> np.ndarray:
    return generator.integers(2, T5.vocab_size, length)

  contexts = [
    batches.Context(
      inputs=[ids(LENGTHS.inputs) for _ in range(rows_per_context)],
      targets=[ids(LENGTHS.targets) for _ in range(rows_per_context)],
      demonstrations=ids(LENGTHS.demonstrations),
    )
    for _ in range(CONTEXTS)
  ]
  return batches.assemble(contexts, LENGTHS)


class Step:
  """A train step that goes on from its own state, which it gives away."""

  def __init__(self, trainer: Trainer, batch: batches.Batch):
    self._trainer = trainer
    self._batch = trainer.layout.place_own(batch)
    self._state = trainer.init(0)

  def __call__(self) -> Any:
    self._state, metrics = self._trainer.train_step(self._state, self._batch)
    return self._state, metrics


def products(jaxpr: Any, times: int = 1) -> Iterator[tuple[Any, int]]:
  """Every matrix product as (shapes, axes, precision) and how often it runs."""
  for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
    parameters = equation.params
    if equation.primitive.name == "dot_general":
      shapes = [(x.aval.shape, x.aval.dtype.name) for x in equation.invars]
      axes, kind = (
        parameters["dimension_numbers"],
        parameters["preferred_element_type"],
      )
      yield (*shapes, axes, kind), times
    again = parameters.get("length", 1)
    for inner in jax.tree.leaves(parameters, is_leaf=_is_jaxpr):
      if _is_jaxpr(inner):
        yield from products(inner, times * again)


def _is_jaxpr(value: Any) -> bool:
  return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def repeat_products(jaxpr: Any) -> Callable[[], Any]:
  """The products of a jaxpr and nothing else, compiled to one program."""
  times: collections.Counter[Any] = collections.Counter()
  for shape, count in products(jaxpr):
    times[shape] += count
  generator = np.random.default_rng(0)
  operands = [
    [jnp.asarray(generator.normal(size=shape), kind) for shape, kind in pair]
    for *pair, _, _ in times
  ]

  @jax.jit
  def run(operands):
    return [
      _repeat(left, right, axes, kind, count)
      for (left, right), ((*_, axes, kind), count) in zip(
        operands, times.items(), strict=True
      )
    ]

  return functools.partial(run, operands)


def _repeat(
  left: jax.Array, right: jax.Array, axes: Any, kind: Any, count: int
) -> jax.Array:
  def product(left, _):
    y = jax.lax.dot_general(left, right, axes, preferred_element_type=kind)
    # Else XLA would compute no more of the product than is read.
    y = jax.lax.optimization_barrier(y).ravel()[0]
    # Else it would take the product, always the same, out of the loop.
    return left.at[(0,) * left.ndim].set(y.astype(left.dtype)), None

  return jax.lax.scan(product, left, None, length=count)[0]


@jax.jit
def _square_products(x: jax.Array, weights: jax.Array, count: jax.Array):
  return jax.lax.fori_loop(0, count, lambda _, x: x @ weights, x)


def at_best(operations: int) -> Callable[[], Any]:
  """Square products of as many operations, each of what the last one gave."""
  # Orthogonal: however many products, no value grows or vanishes.
  normal = np.random.default_rng(0).normal(size=(SQUARE, SQUARE))
  x = jnp.asarray(np.linalg.qr(normal)[0], jnp.float32)
  count = jnp.int32(round(operations / (2 * SQUARE**3)))
  return functools.partial(_square_products, x, x, count)


def measure() -> tuple[dict[str, list[float]], dict[str, int]]:
  """Seconds of every work by name, and the operations of each case."""
  works, operations = {}, {}
  for name, (spec, rows) in CASES.items():
    trainer, batch = make_trainer(spec), make_batch(rows)
    jaxpr = trainer.trace_train_step(batch).jaxpr
    operations[name] = flops.count(jaxpr)
    works[f"{name}: step"] = Step(trainer, batch)
    works[f"{name}: own products"] = repeat_products(jaxpr)
    works[f"{name}: at best"] = at_best(operations[name])
  works[FOUR_STEPS] = functools.partial(_four, works["LoRA, G = 1: step"])
  for work in works.values():
    jax.block_until_ready(work())
  return measuring.in_turn(works, REPEATS), operations


def _four(step: Step) -> Any:
  return [step() for _ in range(4)][-1]


def main() -> None:
  print(measuring.machine())
  print(
    f"{CONTEXTS} contexts, {LENGTHS}; milliseconds and ratios: median (least to "
    f"most) of {REPEATS} repeats in turn"
  )
  taken, operations = measure()
  for name in CASES:
    step = taken[f"{name}: step"]
    print(f"\n{name}, {operations[name] / 1e9:.2f} gigaflops in products")
    for work in ("step", "own products", "at best"):
      own = taken[f"{name}: {work}"]
      rate = [operations[name] / 1e9 / value for value in own]
      print(
        f"  {work:<13} {measuring.spread([1e3 * x for x in own], 1):<26}"
        f"{measuring.spread(rate, 1):<26} gigaflops/s"
      )
    for work in ("own products", "at best"):
      found = measuring.ratios(step, taken[f"{name}: {work}"])
      print(f"  step / {work:<13} {measuring.spread(found, 2)}")
  four = taken["LoRA, G = 4: step"]
  found = measuring.ratios(four, taken[FOUR_STEPS])
  by_count = operations["LoRA, G = 4"] / (4 * operations["LoRA, G = 1"])
  print("\nLoRA, one step of G = 4 / four steps of G = 1, as many targets")
  print(f"  time          {measuring.spread(found)}")
  print(f"  operations    {by_count:.3f}")


if __name__ == "__main__":
  main()
