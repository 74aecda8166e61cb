"""Heads: from the hypermodel's slots to adapters, whatever their kind.

A head walks the spec's tree of leaves, so a new adapter kind needs no new head.
Slot p of a prefix is its position p at every site and layer; slot r of a LoRA is
its rank component r (Phang et al., 2022, section 3); a leaf with fewer has the
first. A leaf without slots is written from the mean of what the last hidden layer
gives of all. What a fresh head writes is spread as each leaf says, a LoRA's `up`
and IA3's scales not at all: it leaves the T5 as it is.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from hyperjax import adapters, sharding
from hyperjax.models import gathering
from hyperjax.models.t5_layers import T5Config, parameter

# The mean square of a GELU's output, for unit normal input and, of the shared
# head, for the sum of that and of two embeddings.
_OF_GELU, _OF_PLACED_GELU = 0.43, 0.67
_PLACE_STDDEV = 0.5  # of each of the two
_CONTEXT = (sharding.BATCH, sharding.SLOTS)


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

  def flops(self) -> int:
    """Of its matrix products, for one context."""
    raise NotImplementedError

  def _hidden(self, slots_CPD: jax.Array) -> jax.Array:
    return _Hidden(self.config, self.hidden_dim, name="hidden")(slots_CPD)

  def _walk(self, write: Callable[[str, Any], jax.Array]) -> adapters.Adapters:
    """The tree of what `write` gives of each path and leaf."""
    leaves = self.spec.leaves(self.backbone)
    written = [
      write(path, leaf) for path, leaf in adapters.path_leaves(leaves).items()
    ]
    return jax.tree.unflatten(jax.tree.structure(leaves), written)

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

  def _num_outputs(self) -> int:
    """Of all slots together."""
    leaves = jax.tree.leaves(self.spec.leaves(self.backbone))
    return sum(leaf.size for leaf in leaves)


# Of what a block reads, without its features, which are last; its parameters.
_Axes = tuple[str, ...]
_Block = tuple[jax.Array, jax.Array]


def _written(
  x: jax.Array, axes: _Axes, leaf: adapters.Leaf, block: _Block
) -> jax.Array:
  """A leaf by an output block, from features `x` with `axes` before them."""
  slots = axes.index(sharding.SLOTS)
  if sharding.SLOTS not in leaf.axes:
    x, axes = x.mean(axis=slots), axes[:slots] + axes[slots + 1 :]
  else:
    number = leaf.shape[leaf.axes.index(sharding.SLOTS)]
    x = jax.lax.slice_in_dim(x, 0, number, axis=slots)
  names = tuple(axis for axis in leaf.axes if axis not in axes)
  kernel, bias = block
  y = gathering.project(x, kernel, (sharding.HEAD_HIDDEN, *names))
  y = (y + gathering.gathered(bias, y.dtype, names)) * leaf.scale + leaf.mean
  written_axes = (*axes, *names)
  y = y.transpose([written_axes.index(axis) for axis in leaf.axes])
  return sharding.constrain(y, *leaf.axes)


class MlpHead(AdapterHead):
  """An MLP over each slot whose outputs are that slot's share of every leaf."""

  @nn.compact
  def __call__(self, slots_CPD: jax.Array) -> adapters.Adapters:
    features, mean_square = self._features(slots_CPD)
    fan_in = mean_square * self._num_features

    def write(path: str, leaf: adapters.Leaf) -> jax.Array:
      axes = _CONTEXT
      if sharding.SLOTS not in leaf.axes:
        axes = (sharding.BATCH,)
      block = self._block(path, axes, leaf, fan_in)
      return _written(features, _CONTEXT, leaf, block)

    return self._walk(write)

  def _features(self, slots_CPD: jax.Array) -> tuple[jax.Array, float]:
    """What output blocks read, and its mean square, untrained."""
    return jax.nn.gelu(self._hidden(slots_CPD)), _OF_GELU

  def flops(self) -> int:
    inward = self.config.emb_dim * self.hidden_dim
    outward = self._num_features * self._num_outputs()
    return 2 * (self.spec.num_slots * inward + outward)


class FactorisedHead(MlpHead):
  """The same, with a latent vector between the hidden layer and all outputs.

  So each of the many outputs takes as many weights as the latent is wide.
  """

  latent_dim: int = 32

  def _features(self, slots_CPD: jax.Array) -> tuple[jax.Array, float]:
    hidden_CPW, mean_square = super()._features(slots_CPD)
    latent = _Hidden(self.config, self.latent_dim, mean_square, name="latent")
    return latent(hidden_CPW), 1.0

  @property
  def _num_features(self) -> int:
    return self.latent_dim

  def flops(self) -> int:
    between = self.hidden_dim * self.latent_dim
    return super().flops() + 2 * self.spec.num_slots * between


class SharedHead(AdapterHead):
  """One MLP for every layer and site, told which by learned embeddings.

  As text-to-LoRA has it (Charakorn et al., 2025): what differs by place is a vector
  of a layer and one of a site, added before the nonlinearity, and the output
  blocks are those of the kinds of arrays: a LoRA's inward ones of one width, its
  outward ones, a prefix's keys. So it grows with the T5's width, not its depth.
  """

  @nn.compact
  def __call__(self, slots_CPD: jax.Array) -> adapters.Adapters:
    hidden_CPW = self._hidden(slots_CPD)
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

    return self._walk(write)

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

  def flops(self) -> int:
    inward = self.spec.num_slots * self.config.emb_dim * self.hidden_dim
    return 2 * (inward + self.hidden_dim * self._num_outputs())


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
