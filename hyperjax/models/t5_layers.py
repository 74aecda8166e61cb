"""The layers of T5: projections, feed-forward, relative bias.

Numerics are T5's: no 1/sqrt(K) in attention, RMS norms, no biases (Raffel et
al., 2020; Shazeer, 2020 for the gated variant of 1.1).
Parameter names are t5x's, stacked over layers on axis 0. A module drops out
where it is applied with a "dropout" key, and is deterministic without.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hyperjax import adapters, checks, sharding
from hyperjax.models import gathering, quantizing
from hyperjax.models.attention import BACK_ENDS, back_end
from hyperjax.models.relative_buckets import relative_buckets

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
  "relu": jax.nn.relu,
  "gelu": lambda x: jax.nn.gelu(x, approximate=True),
  "gelu_exact": lambda x: jax.nn.gelu(x, approximate=False),
  "silu": jax.nn.silu,
  "linear": lambda x: x,
}

REMAT_POLICIES = {
  "none": None,
  "full": jax.checkpoint_policies.nothing_saveable,
  "minimal": jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
}


# Accelerators multiply float32 in fewer bits unless told: "highest" is float32.
PRECISIONS = ("default", "high", "highest")

# One, or a gated product of two.
Activations = Annotated[Sequence[str], checks.Some(ACTIVATIONS, 1, 2)]
NumLayers = Annotated[int, checks.Whole(1, 1024)]
Quantization = Annotated[str, checks.OneOf(quantizing.KEPT)]
_Dtype = Annotated[str, checks.OneOf(checks.DTYPES)]
# Layers that are unrolled on a CPU at most, and from which width on.
_SHALLOW, _WIDE = 8, 256
_Id = Annotated[int, checks.Whole(0)]


@dataclasses.dataclass(frozen=True)
class T5Config:
  """Sizes and numerics of a T5; field names are t5x's where it has one.

  `logits_via_embedding` ties the output to the input embedding and
  `scale_decoder_output` then multiplies decoder outputs by 1/sqrt(emb_dim): both
  in T5 1.0, neither in 1.1. With `relpos_per_layer` each layer has a relative
  position bias of its own, as in umT5; else a stack's layers share one. `start_id`
  is what a decoder reads first, any of `eos_ids` ends what it writes, and `pad_id`
  fills up rows. `dtype` is that of the arithmetic, `param_dtype` that of the
  weights. `remat` trades a second forward for memory. `attention` is what computes
  it; "auto" goes by the platform. `matmul_precision` is that of float32 products on
  accelerators. `scan_unroll` is how many layers are compiled one after another, at
  least; on a CPU it is all of a shallow stack. `quantization` is of a T5 that is not
  trained: with "int8" its projections are in eight bits but for the feed-forward
  layers' `wo`, with "int8_wo" those too.
  """

  vocab_size: checks.Size
  emb_dim: checks.Size
  num_heads: checks.Size
  head_dim: checks.Size
  mlp_dim: checks.Size
  num_encoder_layers: NumLayers
  num_decoder_layers: NumLayers
  mlp_activations: Activations = ("gelu", "linear")
  logits_via_embedding: bool = False
  scale_decoder_output: bool | None = None  # None: as logits_via_embedding
  # The encoder's buckets are halved by direction, then, as the decoder's, into
  # those of one distance each and those that grow by log(max distance / half).
  relpos_buckets: Annotated[int, checks.Whole(4, 2**16)] = 32
  relpos_max_distance: checks.MaxDistance = 128
  relpos_per_layer: bool = False
  layer_norm_epsilon: Annotated[float, checks.Number(above=0, most=1)] = 1e-6
  dropout_rate: Annotated[float, checks.Number(least=0, below=1)] = 0.0
  dtype: _Dtype = "float32"
  param_dtype: _Dtype = "float32"
  start_id: _Id = 0
  eos_ids: Sequence[_Id] = (1,)
  pad_id: _Id = 0
  remat: Annotated[str, checks.OneOf(REMAT_POLICIES)] = "none"
  scan_unroll: NumLayers = 1
  attention: Annotated[str, checks.OneOf(BACK_ENDS)] = "auto"
  matmul_precision: Annotated[str, checks.OneOf(PRECISIONS)] = "default"
  quantization: Quantization = quantizing.NONE

  def __post_init__(self):
    checks.fields(self)
    half = self.relpos_buckets // 2
    if self.relpos_max_distance <= half:
      raise ValueError(
        f"T5Config.relpos_max_distance is {self.relpos_max_distance}; it must be "
        f"above relpos_buckets // 2, which is {half}"
      )
    if not self.eos_ids:
      raise ValueError("T5Config.eos_ids must have one or more, got none")
    for name in ("start_id", "eos_ids", "pad_id"):
      value = getattr(self, name)
      highest = value if isinstance(value, int) else max(value)
      if highest >= self.vocab_size:
        raise ValueError(
          f"T5Config.{name} is {value!r}; it must be below vocab_size, which is "
          f"{self.vocab_size}"
        )

  @property
  def is_output_scaled(self) -> bool:
    """Whether decoder outputs are multiplied by 1/sqrt(emb_dim)."""
    if self.scale_decoder_output is None:
      return self.logits_via_embedding
    return self.scale_decoder_output

  def unroll(self, num_layers: int) -> int:
    """How many layers of a stack are compiled one after another.

    On a CPU all of a shallow one: a loop's weights and what it keeps are copied in
    and out at every turn. A narrow T5 takes longer to compile than that costs, and
    without the loop a compiler may keep what was to be computed again.
    """
    is_shallow = num_layers <= _SHALLOW and self.emb_dim >= _WIDE
    if is_shallow and self.remat == "none" and sharding.platform() == "cpu":
      return num_layers
    return self.scan_unroll

  def back_end(self, queries: int, keys: int) -> str:
    """What computes an attention of so many positions; a prefix is not counted."""
    return back_end(self.attention, self.dtype, self.head_dim, queries, keys)


def parameter(
  module: nn.Module,
  name: str,
  init: Callable[..., jax.Array],
  axes: Sequence[str | None],
  shape: Sequence[int],
  dtype: str,
) -> jax.Array:
  """A parameter of `module` whose logical axes are known."""
  boxed_init = nn.with_logical_partitioning(init, tuple(axes))
  value: Any = module.param(name, boxed_init, tuple(shape), dtype)
  return value


class Embedding(nn.Embed):
  """Token embeddings: a gather, whose gradient is a scatter."""

  def __call__(self, inputs: jax.Array) -> jax.Array:
    axes = (sharding.VOCAB, sharding.EMBED)
    dtype = self.dtype or self.param_dtype
    table_VD = self.embedding
    if gathering.is_gathered(axes):
      table_VD = gathering.gathered(table_VD, dtype, axes)
    # Rows, which are few, and their gradients' sum stays in the weights' type.
    rows_BTD = jnp.take(table_VD, inputs, axis=0).astype(dtype)
    return constrain_rows(rows_BTD)


class Dropout(nn.Module):
  """Drops the same units at every position, as T5 does (t5x's broadcast)."""

  rate: float
  broadcast_dim: int = -2

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    drop = nn.Dropout(self.rate, broadcast_dims=(self.broadcast_dim,))
    return drop(x, deterministic=not self.has_rng("dropout"))


class RelativeBias(nn.Module):
  """T5's relative position bias: one table, of a stack or of a layer."""

  config: T5Config
  bidirectional: bool

  @nn.compact
  def __call__(self, query_T: jax.Array, key_S: jax.Array) -> jax.Array:
    """[1, H, T, S], for positions that may be traced."""
    config = self.config
    table_HN = parameter(
      self,
      "rel_embedding",
      nn.initializers.variance_scaling(1.0, "fan_avg", "uniform"),
      (sharding.HEADS, sharding.RELPOS_BUCKETS),
      (config.num_heads, config.relpos_buckets),
      config.param_dtype,
    )
    buckets_TS = relative_buckets(
      key_S - query_T[:, None],
      self.bidirectional,
      config.relpos_buckets,
      config.relpos_max_distance,
    )
    return jnp.take(table_HN.astype(jnp.float32), buckets_TS, axis=1)[None]

  def by_distance(self, length: int) -> jax.Array:
    """[H, 2 T - 1], of `length` positions: by the key's less the query's."""
    return self(jnp.zeros(1, jnp.int32), jnp.arange(1 - length, length))[
      0, :, 0
    ]


class Dense(nn.Module):
  """A projection without bias, changed by the adapters of its place."""

  features: int
  axes: tuple[str, str]
  config: T5Config
  init_scale: float = 1.0

  @nn.compact
  def __call__(
    self,
    x_BTD: jax.Array,
    update_BTF: jax.Array | None = None,  # a LoRA's
    ia3: adapters.Node | None = None,
  ) -> jax.Array:
    kernel_DF, scale_F = self._weights(x_BTD.shape[-1])
    y_BTF = gathering.project(x_BTD, kernel_DF, self.axes, scale_F)
    if update_BTF is not None:
      y_BTF += update_BTF
    return y_BTF if ia3 is None else ia3(y_BTF)

  def _weights(self, width: int) -> tuple[jax.Array, jax.Array | None]:
    """The kernel, and its scale where it is in eight bits."""
    init: Any = nn.initializers.variance_scaling(
      self.init_scale, "fan_in", "truncated_normal"
    )
    dtype, of_scale = self.config.param_dtype, None
    if quantizing.is_quantized(self.config.quantization, self.name or ""):
      init, of_scale = quantizing.initializers(init, self.init_scale / width)
      dtype = "int8"
    shape = (width, self.features)
    kernel = parameter(self, quantizing.KERNEL, init, self.axes, shape, dtype)
    if of_scale is None:
      return kernel, None
    # Whole on every device, as those of norms.
    scale = parameter(
      *(self, quantizing.SCALE, of_scale),
      *((None,), (self.features,), "float32"),
    )
    return kernel, scale


class Mlp(nn.Module):
  """The feed-forward layer: one activation (1.0) or a gated product (1.1)."""

  config: T5Config

  @nn.compact
  def __call__(
    self, x_BTD: jax.Array, adapter: adapters.MlpAdapter
  ) -> jax.Array:
    config = self.config
    inward = (sharding.EMBED, sharding.MLP)
    names = ["wi"]
    if len(config.mlp_activations) > 1:
      names = [f"wi_{i}" for i in range(len(config.mlp_activations))]
    updates = adapters.updates([getattr(adapter, x) for x in names], x_BTD)
    factors = [
      ACTIVATIONS[activation](
        Dense(config.mlp_dim, inward, config, name=name)(x_BTD, update)
      )
      for name, activation, update in zip(
        names, config.mlp_activations, updates, strict=True
      )
    ]
    product_BTF = functools.reduce(jnp.multiply, factors)
    product_BTF = sharding.constrain(
      product_BTF, sharding.BATCH, sharding.LENGTH, sharding.MLP
    )
    product_BTF = Dropout(config.dropout_rate)(product_BTF)
    if adapter.ia3_wo is not None:
      product_BTF = adapter.ia3_wo(product_BTF)
    outward = (sharding.MLP, sharding.EMBED)
    [update] = adapters.updates([adapter.wo], product_BTF)
    wo = Dense(config.emb_dim, outward, config, name="wo")
    return wo(product_BTF, update)


def layer_norm(config: T5Config) -> nn.RMSNorm:
  return nn.RMSNorm(
    epsilon=config.layer_norm_epsilon,
    dtype=config.dtype,
    param_dtype=config.param_dtype,
    # Whole on every device: it is small, and gathering it takes as long as any.
    scale_init=nn.with_logical_partitioning(nn.initializers.ones, (None,)),
  )


def constrain_rows(x_BTD: jax.Array) -> jax.Array:
  return sharding.constrain(
    x_BTD, sharding.BATCH, sharding.LENGTH, sharding.EMBED
  )
