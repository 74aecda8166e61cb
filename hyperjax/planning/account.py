"""What lies on a device, by arithmetic: shapes, dtypes and the mesh, no compiler."""

import math

import jax
import jax.numpy as jnp

from hyperjax import sharding
from hyperjax.planning import passes
from hyperjax.planning.jobs import Job
from hyperjax.planning.passes import Pass


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
  the logits with their gradient; of a pass without a gradient its logits stay. For
  ranking settings: the compiler knows better.
  """
  alone = stays = through = 0
  for one in passes.of(job):
    if one.goes_back or not job.trains:
      through += _of_pass(job, one)
    else:
      alone = max(alone, _of_pass(job, one))
      stays += _logits(job, one)
  return max(through, alone) + stays


def _batch(job: Job) -> int:
  parts = job.layout.data_parallel
  leaves = jax.tree.leaves(job.batch)
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves) // parts


def _rows(job: Job, one: Pass) -> int:
  """Of a device's microbatch."""
  parts = job.layout.data_parallel * job.num_microbatches
  return -(-one.rows // parts)


def _of_pass(job: Job, one: Pass) -> int:
  config, rows = one.config, _rows(job, one)
  item = jnp.dtype(config.dtype).itemsize
  heads = config.num_heads / tensor(job)
  wide = config.mlp_dim / tensor(job) * len(config.mlp_activations)
  joined = heads * config.head_dim

  def layer(length: int, other: int) -> float:
    """Everything that a layer computes, scores in float32 and again to use."""
    values = length * (6 * config.emb_dim + 4 * joined + 2 * wide) * item
    return rows * (values + length * other * heads * (4 + item))

  def kept(length: int, other: int) -> float:
    if config.remat == "full":
      return rows * length * config.emb_dim * item
    whole = layer(length, other)
    if config.remat == "minimal":  # all products but those of attention
      whole -= rows * length * other * heads * (4 + item)
    return whole

  read, written = one.read, one.written
  stacks = (
    (config.num_encoder_layers, one.encoder_goes_back, read, read),
    (config.num_decoder_layers, one.goes_back, written, read + written),
  )
  total = sum(count * kept(*own) for count, goes, *own in stacks if goes)
  work = max(layer(*own) for _, _, *own in stacks)
  total += (3 if one.goes_back else 1) * work
  return int(total) + (2 if one.goes_back else 1) * _logits(job, one)


def _logits(job: Job, one: Pass) -> int:
  """In float32, and as they are computed."""
  if not one.has_logits:
    return 0
  item = jnp.dtype(one.config.dtype).itemsize
  vocabulary = one.config.vocab_size / tensor(job)
  return int(_rows(job, one) * one.written * vocabulary * (4 + item))


def tensor(job: Job) -> int:
  """Over how many devices the widths of a layer are split."""
  return job.layout.mesh.size // job.layout.data_parallel
