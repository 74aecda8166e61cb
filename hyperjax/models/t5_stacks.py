"""T5's encoder and decoder stacks: layers, scanned, with shared bias.

Each layer's weights lie on axis 0 of one array; `nn.scan` hands every layer its
own slice, and its slice of the adapters.
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

  def __call__(
    self,
    x_BSD: jax.Array,
    adapter: adapters.EncoderAdapter,
    relative_PHSS: jax.Array,  # of each part of the rows
    padding_B11S: jax.Array,
  ) -> tuple[jax.Array, None]:
    x_BSD = constrain_rows(x_BSD)
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

  def setup(self):
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


def _scan_layers(layer: Any, config: T5Config, length: int, in_axes: Any):
  """`layer` repeated `length` times, weights stacked on axis 0.

  `in_axes` gives, for each method, which arguments differ by layer (0).
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
  return nn.scan(layer, methods=methods)(config)


class Encoder(nn.Module):
  """T5's encoder stack, from embedded tokens to normed outputs."""

  config: T5Config

  def setup(self):
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
    positions_S = jnp.arange(x_BSD.shape[1])
    x_BSD, _ = self.layers(
      self.dropout(x_BSD),
      adapter,
      gathering.for_each_part(
        self.relpos_bias(positions_S, positions_S),
        len(mask_BS),
        (sharding.HEADS, sharding.LENGTH, sharding.KV),
      ),
      padding_bias(mask_BS),
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
    self.relpos_bias = RelativeBias(config, bidirectional=self.bidirectional)
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
    self_bias_1HTT = self.relpos_bias(positions_T, positions_T)
    if self.causal:
      self_bias_1HTT += causal_bias(positions_T, positions_T)
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
    here = index[None]
    self_bias_1H1T = self.relpos_bias(here, positions_T)
    self_bias_1H1T += causal_bias(here, positions_T)
    x_B1D, cached = self.layers.step(
      x_B1D,
      adapter,
      cached,
      cross,
      index,
      self_bias_1H1T,
      padding_bias(encoder_mask_BS),
    )
    return self.decoder_norm(x_B1D), cached

  def logits(self, y_BTD: jax.Array) -> jax.Array:
    """The untied output layer, in the dtype of `y_BTD`."""
    return self.logits_dense(y_BTD)
