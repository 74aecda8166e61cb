"""Bytes that devices must send each other in a step, by arithmetic.

What a mesh asks for and no more: a weight that is split over devices which hold
different rows is gathered where it is used (forward, again where that is done again,
backward); the gradient of a trained one is summed once, each device keeping its part;
both in the smaller of its own dtype and that of the arithmetic. What a layer makes of
weights split by columns and rows is summed once a layer and direction. Each is counted
as a ring sends it: of n devices each sends (n - 1) / n of the whole.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from hyperjax import sharding, trees
from hyperjax.models import hypermodel
from hyperjax.models.problems import HyperTuning
from hyperjax.models.t5_layers import T5Config
from hyperjax.planning import passes
from hyperjax.planning.jobs import Job
from hyperjax.planning.passes import Pass

_WEIGHTS = ("weights_trained", "weights_frozen")
GATHER, SCATTER, SUM = "all-gather", "reduce-scatter", "all-reduce"


def collectives(job: Job) -> dict[str, int]:
  """Bytes that each device sends in one run of a program, by kind."""
  found = {GATHER: 0.0, SCATTER: 0.0, SUM: 0.0}
  rows, taken = _axes_of_rows(job), passes.of(job)
  configs = {each.name: each.config for each in taken}
  # Of tasks side by side each one's adapter lies where its rows do.
  are_own = job.problem.num_tasks > 1
  for kind in ("weights_frozen",) if are_own else _WEIGHTS:
    for path, leaf in trees.flatten(job.held.get(kind, {})).items():
      config = configs.get(path.split("/")[0], job.problem.backbone)
      uses = _uses(job, taken, path) + _further_uses(job, path)
      if not uses:
        continue
      item = min(leaf.dtype.itemsize, jnp.dtype(config.dtype).itemsize)
      size = _shard(job, leaf, rows) * item
      spread = _parts(leaf, rows)
      found[GATHER] += uses * _ring(spread) * size
      if kind == "weights_trained" and job.trains:
        # Each device keeps its part; devices with the same part sum that.
        copies = math.prod(rows.values()) // spread
        found[SCATTER] += _ring(spread) * size
        found[SUM] += 2 * _ring(copies) * size / spread
  found[SUM] += sum(_layers(job, each) for each in taken)
  return {kind: round(count) for kind, count in found.items() if count}


def _axes_of_rows(job: Job) -> dict[str, int]:
  """Mesh axes over which a batch is split, with their extents."""
  names = sharding.each_axis(job.layout.batch.spec[0])
  return {name: job.layout.mesh.shape[name] for name in names}


def _parts(leaf: Any, among: Mapping[str, int]) -> int:
  """Into how many parts an array is split over some mesh axes."""
  return math.prod(
    among.get(axis, 1)
    for entry in leaf.sharding.spec
    for axis in sharding.each_axis(entry)
  )


def _shard(job: Job, leaf: Any, rows: Mapping[str, int]) -> int:
  """Numbers of an array that a device has while it uses it."""
  others = {k: n for k, n in job.layout.mesh.shape.items() if k not in rows}
  return math.prod(leaf.shape) // _parts(leaf, others)


def _ring(count: int) -> float:
  return (count - 1) / count


def _uses(job: Job, taken: Sequence[Pass], path: str) -> int:
  """How often a step needs a weight whole."""
  root = path.split("/")[0]
  own = [each for each in taken if each.name == root]
  if own:
    return sum(_uses_of(job, each, path) for each in own)
  if not job.is_used(path):
    return 0
  # Of an adapter, that is trained itself.
  return job.num_microbatches * _turns(job.problem.backbone, path, job.trains)


def _uses_of(job: Job, one: Pass, path: str) -> int:
  is_encoders = path.startswith(f"{one.name}/encoder/")
  goes_back = one.encoder_goes_back if is_encoders else one.goes_back
  return job.num_microbatches * _turns(one.config, path, goes_back)


def _turns(config: T5Config, path: str, goes_back: bool) -> int:
  """Forward, again where that is done again, and backward."""
  if not goes_back:
    return 1
  is_again = config.remat != "none" and "/layers/" in path
  return 3 if is_again else 2


def _further_uses(job: Job, path: str) -> int:
  """By a hypermodel that computes with the layers of the backbone."""
  part, _, rest = path.partition("/")
  if part != "backbone" or "/layers/" not in rest:
    return 0
  if not isinstance(job.problem, HyperTuning) or not job.is_used("hypermodel"):
    return 0
  own = job.problem.hypermodel
  if not hypermodel.is_backbones(own, rest):
    return 0
  # Nothing under a frozen encoder is trained, so it has no backward pass.
  is_passed = own.body == hypermodel.SHARED
  goes_back = is_passed and job.trains
  return job.num_microbatches * _turns(own.t5, path, goes_back)


def _layers(job: Job, one: Pass) -> float:
  """Sums of what layers make, where their weights are split by columns and rows."""
  rows = _axes_of_rows(job)
  others = [n for k, n in job.layout.mesh.shape.items() if k not in rows]
  parts = math.prod(others)
  if parts == 1:
    return 0.0
  config = one.config
  width = config.emb_dim * jnp.dtype(config.dtype).itemsize
  tokens = one.rows / math.prod(rows.values())
  back = 2 if config.remat == "none" else 3
  # Attention and feed-forward; a decoder also attends to what was encoded.
  encoder = 2 * one.read * config.num_encoder_layers
  decoder = 3 * one.written * config.num_decoder_layers
  encoder *= back if one.encoder_goes_back else 1
  decoder *= back if one.goes_back else 1
  return 2 * _ring(parts) * tokens * width * (encoder + decoder)
