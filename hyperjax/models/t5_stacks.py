"""T5's encoder and decoder stacks: layers, scanned.

Each layer's weights lie on axis 0 of one array; `nn.scan` hands every layer its
own slice, and its slice of the adapters. What layers share of their attention's
bias is computed once, outside the scan; what is a layer's own, in the layer.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hyperjax import adapters, sharding
from hyperjax.models import gathering
from hyperjax.models.attention import causal_bias, padding_bias
from hyperjax.models.t5_layers import (
  REMAT_POLICIES,
  Attention,
  Dense,
  Dropout,
  KeyValue,
  Mlp,
  RelativeBias,
  T5Config,
  constrain_rows,
  layer_norm,
)


class EncoderLayer(nn.Module):
  config: T5Config

  def setup(self):
    self.pre_attention_layer_norm = layer_norm(self.config)
    self.attention = Attention(self.config)
    self.pre_mlp_layer_norm = layer_norm(self.config)
    self.mlp = Mlp(self.config)
    self.dropout = Dropout(self.config.dropout_rate)
    if self.config.relpos_per_layer:
      self.relpos_bias = RelativeBias(self.config, bidirectional=True)

  def __call__(
    self,
    x_BSD: jax.Array,
    adapter: adapters.EncoderAdapter,
    relative_PHSS: jax.Array | None,  # of each part of the rows, if shared
    padding_B11S: jax.Array,
  ) -> tuple[jax.Array, None]:
    x_BSD = constrain_rows(x_BSD)
    if relative_PHSS is None:
      relative_PHSS = encoder_bias(self.relpos_bias, x_BSD)
    normed_BSD = self.pre_attention_layer_norm(x_BSD)
    y_BSD = self.attention(
      normed_BSD,
      self.attention.key_value(normed_BSD, adapter.attention),
      # Added here, not once outside: the sum is B times as large.
      gathering.add_to_rows(relative_PHSS, padding_B11S),
      adapter.attention,
    )
    x_BSD += self.dropout(y_BSD)
    y_BSD = self.mlp(self.pre_mlp_layer_norm(x_BSD), adapter.mlp)
    return x_BSD + self.dropout(y_BSD), None


class DecoderLayer(nn.Module):
  config: T5Config
  bidirectional: bool = False

  def setup(self):
    if self.config.relpos_per_layer:
      self.relpos_bias = RelativeBias(self.config, self.bidirectional)
    self.pre_self_attention_layer_norm = layer_norm(self.config)
    self.self_attention = Attention(self.config)
    self.pre_cross_attention_layer_norm = layer_norm(self.config)
    self.encoder_decoder_attention = Attention(self.config)
    self.pre_mlp_layer_norm = layer_norm(self.config)
    self.mlp = Mlp(self.config)
    self.dropout = Dropout(self.config.dropout_rate)

  def cross_key_value(
    self, encoded_BSD: jax.Array, adapter: adapters.DecoderAdapter
  ) -> tuple[jax.Array, KeyValue]:
    """Keys and values of the encoder's output, computed once per decode."""
    return encoded_BSD, self.encoder_decoder_attention.key_value(
      encoded_BSD, adapter.encoder_decoder_attention
    )

  def __call__(
    self,
    x_BTD: jax.Array,
    adapter: adapters.DecoderAdapter,
    encoded_BSD: jax.Array,
    self_bias_1HTT: jax.Array,
    cross_bias_B11S: jax.Array,
  ) -> tuple[jax.Array, None]:
    positions_T = jnp.arange(x_BTD.shape[1])
    self_bias_1HTT = self._with_own(self_bias_1HTT, positions_T, positions_T)
    normed_BTD = self.pre_self_attention_layer_norm(constrain_rows(x_BTD))
    own = self.self_attention.key_value(normed_BTD, adapter.self_attention)
    _, cross = self.cross_key_value(encoded_BSD, adapter)
    x_BTD = self._layer(
      x_BTD, normed_BTD, adapter, own, cross, self_bias_1HTT, cross_bias_B11S
    )
    return x_BTD, None

  def step(
    self,
    x_B1D: jax.Array,
    adapter: adapters.DecoderAdapter,
    cached: KeyValue,
    cross: KeyValue,
    index: jax.Array,
    self_bias_1H1T: jax.Array,
    cross_bias_B11S: jax.Array,
  ) -> tuple[jax.Array, KeyValue]:
    """One position, its key and value written into `cached` at `index`."""
    positions_T = jnp.arange(cached.key.shape[1])
    self_bias_1H1T = self._with_own(self_bias_1H1T, index[None], positions_T)
    normed_B1D = self.pre_self_attention_layer_norm(constrain_rows(x_B1D))
    own = self.self_attention.key_value(normed_B1D, adapter.self_attention)
    cached = jax.tree.map(
      lambda all_BTHK, new_B1HK: jax.lax.dynamic_update_slice_in_dim(
        all_BTHK, new_B1HK, index, axis=1
      ),
      cached,
      own,
    )
    x_B1D = self._layer(
      x_B1D,
      normed_B1D,
      adapter,
      cached,
      cross,
      self_bias_1H1T,
      cross_bias_B11S,
    )
    return x_B1D, cached

  def _with_own(
    self, shared: jax.Array, query_T: jax.Array, key_S: jax.Array
  ) -> jax.Array:
    """The bias that all layers have, and this one's where it has one."""
    if not self.config.relpos_per_layer:
      return shared
    return shared + self.relpos_bias(query_T, key_S)

  def _layer(
    self, x_BTD, normed_BTD, adapter, own, cross, self_bias, cross_bias
  ) -> jax.Array:
    y_BTD = self.self_attention(
      normed_BTD, own, self_bias, adapter.self_attention
    )
    x_BTD += self.dropout(y_BTD)
    y_BTD = self.encoder_decoder_attention(
      self.pre_cross_attention_layer_norm(x_BTD),
      cross,
      cross_bias,
      adapter.encoder_decoder_attention,
    )
    x_BTD += self.dropout(y_BTD)
    y_BTD = self.mlp(self.pre_mlp_layer_norm(x_BTD), adapter.mlp)
    return x_BTD + self.dropout(y_BTD)


def encoder_bias(relpos_bias: RelativeBias, x_BSD: jax.Array) -> jax.Array:
  """[P, H, S, S]: the bias of a bidirectional attention, for each part of rows."""
  positions_S = jnp.arange(x_BSD.shape[1])
  return gathering.for_each_part(
    relpos_bias(positions_S, positions_S),
    len(x_BSD),
    (sharding.HEADS, sharding.LENGTH, sharding.KV),
  )


def _scan_layers(
  layer: Any, config: T5Config, length: int, in_axes: Any, **fields: Any
):
  """`layer` repeated `length` times, weights stacked on axis 0.

  `in_axes` gives, for each method, which arguments differ by layer (0), `fields`
  what a layer has besides its configuration.
  """
  if config.remat != "none":
    layer = nn.remat(
      layer, prevent_cse=False, policy=REMAT_POLICIES[config.remat]
    )
  shared = {
    "variable_axes": {"params": 0},
    "split_rngs": {"params": True, "dropout": True},
    "length": length,
    "unroll": config.scan_unroll,
    "metadata_params": {nn.PARTITION_NAME: sharding.LAYERS},
  }
  methods = {name: shared | {"in_axes": axes} for name, axes in in_axes.items()}
  return nn.scan(layer, methods=methods)(config, **fields)


class Encoder(nn.Module):
  """T5's encoder stack, from embedded tokens to normed outputs."""

  config: T5Config

  def setup(self):
    if not self.config.relpos_per_layer:
      self.relpos_bias = RelativeBias(self.config, bidirectional=True)
    self.layers = _scan_layers(
      EncoderLayer,
      self.config,
      self.config.num_encoder_layers,
      {"__call__": (0, nn.broadcast, nn.broadcast)},
    )
    self.encoder_norm = layer_norm(self.config)
    self.dropout = Dropout(self.config.dropout_rate)

  def __call__(
    self,
    x_BSD: jax.Array,
    mask_BS: jax.Array,
    adapter: adapters.EncoderAdapter,
  ) -> jax.Array:
    relative_PHSS = None
    if not self.config.relpos_per_layer:
      relative_PHSS = encoder_bias(self.relpos_bias, x_BSD)
    x_BSD, _ = self.layers(
      self.dropout(x_BSD), adapter, relative_PHSS, padding_bias(mask_BS)
    )
    return self.dropout(self.encoder_norm(x_BSD))


class Decoder(nn.Module):
  """T5's decoder stack, from embedded tokens to normed outputs or logits.

  The hypermodel's decoder is this stack without the causal mask and without
  an output layer. `bidirectional` buckets tell later from earlier positions.
  """

  config: T5Config
  causal: bool = True
  bidirectional: bool = False
  has_logits: bool = True

  def setup(self):
    config = self.config
    if not config.relpos_per_layer:
      self.relpos_bias = RelativeBias(config, self.bidirectional)
    shared = nn.broadcast
    self.layers = _scan_layers(
      DecoderLayer,
      config,
      config.num_decoder_layers,
      {
        "__call__": (0, shared, shared, shared),
        "cross_key_value": (0,),
        "step": (0, 0, 0, shared, shared, shared),
      },
      bidirectional=self.bidirectional,
    )
    self.decoder_norm = layer_norm(config)
    self.dropout = Dropout(config.dropout_rate)
    if self.has_logits and not config.logits_via_embedding:
      self.logits_dense = Dense(
        config.vocab_size, (sharding.EMBED, sharding.VOCAB), config
      )

  def __call__(
    self,
    x_BTD: jax.Array,
    encoded_BSD: jax.Array,
    encoder_mask_BS: jax.Array,
    adapter: adapters.DecoderAdapter,
  ) -> jax.Array:
    positions_T = jnp.arange(x_BTD.shape[1])
    self_bias_1HTT = self._shared_bias(positions_T, positions_T)
    x_BTD, _ = self.layers(
      self.dropout(x_BTD),
      adapter,
      encoded_BSD,
      self_bias_1HTT,
      padding_bias(encoder_mask_BS),
    )
    return self.dropout(self.decoder_norm(x_BTD))

  def cross_key_value(
    self, encoded_BSD: jax.Array, adapter: adapters.DecoderAdapter
  ) -> KeyValue:
    _, cross = self.layers.cross_key_value(encoded_BSD, adapter)
    return cross

  def step(
    self,
    x_B1D: jax.Array,
    cached: KeyValue,
    cross: KeyValue,
    index: jax.Array,
    encoder_mask_BS: jax.Array,
    adapter: adapters.DecoderAdapter,
  ) -> tuple[jax.Array, KeyValue]:
    """Normed output of one position, and the cache with it written."""
    positions_T = jnp.arange(cached.key.shape[2])
    x_B1D, cached = self.layers.step(
      x_B1D,
      adapter,
      cached,
      cross,
      index,
      self._shared_bias(index[None], positions_T),
      padding_bias(encoder_mask_BS),
    )
    return self.decoder_norm(x_B1D), cached

  def _shared_bias(self, query_T: jax.Array, key_S: jax.Array) -> jax.Array:
    """Of the self-attention of every layer: [1, H or 1, T, S]."""
    biases = []
    if not self.config.relpos_per_layer:
      biases.append(self.relpos_bias(query_T, key_S))
    if self.causal:
      biases.append(causal_bias(query_T, key_S))
    return sum(biases[1:], biases[0]) if biases else jnp.zeros((1, 1, 1, 1))

  def logits(self, y_BTD: jax.Array) -> jax.Array:
    """The untied output layer, in the dtype of `y_BTD`."""
    return self.logits_dense(y_BTD)
