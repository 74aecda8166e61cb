"""Matrix-product flops of the HyperTuning step: counted, against the formula.

T5 1.1 base and large at full depth, prefix of 32 and LoRA of rank 16, 8 contexts
of 1 and of 4 targets. The step is only traced: nothing is allocated or compiled.

  python -m benchmarks.step_flops
"""

import dataclasses
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from benchmarks import measuring
from hyperjax import adapters, optimizers, sharding
from hyperjax.batch import Batch
from hyperjax.models import flops, hypermodel, problems
from hyperjax.models.t5_layers import T5Config
from hyperjax.trainer import Trainer

# As gin/stages/full_size.gin computes with them.
MODELS = {
  "t5_1_1_base": T5Config(
    32128, 768, 12, 64, 2048, 12, 12, dtype="bfloat16", remat="full"
  ),
  "t5_1_1_large": T5Config(
    32128, 1024, 16, 64, 2816, 24, 24, dtype="bfloat16", remat="full"
  ),
}
KINDS = {
  "prefix": adapters.PrefixSpec(32),
  "lora": adapters.LoraSpec(16),
  "ia3": adapters.Ia3Spec(32),
}
TARGETS_PER_CONTEXT = (1, 4)
CONTEXTS = 8
DEMONSTRATIONS, INPUTS, TARGETS = 1024, 512, 128


def problem_of(model: str, kind: str) -> problems.HyperTuning:
  t5 = MODELS[model]
  return problems.HyperTuning(
    dataclasses.replace(t5, param_dtype="bfloat16"),
    hypermodel.HyperT5Config(t5, head_hidden_dim=1024),
    KINDS[kind],
  )


def with_remat(
  problem: problems.HyperTuning, remat: str
) -> problems.HyperTuning:
  hyper = problem.hypermodel
  return dataclasses.replace(
    problem,
    backbone=dataclasses.replace(problem.backbone, remat=remat),
    hypermodel=dataclasses.replace(
      hyper, t5=dataclasses.replace(hyper.t5, remat=remat)
    ),
  )


def count(problem: problems.HyperTuning, sizes: flops.Sizes) -> int:
  trainer = Trainer(
    problem,
    optimizers.AdamW(optimizers.Constant(1e-4)),
    sharding.MeshSpec().build(jax.devices()[:1]),
  )
  return flops.count(trainer.trace_train_step(abstract_batch(sizes)).jaxpr)


def abstract_batch(sizes: flops.Sizes) -> Batch:
  def tokens(rows: int, length: int, dtype=jnp.int32):
    return jax.ShapeDtypeStruct((rows, length), dtype)

  return Batch(
    encoder_input_tokens=tokens(sizes.rows, sizes.inputs),
    decoder_input_tokens=tokens(sizes.rows, sizes.targets),
    decoder_target_tokens=tokens(sizes.rows, sizes.targets),
    decoder_loss_weights=tokens(sizes.rows, sizes.targets, jnp.float32),
    demonstrations=tokens(sizes.contexts, sizes.demonstrations),
  )


def table(problem: problems.HyperTuning, sizes: flops.Sizes) -> Iterator[str]:
  """Lines: the formula's parts, their sum, the count, rematerialisation."""
  needed = flops.needed(problem, sizes)
  total = needed.pop("total")
  counted = count(with_remat(problem, "none"), sizes)
  again = count(with_remat(problem, "full"), sizes)

  def line(name: str, value: int, note: str = "") -> str:
    return f"  {name:<38} {value / 1e12:>9.3f} {note}".rstrip()

  yield from (line(name, value) for name, value in needed.items())
  yield line("needed: sum of the above", total)
  yield line("counted", counted, f" {counted / total:.5f} of needed")
  yield line(
    'more with remat = "full"',
    again - counted,
    f" {again / total:.5f} of needed in all",
  )


def main() -> None:
  print(measuring.machine())
  print(
    f"teraflops of one train step; {CONTEXTS} contexts, {DEMONSTRATIONS} "
    f"tokens of demonstrations, {INPUTS} of inputs, {TARGETS} of targets"
  )
  for model, kind, rows in itertools.product(
    MODELS, KINDS, TARGETS_PER_CONTEXT
  ):
    problem = problem_of(model, kind)
    sizes = flops.Sizes(
      CONTEXTS, CONTEXTS * rows, DEMONSTRATIONS, INPUTS, TARGETS
    )
    t5, slots = problem.backbone, problem.adapters.num_slots
    print(
      f"\n{model}, {t5.num_encoder_layers}+{t5.num_decoder_layers} layers, "
      f"{kind} of {slots}, G = {rows}"
    )
    for line in table(problem, sizes):
      print(line, flush=True)


if __name__ == "__main__":
  main()
