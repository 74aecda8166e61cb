"""Heads: from the hypermodel's slots to adapters, whatever their kind.

A head walks the spec's tree of leaves. It has one hidden layer and one output
block per leaf, so a new adapter kind needs no new head.
"""

import math

import jax
from flax import linen as nn

from hyperjax import adapters, sharding
from hyperjax.models import gathering
from hyperjax.models.t5_layers import T5Config, parameter


class _Hidden(nn.Module):
  """A projection with a bias."""

  config: T5Config
  features: int

  @nn.compact
  def __call__(self, x_CPD: jax.Array) -> jax.Array:
    axes = (sharding.EMBED, sharding.HEAD_HIDDEN)
    kernel_DW = parameter(
      self,
      "kernel",
      nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal"),
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
  """An MLP over each slot whose outputs are that slot's share of every leaf.

  Slot p of a prefix is its position p at every site and layer; slot r of a
  LoRA is its rank component r (Phang et al., 2022, section 3); a leaf with fewer
  has the first. A leaf without slots is written from the mean of what the hidden
  layer gives of all.
  """

  spec: adapters.Spec
  backbone: T5Config
  config: T5Config  # of the hypermodel: dtype
  hidden_dim: int

  @nn.compact
  def __call__(self, slots_CPD: jax.Array) -> adapters.Adapters:
    hidden_CPW = jax.nn.gelu(
      _Hidden(self.config, self.hidden_dim, name="hidden")(slots_CPD)
    )
    leaves = self.spec.leaves(self.backbone)
    paths = adapters.path_leaves(leaves)
    written = [
      self._write(hidden_CPW, path, leaf) for path, leaf in paths.items()
    ]
    return jax.tree.unflatten(jax.tree.structure(leaves), written)

  def _write(
    self, hidden_CPW: jax.Array, path: str, leaf: adapters.Leaf
  ) -> jax.Array:
    """One leaf: every axis but context and slot is in the block's kernel."""
    read_axes = (sharding.BATCH, sharding.SLOTS)
    if sharding.SLOTS not in leaf.axes:
      hidden_CPW, read_axes = hidden_CPW.mean(axis=1), (sharding.BATCH,)
    else:
      hidden_CPW = hidden_CPW[:, : leaf.shape[leaf.axes.index(sharding.SLOTS)]]
    own = [
      (size, name)
      for size, name in zip(leaf.shape, leaf.axes, strict=True)
      if name not in read_axes
    ]
    sizes = tuple(size for size, _ in own)
    names = tuple(name for _, name in own)
    # A GELU's output has a mean square of about 0.43 for unit normal input.
    stddev = leaf.stddev / math.sqrt(0.43 * self.hidden_dim)
    kernel = parameter(
      self,
      f"{path}.kernel",
      nn.initializers.normal(stddev),
      (sharding.HEAD_HIDDEN, *names),
      (self.hidden_dim, *sizes),
      self.config.param_dtype,
    )
    bias = parameter(
      self,
      f"{path}.bias",
      nn.initializers.zeros,
      names,
      sizes,
      self.config.param_dtype,
    )
    y = gathering.project(hidden_CPW, kernel, (sharding.HEAD_HIDDEN, *names))
    y = (y + gathering.gathered(bias, y.dtype, names)) * leaf.scale + leaf.mean
    written_axes = (*read_axes, *names)
    y = y.transpose([written_axes.index(name) for name in leaf.axes])
    return sharding.constrain(y, *leaf.axes)
