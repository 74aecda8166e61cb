"""T5's encoder and decoder stacks: layers, scanned.

Each layer's weights lie on axis 0 of one array; `nn.scan` hands every layer its
own slice, and its slice of the adapters. What layers share of their attention's
bias is computed once, outside the scan; what is a layer's own, in the layer.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from hyperjax import adapters, sharding
from hyperjax.models import attention, gathering
from hyperjax.models.t5_attention import Attention, visible
from hyperjax.models.t5_layers import (
  REMAT_POLICIES,
  Dense,
  Dropout,
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
    bias: attention.Bias,  # what all layers have
  ) -> tuple[jax.Array, None]:
    x_BSD = constrain_rows(x_BSD)
    if self.config.relpos_per_layer:
      bias = bias.with_own(encoder_bias(self.relpos_bias, x_BSD))
    normed_BSD = self.pre_attention_layer_norm(x_BSD)
    own = self.attention.query_key_value(normed_BSD, adapter.attention)
    y_BSD = self.attention(*own, bias, adapter.attention)
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

  def __call__(
    self,
    x_BTD: jax.Array,
    adapter: adapters.DecoderAdapter,
    encoded_BSD: jax.Array,
    memory: adapters.Memory | None,
    self_bias: attention.Bias,
    cross_bias: attention.Bias,
  ) -> tuple[jax.Array, None]:
    if self.config.relpos_per_layer:
      length = x_BTD.shape[1]
      distances_HN = self.relpos_bias.by_distance(length)
      self_bias = self_bias.with_own(
        attention.positioned(distances_HN, length, self_bias.back_end)
      )
    normed_BTD = self.pre_self_attention_layer_norm(constrain_rows(x_BTD))
    query_BTHK, own = self.self_attention.query_key_value(
      normed_BTD, adapter.self_attention
    )
    of_cross = adapter.encoder_decoder_attention
    cross = self.encoder_decoder_attention.key_value(
      encoded_BSD, of_cross, memory
    )
    y_BTD = self.self_attention(
      query_BTHK, own, self_bias, adapter.self_attention
    )
    x_BTD += self.dropout(y_BTD)
    query_BTHK = self.encoder_decoder_attention.query_of(
      self.pre_cross_attention_layer_norm(x_BTD), of_cross
    )
    y_BTD = self.encoder_decoder_attention(
      query_BTHK, cross, cross_bias, of_cross
    )
    x_BTD += self.dropout(y_BTD)
    y_BTD = self.mlp(self.pre_mlp_layer_norm(x_BTD), adapter.mlp)
    return x_BTD + self.dropout(y_BTD), None


def encoder_bias(relpos_bias: RelativeBias, x_BSD: jax.Array) -> attention.Bias:
  """Of a bidirectional attention; pairs once for each part of the rows."""
  rows, length = x_BSD.shape[:2]
  chosen = relpos_bias.config.back_end(length, length)
  bias = attention.positioned(relpos_bias.by_distance(length), length, chosen)
  if bias.pairs is None:
    return bias
  axes = (sharding.HEADS, sharding.LENGTH, sharding.KV)
  return dataclasses.replace(
    bias, pairs=gathering.for_each_part(bias.pairs, rows, axes)
  )


def _scan_layers(
  layer: Any, config: T5Config, length: int, in_axes: Any, **fields: Any
):
  """`layer` repeated `length` times, weights stacked on axis 0.

  `in_axes` gives which arguments differ by layer (0), `fields` what a layer has
  besides its configuration.
  """
  if config.remat != "none":
    layer = nn.remat(
      layer, prevent_cse=False, policy=REMAT_POLICIES[config.remat]
    )
  scanned = nn.scan(
    layer,
    variable_axes={"params": 0},
    split_rngs={"params": True, "dropout": True},
    in_axes=in_axes,
    length=length,
    unroll=config.unroll(length),
    metadata_params={nn.PARTITION_NAME: sharding.LAYERS},
  )
  return scanned(config, **fields)


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
      (0, nn.broadcast),
    )
    self.encoder_norm = layer_norm(self.config)
    self.dropout = Dropout(self.config.dropout_rate)

  def __call__(
    self,
    x_BSD: jax.Array,
    mask_BS: jax.Array,
    adapter: adapters.EncoderAdapter,
  ) -> jax.Array:
    length = x_BSD.shape[1]
    bias = attention.Bias(back_end=self.config.back_end(length, length))
    if not self.config.relpos_per_layer:
      bias = encoder_bias(self.relpos_bias, x_BSD)
    bias = dataclasses.replace(bias, keys=attention.padding(mask_BS))
    x_BSD, _ = self.layers(self.dropout(x_BSD), adapter, bias)
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
      (0, shared, shared, shared, shared),
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
    memory: adapters.Memory | None = None,
  ) -> jax.Array:
    length = x_BTD.shape[1]
    keys_BS = visible(encoder_mask_BS, memory)
    x_BTD, _ = self.layers(
      self.dropout(x_BTD),
      adapter,
      encoded_BSD,
      memory,
      self._shared_bias(length),
      attention.Bias(
        keys=keys_BS, back_end=self.config.back_end(length, keys_BS.shape[1])
      ),
    )
    return self.dropout(self.decoder_norm(x_BTD))

  def _shared_bias(self, length: int) -> attention.Bias:
    """Of the self-attention of every layer, of all positions at once."""
    chosen = self.config.back_end(length, length)
    parts = []
    if not self.config.relpos_per_layer:
      parts.append(self.relpos_bias.by_distance(length))
    if self.causal:
      distance_N = jnp.arange(1 - length, length)
      parts.append(attention.causal_bias(jnp.zeros(1), distance_N)[0, :, 0])
    if not parts:
      return attention.Bias(back_end=chosen)
    return attention.positioned(sum(parts[1:], parts[0]), length, chosen)

  def logits(self, y_BTD: jax.Array) -> jax.Array:
    """The untied output layer, in the dtype of `y_BTD`."""
    return self.logits_dense(y_BTD)
