"""Heads: from the hypermodel's slots to adapters, whatever their kind.

A head walks the spec's tree of leaves, so a new adapter kind needs no new head.
Slot p of a prefix is its position p at every site and layer; slot r of a LoRA is
its rank component r (Phang et al., 2022, section 3); a leaf with fewer has the
first. A leaf without slots is written from the mean of what the last hidden layer
gives of all. Position s of a memory is what the encoder gave of token s, and what a
head of the same kind makes of that is added. What a fresh head writes is spread as
each leaf says, a LoRA's `up` and IA3's scales not at all: it leaves the T5 as it is.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from hyperjax import adapters, sharding
from hyperjax.models import gathering
from hyperjax.models.t5_layers import T5Config, parameter

# The mean square of a GELU's output, for unit normal input and, of the shared
# head, for the sum of that and of two embeddings.
_OF_GELU, _OF_PLACED_GELU = 0.43, 0.67
_PLACE_STDDEV = 0.5  # of each of the two
_CONTEXT = (sharding.BATCH, sharding.SLOTS)
_READ = (sharding.BATCH, sharding.LENGTH)


class Read(NamedTuple):
  """What the hypermodel's encoder gave of the demonstrations."""

  encoded: jax.Array  # [C, S, D]
  mask: jax.Array  # [C, S]


class _Hidden(nn.Module):
  """A projection with a bias."""

  config: T5Config
  features: int
  mean_square: float = 1.0  # of what it reads

  @nn.compact
  def __call__(self, x_CPD: jax.Array) -> jax.Array:
    axes = (sharding.EMBED, sharding.HEAD_HIDDEN)
    kernel_DW = parameter(
      self,
      "kernel",
      nn.initializers.variance_scaling(
        1 / self.mean_square, "fan_in", "truncated_normal"
      ),
      axes,
      (x_CPD.shape[-1], self.features),
      self.config.param_dtype,
    )
    bias_W = parameter(
      self,
      "bias",
      nn.initializers.zeros,
      (None,),  # whole, as all that is so small
      (self.features,),
      self.config.param_dtype,
    )
    x_CPD = x_CPD.astype(self.config.dtype)
    y_CPW = gathering.project(x_CPD, kernel_DW, axes)
    return y_CPW + bias_W.astype(y_CPW.dtype)


class AdapterHead(nn.Module):
  """What all heads have: a hidden layer, and how a leaf is written."""

  spec: adapters.Spec
  backbone: T5Config
  config: T5Config  # of the hypermodel: dtype
  hidden_dim: int

  def flops(self, read: int) -> int:
    """Of its matrix products, for one context of `read` encoded positions."""
    raise NotImplementedError

  def _hidden(self, x_CPD: jax.Array, name: str = "") -> jax.Array:
    return _Hidden(self.config, self.hidden_dim, name=f"{name}hidden")(x_CPD)

  def _features(
    self, x_CPD: jax.Array, name: str = ""
  ) -> tuple[jax.Array, float]:
    """What output blocks read, and its mean square, untrained."""
    return jax.nn.gelu(self._hidden(x_CPD, name)), _OF_GELU

  def _walk(
    self, write: Callable[[str, Any], jax.Array], read: "Read | None"
  ) -> adapters.Adapters:
    """The tree of what `write` gives of each path and leaf, but of a memory."""
    leaves = self.spec.leaves(self.backbone)
    written = [
      self._remembered(path, leaf, read)
      if read is not None and sharding.LENGTH in leaf.axes
      else write(path, leaf)
      for path, leaf in adapters.path_leaves(leaves).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(leaves), written)

  def _remembered(
    self, path: str, leaf: adapters.Leaf, read: "Read"
  ) -> jax.Array:
    """What was read, and what is made of each position: at first nothing."""
    features, _ = self._features(read.encoded, "memory_")
    nothing = dataclasses.replace(leaf, stddev=0.0)
    block = self._block(path, _READ, nothing, 1.0)
    change = _written(features, _READ, leaf, block)[0]
    return _kept(read.encoded + change, leaf, read.mask)

  def _block(
    self, name: str, axes: "_Axes", leaf: adapters.Leaf, fan_in: float
  ) -> "_Block":
    """The parameters, by name, that write what of a leaf `axes` do not have.

    Args:
      name: of the block.
      axes: of what it reads.
      leaf: which.
      fan_in: features that it reads, times their mean square.
    """
    own = [
      (size, axis)
      for size, axis in zip(leaf.shape, leaf.axes, strict=True)
      if axis not in axes
    ]
    sizes = tuple(size for size, _ in own)
    names = tuple(axis for _, axis in own)
    return parameter(
      self,
      f"{name}.kernel",
      nn.initializers.normal(leaf.stddev / math.sqrt(fan_in)),
      (sharding.HEAD_HIDDEN, *names),
      (self._num_features, *sizes),
      self.config.param_dtype,
    ), parameter(
      self,
      f"{name}.bias",
      nn.initializers.zeros,
      names,
      sizes,
      self.config.param_dtype,
    )

  @property
  def _num_features(self) -> int:
    """That output blocks read."""
    return self.hidden_dim

  def _num_positions(self, read: int) -> int:
    """Slots, and positions of a memory if there is one."""
    return self.spec.num_slots + (read if self.spec.keeps_read else 0)

  def _num_outputs(self, read: int) -> int:
    """Of all of them together."""
    total = 0
    for leaf in jax.tree.leaves(self.spec.leaves(self.backbone)):
      if sharding.LENGTH in leaf.axes:
        total += leaf.size // leaf.shape[_position(leaf)] * read
      else:
        total += leaf.size
    return total


# Of what a block reads, without its features, which are last; its parameters.
_Axes = tuple[str, ...]
_Block = tuple[jax.Array, jax.Array]


def _written(
  x: jax.Array, axes: _Axes, leaf: adapters.Leaf, block: _Block
) -> jax.Array:
  """A leaf by an output block, from features `x` with `axes` before them."""
  slots = axes.index(sharding.SLOTS) if sharding.SLOTS in axes else None
  if slots is not None and sharding.SLOTS not in leaf.axes:
    x, axes = x.mean(axis=slots), axes[:slots] + axes[slots + 1 :]
  elif slots is not None:
    number = leaf.shape[leaf.axes.index(sharding.SLOTS)]
    x = jax.lax.slice_in_dim(x, 0, number, axis=slots)
  names = tuple(axis for axis in leaf.axes if axis not in axes)
  kernel, bias = block
  y = gathering.project(x, kernel, (sharding.HEAD_HIDDEN, *names))
  y = (y + gathering.gathered(bias, y.dtype, names)) * leaf.scale + leaf.mean
  written_axes = (*axes, *names)
  y = y.transpose([written_axes.index(axis) for axis in leaf.axes])
  return sharding.constrain(y, *leaf.axes)


def _position(leaf: adapters.Leaf) -> int:
  return leaf.axes.index(sharding.LENGTH)


def _kept(
  states_CSD: jax.Array, leaf: adapters.Leaf, mask_CS: jax.Array
) -> jax.Array:
  """The leaf of a memory, [1, C, M, D], filled up with zeros.

  Of more tokens than there are positions it has the first.
  """
  states_CSD = jnp.where(mask_CS[..., None], states_CSD, 0)
  most, length = leaf.shape[_position(leaf)], states_CSD.shape[1]
  if length > most:
    first_CM = jnp.argsort(~mask_CS, axis=1, stable=True)[:, :most]
    states_CSD = jnp.take_along_axis(states_CSD, first_CM[..., None], axis=1)
  filling = ((0, 0), (0, max(0, most - length)), (0, 0))
  return sharding.constrain(jnp.pad(states_CSD, filling)[None], *leaf.axes)


class MlpHead(AdapterHead):
  """An MLP over each slot whose outputs are that slot's share of every leaf."""

  @nn.compact
  def __call__(
    self, slots_CPD: jax.Array | None, read: Read | None = None
  ) -> adapters.Adapters:
    features: Any = None
    mean_square = 1.0
    if slots_CPD is not None:
      features, mean_square = self._features(slots_CPD)

    def write(path: str, leaf: adapters.Leaf) -> jax.Array:
      axes = _CONTEXT
      if sharding.SLOTS not in leaf.axes:
        axes = (sharding.BATCH,)
      fan_in = mean_square * self._num_features
      block = self._block(path, axes, leaf, fan_in)
      return _written(features, _CONTEXT, leaf, block)

    return self._walk(write, read)

  def flops(self, read: int) -> int:
    inward = self.config.emb_dim * self.hidden_dim
    outward = self._num_features * self._num_outputs(read)
    return 2 * (self._num_positions(read) * inward + outward)


class FactorisedHead(MlpHead):
  """The same, with a latent vector between the hidden layer and all outputs.

  So each of the many outputs takes as many weights as the latent is wide.
  """

  latent_dim: int = 32

  def _features(
    self, x_CPD: jax.Array, name: str = ""
  ) -> tuple[jax.Array, float]:
    hidden_CPW, mean_square = super()._features(x_CPD, name)
    latent = _Hidden(
      self.config, self.latent_dim, mean_square, name=f"{name}latent"
    )
    return latent(hidden_CPW), 1.0

  @property
  def _num_features(self) -> int:
    return self.latent_dim

  def flops(self, read: int) -> int:
    between = self.hidden_dim * self.latent_dim
    return super().flops(read) + 2 * self._num_positions(read) * between


class SharedHead(AdapterHead):
  """One MLP for every layer and site, told which by learned embeddings.

  As text-to-LoRA has it (Charakorn et al., 2025): what differs by place is a vector
  of a layer and one of a site, added before the nonlinearity, and the output
  blocks are those of the kinds of arrays: a LoRA's inward ones of one width, its
  outward ones, a prefix's keys. So it grows with the T5's width, not its depth.
  """

  @nn.compact
  def __call__(
    self, slots_CPD: jax.Array | None, read: Read | None = None
  ) -> adapters.Adapters:
    hidden_CPW: Any = None if slots_CPD is None else self._hidden(slots_CPD)
    axes = (*_CONTEXT, sharding.LAYERS)
    fan_in = _OF_PLACED_GELU * self._num_features
    layers: dict[str, jax.Array] = {}
    blocks: dict[str, _Block] = {}

    def write(path: str, leaf: adapters.Leaf) -> jax.Array:
      stack, name = path.split(".")[0], _kind(path, leaf)
      if stack not in layers:
        layers[stack] = self._embedding(f"{stack}.layers", leaf.shape[0])
      if name not in blocks:
        blocks[name] = self._block(name, axes, leaf, fan_in)
      place_LW = layers[stack] + self._embedding(f"{path}.site", 1)
      features_CPLW = jax.nn.gelu(hidden_CPW[:, :, None] + place_LW)
      return _written(features_CPLW, axes, leaf, blocks[name])

    return self._walk(write, read)

  def _embedding(self, name: str, number: int) -> jax.Array:
    table_NW = parameter(
      self,
      name,
      nn.initializers.normal(_PLACE_STDDEV),
      (None, None),  # whole, as all that is so small
      (number, self.hidden_dim),
      self.config.param_dtype,
    )
    return table_NW.astype(self.config.dtype)

  def flops(self, read: int) -> int:
    inward = self.config.emb_dim * self.hidden_dim
    outward = self.hidden_dim * self._num_outputs(read)
    return 2 * (self._num_positions(read) * inward + outward)


def _kind(path: str, leaf: adapters.Leaf) -> str:
  """What leaves share an output block: an array's name, and its own axes."""
  shared = (sharding.LAYERS, *_CONTEXT)
  own = [axis for axis in leaf.axes if axis not in shared]
  return ".".join([path.rpartition(".")[2], *own])


# By the names that `HyperT5Config.head` takes.
HEADS: dict[str, type[AdapterHead]] = {
  "mlp": MlpHead,
  "factorised": FactorisedHead,
  "shared": SharedHead,
}
