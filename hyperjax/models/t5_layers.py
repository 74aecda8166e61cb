"""The layers of T5: projections, attention, feed-forward, relative bias.

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
from flax import struct

from hyperjax import adapters, checks, sharding
from hyperjax.models import gathering
from hyperjax.models.attention import attention, relative_buckets

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


# One, or a gated product of two.
Activations = Annotated[Sequence[str], checks.Some(ACTIVATIONS, 1, 2)]
NumLayers = Annotated[int, checks.Whole(1, 1024)]
_Dtype = Annotated[str, checks.OneOf(checks.DTYPES)]
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
  weights. `remat` trades a second forward for memory.
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
    table_VD = gathering.gathered(
      self.embedding,
      self.dtype or self.param_dtype,
      (sharding.VOCAB, sharding.EMBED),
    )
    return constrain_rows(jnp.take(table_VD, inputs, axis=0))


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
    lora: adapters.Node | None = None,
    ia3: adapters.Node | None = None,
  ) -> jax.Array:
    init = nn.initializers.variance_scaling(
      self.init_scale, "fan_in", "truncated_normal"
    )
    kernel_DF = parameter(
      self,
      "kernel",
      init,
      self.axes,
      (x_BTD.shape[-1], self.features),
      self.config.param_dtype,
    )
    y_BTF = gathering.project(x_BTD, kernel_DF, self.axes)
    if lora is not None:
      y_BTF += lora(x_BTD)
    return y_BTF if ia3 is None else ia3(y_BTF)


@struct.dataclass
class KeyValue:
  """Keys and values of an attention site."""

  key: jax.Array  # [*L, B, S, H, K]
  value: jax.Array  # [*L, B, S, H, K]


class Attention(nn.Module):
  """Multi-head attention; its caller provides keys, values and bias."""

  config: T5Config

  def setup(self):
    config = self.config
    joined = config.num_heads * config.head_dim
    inward = (sharding.EMBED, sharding.JOINED_KV)
    # T5 folds attention's 1/sqrt(K) into the query's initial values.
    self.query = Dense(joined, inward, config, 1 / config.head_dim)
    self.key = Dense(joined, inward, config)
    self.value = Dense(joined, inward, config)
    self.out = Dense(
      config.emb_dim, (sharding.JOINED_KV, sharding.EMBED), config
    )
    self.dropout = Dropout(config.dropout_rate)

  def key_value(
    self, x_BSD: jax.Array, adapter: adapters.AttentionAdapter
  ) -> KeyValue:
    """Keys and values of `x_BSD`; prefixes are not among them."""
    return KeyValue(
      self._split(self.key(x_BSD, adapter.key, adapter.ia3_key)),
      self._split(self.value(x_BSD, adapter.value, adapter.ia3_value)),
    )

  def __call__(
    self,
    x_BTD: jax.Array,
    key_value: KeyValue,
    bias_BHTS: jax.Array,
    adapter: adapters.AttentionAdapter,
  ) -> jax.Array:
    """Attends from `x_BTD`; a whole multiple A of the rows of `key_value` may.

    Row b reads row b // A of `key_value`: since rows are contiguous, they are
    taken as further positions and nothing is repeated.
    """
    query_BTHK = self._split(self.query(x_BTD, adapter.query))
    key_BSHK, value_BSHK = key_value.key, key_value.value
    if adapter.prefix is not None:
      key_BSHK, value_BSHK, bias_BHTS = adapter.prefix(
        key_BSHK, value_BSHK, bias_BHTS
      )
    rows = len(key_BSHK)
    folded = query_BTHK.reshape(rows, -1, *query_BTHK.shape[2:])
    y_BTHK = attention(folded, key_BSHK, value_BSHK, bias_BHTS, self.dropout)
    y_BTF = y_BTHK.reshape(*x_BTD.shape[:2], -1)
    return self.out(y_BTF, adapter.out)

  def _split(self, x_BTF: jax.Array) -> jax.Array:
    heads = (self.config.num_heads, self.config.head_dim)
    x_BTHK = x_BTF.reshape(*x_BTF.shape[:2], *heads)
    return sharding.constrain(
      x_BTHK,
      sharding.BATCH,
      sharding.LENGTH,
      sharding.HEADS,
      sharding.KV,
    )


class Mlp(nn.Module):
  """The feed-forward layer: one activation (1.0) or a gated product (1.1)."""

  config: T5Config

  @nn.compact
  def __call__(
    self, x_BTD: jax.Array, adapter: adapters.MlpAdapter
  ) -> jax.Array:
    config = self.config
    inward = (sharding.EMBED, sharding.MLP)
    factors = []
    for i, activation in enumerate(config.mlp_activations):
      name = "wi" if len(config.mlp_activations) == 1 else f"wi_{i}"
      wi = Dense(config.mlp_dim, inward, config, name=name)
      factors.append(ACTIVATIONS[activation](wi(x_BTD, getattr(adapter, name))))
    product_BTF = functools.reduce(jnp.multiply, factors)
    product_BTF = sharding.constrain(
      product_BTF, sharding.BATCH, sharding.LENGTH, sharding.MLP
    )
    product_BTF = Dropout(config.dropout_rate)(product_BTF)
    if adapter.ia3_wo is not None:
      product_BTF = adapter.ia3_wo(product_BTF)
    outward = (sharding.MLP, sharding.EMBED)
    return Dense(config.emb_dim, outward, config, name="wo")(
      product_BTF, adapter.wo
    )


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
