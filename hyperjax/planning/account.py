"""What lies on a device, by arithmetic: shapes, dtypes and the mesh, no compiler."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from hyperjax import sharding
from hyperjax.models.t5_layers import T5Config
from hyperjax.planning.jobs import Job


def held(job: Job) -> dict[str, int]:
  """Bytes on the fullest device as a program begins, by kind."""
  found = {kind: sharding.device_bytes(tree) for kind, tree in job.held.items()}
  return found | {"batch": _batch(job)}


def gradients(job: Job) -> int:
  """Bytes of gradients on a device: as weights, in float32 between microbatches."""
  if not job.trains:
    return 0
  once = sharding.device_bytes(job.held["weights_trained"])
  if job.num_microbatches == 1:
    return once
  wide = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      x.shape, jnp.promote_types(x.dtype, jnp.float32), sharding=x.sharding
    ),
    job.held["weights_trained"],
  )
  return sharding.device_bytes(wide) + once


def activations(job: Job) -> int:
  """About how many bytes a step's values take at once on a device.

  Of every layer what is kept for the backward pass, once what a layer works with, and
  the logits with their gradient. For ranking settings: the compiler knows better.
  """
  total = 0
  for name, config in job.configs.items():
    total += _of_t5(job, config, _lengths(job, name))
  return total


def _batch(job: Job) -> int:
  parts = job.layout.data_parallel
  leaves = jax.tree.leaves(job.batch)
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves) // parts


@dataclasses.dataclass(frozen=True)
class _Lengths:
  """Rows of a device's microbatch, and tokens of each."""

  rows: int
  read: int
  written: int
  has_logits: bool


def _lengths(job: Job, name: str) -> _Lengths:
  parts = job.layout.data_parallel * job.num_microbatches
  rows, read, written = job.lengths(name)
  return _Lengths(-(-rows // parts), read, written, name == "backbone")


def _of_t5(job: Job, config: T5Config, lengths: _Lengths) -> int:
  item = jnp.dtype(config.dtype).itemsize
  read, written, rows = lengths.read, lengths.written, lengths.rows
  heads = config.num_heads / tensor(job)
  wide = config.mlp_dim / tensor(job) * len(config.mlp_activations)
  joined = heads * config.head_dim

  def layer(length: int, other: int) -> float:
    """Everything that a layer computes, scores in float32 and again to use."""
    values = length * (6 * config.emb_dim + 4 * joined + 2 * wide) * item
    return rows * (values + length * other * heads * (4 + item))

  def kept(length: int, other: int) -> float:
    if not job.trains:
      return 0
    if config.remat == "full":
      return rows * length * config.emb_dim * item
    whole = layer(length, other)
    if config.remat == "minimal":  # all products but those of attention
      whole -= rows * length * other * heads * (4 + item)
    return whole

  stacks = (
    (config.num_encoder_layers, read, read),
    (config.num_decoder_layers, written, read + written),
  )
  total = sum(count * kept(*each) for count, *each in stacks)
  work = max(layer(*each) for _, *each in stacks)
  total += (3 if job.trains else 1) * work
  if lengths.has_logits:
    vocabulary = config.vocab_size / tensor(job)
    total += rows * written * vocabulary * (4 + item) * (2 if job.trains else 1)
  return int(total)


def tensor(job: Job) -> int:
  """Over how many devices the widths of a layer are split."""
  return job.layout.mesh.size // job.layout.data_parallel
