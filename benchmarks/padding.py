"""Seconds of a training step, padded and in buckets; operations for T5-Large.

Runs of the package's gin files at their own lengths and batch size, with real data
and a T5 small enough for two cores, in float32. Steps of both kinds are taken in turn
in one process, on the same batches, and their gradients compared. For the shape of
T5-Large matrix products are counted on the traced step.

DIR holds sni/, p3/ or metaicl/, as the runs' gin files say, and vocab/t5:

  python -m benchmarks.padding --data_dir=DIR --benchmark=sni|p3|metaicl \
    [--json=OUT] [--cache_dir=DIR] [--repeats=3] [--batch_size=256]
"""

import argparse
import functools
import json
import pathlib
import statistics
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measuring, step_flops
from hyperjax import main as command_line
from hyperjax import optimizers, runs, sharding, trees
from hyperjax.artifacts import bucketing
from hyperjax.batch import Batch
from hyperjax.data import buckets, feed
from hyperjax.data.buckets import Microbatches
from hyperjax.models import flops, update
from hyperjax.models.problems import HyperTuning
from hyperjax.trainer import Trainer

# Files that a user has only a part of.
OPTIONS = {
  "sni": ("superni.SuperNaturalInstructions.skip_missing=True",),
  "p3": (),
  "metaicl": ("metaicl.MetaICL.skip_missing=True",),
}
T5 = {
  "emb_dim": 128,
  "num_heads": 4,
  "head_dim": 32,
  "mlp_dim": 256,
  "num_encoder_layers": 3,
  "num_decoder_layers": 3,
  "dtype": '"float32"',
  "remat": '"none"',
}
COUNTED = 8  # batches whose operations are counted


def build(arguments: argparse.Namespace) -> runs.Train:
  """The run of a gin file, with a small T5."""
  given = {
    "DATA_DIR": repr(arguments.data_dir),
    "CACHE_DIR": repr(arguments.cache_dir),
    "BATCH_SIZE": arguments.batch_size,
    "MODEL_DIR": '"unused"',
    "INITIAL_CHECKPOINT_PATH": None,
    "hypermodel.HyperT5Config.head_hidden_dim": 128,
    "backbone/t5_layers.T5Config.param_dtype": '"float32"',
  }
  given |= {f"t5_layers.T5Config.{name}": own for name, own in T5.items()}
  overrides = [f"--gin.{name}={value}" for name, value in given.items()]
  overrides += [f"--gin.{own}" for own in OPTIONS[arguments.benchmark]]
  files = (
    "adapters/prefix.gin",
    f"runs/mtf_{arguments.benchmark}.gin",
    "models/t5_1_1_tiny.gin",
  )
  run, _ = command_line.build("train", files, overrides=overrides)
  assert isinstance(run, runs.Train)
  return run


class Step:
  """Steps that go on from their own state."""

  def __init__(self, trainer: Trainer):
    self._trainer, self.state = trainer, trainer.init(0)

  def __call__(self, batch: Batch | Sequence[Batch]) -> Any:
    placed = self._trainer.layout.place_own(batch)
    self.state, metrics = self._trainer.train_step(self.state, placed)
    return self.state.params, metrics

  def gradients(self) -> dict[str, np.ndarray]:
    """A tenth of the first step's, as AdamW keeps it."""
    (moments,) = [
      own.mu
      for own in jax.tree.leaves(
        self.state.opt_state, is_leaf=lambda x: hasattr(x, "mu")
      )
      if hasattr(own, "mu")
    ]
    return trees.flatten(jax.device_get(moments))


def differences(
  found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]
) -> dict[str, Any]:
  """The largest, of the largest gradient; of each array by its norm, the worst."""
  apart = {name: found[name] - own for name, own in wanted.items()}
  most = max(float(np.abs(own).max()) for own in wanted.values())
  by_norm = {
    name: float(np.linalg.norm(apart[name]) / np.linalg.norm(own))
    for name, own in wanted.items()
    if np.abs(own).max() > 0
  }
  worst = max(by_norm, key=lambda name: by_norm[name])
  return {
    "gradient_difference": max(
      float(np.abs(own).max()) / most for own in apart.values()
    ),
    "gradient_difference_of_array": by_norm[worst],
    "array": worst,
  }


def measure(
  run: runs.Train, trainer: Trainer, parts: Microbatches, repeats: int
) -> dict[str, Any]:
  """Seconds of both steps on the same batches, in turn; all is compiled before."""
  source, contexts = parts.source, run.num_contexts
  padded, bucketed = Step(trainer), Step(trainer)
  trainer.check_memory(parts.outlines())
  trainer.check_memory(feed.outline(source, contexts))
  taken: dict[str, list[float]] = {"padded": [], "bucketed": []}
  of_process: dict[str, list[float]] = {"padded": [], "bucketed": []}
  apart = {}
  for i in range(repeats):
    first = i * contexts
    whole = feed.make_batch(source, first, range(contexts))
    works = {
      "padded": functools.partial(padded, whole),
      "bucketed": functools.partial(bucketed, parts(first)),
    }
    for name, work in works.items():
      start = time.process_time()
      taken[name].append(measuring.seconds(work))
      of_process[name].append(time.process_time() - start)
      print(
        f"{name}: {taken[name][-1]:.2f} s, {of_process[name][-1]:.2f} s of cores",
        flush=True,
      )
    if not i:
      apart = differences(bucketed.gradients(), padded.gradients())
      print(f"gradients are {apart['gradient_difference']:.2e} apart")
  ratios = measuring.ratios(taken["padded"], taken["bucketed"])
  return apart | {
    "padded_s": statistics.median(taken["padded"]),
    "bucketed_s": statistics.median(taken["bucketed"]),
    "ratio": statistics.median(ratios),
    "ratios": ratios,
    # What else the machine does then is not in these.
    "ratio_of_cores": statistics.median(
      measuring.ratios(of_process["padded"], of_process["bucketed"])
    ),
    "core_s": of_process,
  }


def count(problem: HyperTuning, batch: Batch) -> int:
  """Operations of a microbatch's gradients."""
  state = Trainer(
    problem, optimizers.AdamW(optimizers.Constant(1e-4)), _one_device()
  ).abstract
  traced = jax.make_jaxpr(functools.partial(update.gradients, problem=problem))(
    state, batch, jax.ShapeDtypeStruct((), jnp.int32)
  )
  return flops.count(traced)


def _one_device() -> Any:
  return sharding.MeshSpec().build(jax.devices()[:1])


def flops_ratio(run: runs.Train, trainer: Trainer, source: Any) -> float:
  """Operations of padded steps by those of steps in buckets, for T5-Large."""
  large = step_flops.problem_of("t5_1_1_large", "prefix")
  contexts = run.num_contexts
  # Buckets as they are chosen for it, not for the small T5.
  of_large = Trainer(
    large, run.optimizer, trainer.layout, trainer.num_microbatches
  )
  found = bucketing.choose(run, source, of_large, trainer.num_microbatches)
  parts = Microbatches(source, contexts, found)
  each = {
    bucket: count(large, outline)
    for bucket, outline in zip(found, parts.outlines(), strict=True)
  }
  one = feed.outline(source, contexts // trainer.num_microbatches)
  padded = COUNTED * trainer.num_microbatches * count(large, one)
  first = 16 * contexts  # others than buckets were chosen by
  bucketed = 0
  for start in range(first, first + COUNTED * contexts, contexts):
    sizes = [source.sizes(start + i) for i in range(contexts)]
    bucketed += sum(each[part.bucket] for part in buckets.split(sizes, found))
  return padded / bucketed


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--data_dir", required=True)
  parser.add_argument("--benchmark", choices=OPTIONS, required=True)
  parser.add_argument("--json")
  parser.add_argument("--cache_dir")
  parser.add_argument("--repeats", type=int, default=3)
  parser.add_argument("--batch_size", type=int, default=256)
  arguments = parser.parse_args()
  print(measuring.machine())
  run = build(arguments)
  layout = _one_device()
  trainer = Trainer(
    run.problem, run.optimizer, layout, run.microbatches_on(layout)
  )
  source: Any = run.data.open(run.seed)
  found = bucketing.choose(run, source, trainer, trainer.num_microbatches)
  for bucket in found:
    print(" ", bucket.words)
  parts = Microbatches(source, run.num_contexts, found)
  content = {
    "benchmark": arguments.benchmark,
    "machine": measuring.machine(),
    "batch_size": arguments.batch_size,
    "t5": T5,
    "shapes": len(found),
    "buckets": [bucket.words for bucket in found],
    "padded_microbatches": trainer.num_microbatches,
    "flops_ratio_t5_large": flops_ratio(run, trainer, source),
  }
  print(
    f"T5-Large: {content['flops_ratio_t5_large']:.2f} times fewer operations"
  )
  content |= measure(run, trainer, parts, arguments.repeats)
  print(
    f"{content['padded_s']:.2f} s padded, {content['bucketed_s']:.2f} s in "
    f"{len(found)} shapes: {content['ratio']:.2f} times faster, "
    f"{content['ratio_of_cores']:.2f} by the time of cores",
    flush=True,
  )
  if arguments.json:
    pathlib.Path(arguments.json).write_text(
      json.dumps(content, indent=1) + "\n"
    )


if __name__ == "__main__":
  main()
