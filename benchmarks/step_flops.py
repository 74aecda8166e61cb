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
from hyperjax import main as program
from hyperjax import optimizers, sharding
from hyperjax.batch import Batch
from hyperjax.models import flops, problems
from hyperjax.trainer import Trainer

MODELS = ("t5_1_1_base", "t5_1_1_large")
KINDS = ("prefix", "lora", "ia3")
TARGETS_PER_CONTEXT = (1, 4)
CONTEXTS = 8
DEMONSTRATIONS, INPUTS, TARGETS = 1024, 512, 128


def problem_of_run(model: str, kind: str) -> problems.HyperTuning:
  """The problem of runs/mtf_sni.gin with another model."""
  files = (f"adapters/{kind}.gin", "runs/mtf_sni.gin", f"models/{model}.gin")
  unused = ("DATA_DIR", "MODEL_DIR", "INITIAL_CHECKPOINT_PATH")
  overrides = [f"--gin.{name}=unused" for name in unused]
  run, _ = program.build("train", files, overrides=overrides)
  return run.problem


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
  return flops.count(trainer.trace_train_step(abstract_batch(sizes)))


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
    problem = problem_of_run(model, kind)
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
