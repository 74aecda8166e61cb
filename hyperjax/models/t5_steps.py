"""A T5's decoder one position at a time, for decoding.

What no position changes is made once, before the first: each layer's own weights,
keys and values of the encoder's output with those of adapters in front, and the bias
by distance. A position then reads arrays as they lie, layer after layer.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from hyperjax import adapters, sharding
from hyperjax.models import (
  applying,
  attention,
  decode_cache,
  gathering,
  quantizing,
  t5,
)
from hyperjax.models.decode_cache import Cache
from hyperjax.models.t5_attention import (
  Attention,
  KeyValue,
  extended,
  split_heads,
  visible,
)
from hyperjax.models.t5_layers import (
  Mlp,
  RelativeBias,
  T5Config,
  constrain_rows,
  layer_norm,
)

_SELF, _CROSS = "self_attention", "encoder_decoder_attention"
_READ_ONE = ("query", "key", "value")


@struct.dataclass
class Weights:
  """A T5's parameters as a decode reads them."""

  rest: Any  # without the decoder's layers
  layers: tuple[Any, ...]  # of each of them; query, key and value are one array


def prepared(config: T5Config, params: Any) -> Weights:
  """Parameters for decoding; made once they serve any number of decodes."""
  if isinstance(params, Weights):
    return params
  params = applying.cast(params, config)
  decoder = dict(params["decoder"])
  layers = by_layer(decoder.pop("layers"), config.num_decoder_layers)
  return Weights(
    dict(params) | {"decoder": decoder}, tuple(map(_joined, layers))
  )


def by_layer(stacked: Any, count: int) -> tuple[Any, ...]:
  """What lies on axis 0 of all arrays, apart."""
  return tuple(
    jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)
  )


def _joined(layer: Any) -> Any:
  """Side by side, so that each device has the heads of all three that it has."""
  own = dict(layer[_SELF])
  three = [own.pop(name) for name in _READ_ONE]
  own["joined"] = jax.tree.map(lambda *x: jnp.stack(x, axis=-2), *three)
  return dict(layer) | {_SELF: own}


def start(
  config: T5Config,
  params: Any,
  tokens_BS: jax.Array,
  max_length: int,
  written: adapters.Adapters = t5.NO_ADAPTERS,
  *,
  beams: int = 1,
) -> Cache:
  """A decode of B rows before its first of `max_length` positions.

  The encoder and the cross-attention's keys and values run here, once.

  Args:
    config: of the T5.
    params: its parameters, or as `prepared`.
    tokens_BS: what the encoder reads.
    max_length: positions at most.
    written: adapters of C contexts; row b belongs to context b // (B // C).
    beams: A, sequences of each row.
  """
  weights = prepared(config, params)
  encoded_BSD = _apply(config, weights, tokens_BS, written, method="encode")
  keys_BS = visible(tokens_BS != config.pad_id, written.memory)
  rows = len(tokens_BS)
  empty = jnp.zeros(
    (rows, max_length, config.num_heads, config.head_dim), encoded_BSD.dtype
  )
  own, cross, own_keys, cross_keys = [], [], [], []
  of_layers = by_layer(written.decoder, config.num_decoder_layers)
  for layer, adapter in zip(weights.layers, of_layers, strict=True):
    seen, bias = extended(
      KeyValue(empty, empty), attention.Bias(), adapter.self_attention
    )
    own.append(decode_cache.beside(decode_cache.as_read(seen), beams))
    own_keys.append(bias.keys)
    at_cross = adapter.encoder_decoder_attention
    made = applying.apply(
      *(Attention(config), config, layer[_CROSS]),
      *(encoded_BSD, at_cross, written.memory),
      method="key_value",
    )
    seen, bias = extended(made, attention.Bias(keys=keys_BS), at_cross)
    cross.append(decode_cache.as_read(seen))
    cross_keys.append(bias.keys)
  return Cache(
    own=tuple(own),
    cross=tuple(cross),
    own_keys=tuple(own_keys),
    cross_keys=tuple(cross_keys),
    distances=_distances(config, weights, max_length),
    origins=None
    if beams == 1
    else jnp.zeros((rows, beams, max_length), jnp.int32),
    index=jnp.zeros([], jnp.int32),
  )


def _distances(
  config: T5Config, weights: Weights, length: int
) -> tuple[jax.Array, ...]:
  """The relative bias and the causal mask, of all layers or of each."""
  distance_N = jnp.arange(1 - length, length)
  causal_1N = attention.causal_bias(jnp.zeros(1), distance_N)[0, :, 0]
  places = [weights.rest["decoder"]]
  if config.relpos_per_layer:
    places = weights.layers
  relative = RelativeBias(config, bidirectional=False)

  def of(params: Any) -> jax.Array:
    bias_HN: Any = relative.apply(
      {"params": params}, length, method="by_distance"
    )
    return causal_1N + bias_HN

  return tuple(of(place["relpos_bias"]) for place in places)


def step(
  config: T5Config,
  params: Any,
  tokens_B: jax.Array,
  cache: Cache,
  of_layers: tuple[adapters.DecoderAdapter, ...],
) -> tuple[jax.Array, Cache]:
  """Logits [B * A, V] of the next position, given its input tokens.

  `of_layers` are the adapters of each layer of the decoder, `by_layer`.
  """
  weights = prepared(config, params)
  cache = decode_cache.with_origins(cache)
  x_B1D = _apply(config, weights, tokens_B[:, None], method="embed")
  biases = [
    decode_cache.own_bias(cache, distances) for distances in cache.distances
  ]
  if len(biases) == 1:
    biases *= config.num_decoder_layers
  own = []
  is_gathered = gathering.is_gathered((sharding.EMBED, sharding.JOINED_KV))
  with applying.precision(config):
    for i, (layer, adapter) in enumerate(
      zip(weights.layers, of_layers, strict=True)
    ):
      if is_gathered:  # when it is read, not before the first position
        layer, x_B1D = jax.lax.optimization_barrier((layer, x_B1D))
      one = _Layer(config, layer, adapter)
      y_B1D, changed = one.to_itself(x_B1D, cache, i, biases[i])
      own.append(changed)
      x_B1D += y_B1D
      x_B1D += one.to_the_encoder(x_B1D, cache, i)
      x_B1D += one.forward(x_B1D)
  norm = weights.rest["decoder"]["decoder_norm"]
  y_B1D = layer_norm(config).apply({"params": norm}, x_B1D)
  logits_BTV = _apply(config, weights, y_B1D, method="logits")
  cache = dataclasses.replace(cache, own=tuple(own), index=cache.index + 1)
  return logits_BTV[:, 0], cache


@dataclasses.dataclass(frozen=True)
class _Layer:
  """What a layer of the decoder adds at one position."""

  config: T5Config
  weights: Any
  adapter: adapters.DecoderAdapter

  def to_itself(
    self, x_B1D: jax.Array, cache: Cache, i: int, bias: jax.Array
  ) -> tuple[jax.Array, KeyValue]:
    """And its keys and values with those of the position."""
    weights, adapter = self.weights[_SELF], self.adapter.self_attention
    normed_B1D = self._normed("pre_self_attention_layer_norm", x_B1D)
    query, key, value = self._query_key_value(normed_B1D)
    place = cache.in_front + cache.index
    own = decode_cache.written(cache.own[i], key, value, place)
    keys_BS = cache.own_keys[i]
    added = [bias]
    if keys_BS is not None:
      rows, beams = len(own.key), cache.num_beams
      keys_BS = jnp.repeat(keys_BS, rows // len(keys_BS), axis=0)
      added.append(jnp.repeat(keys_BS, beams, axis=1)[:, None, None])
    return self._attended(weights, adapter, query, own, added), own

  def to_the_encoder(self, x_B1D: jax.Array, cache: Cache, i: int) -> jax.Array:
    weights = self.weights[_CROSS]
    adapter = self.adapter.encoder_decoder_attention
    normed_B1D = self._normed("pre_cross_attention_layer_norm", x_B1D)
    query_B1HK = self._module(
      Attention, weights, normed_B1D, adapter, method="query_of"
    )
    added = [cache.cross_keys[i][:, None, None]]
    return self._attended(weights, adapter, query_B1HK, cache.cross[i], added)

  def forward(self, x_B1D: jax.Array) -> jax.Array:
    normed_B1D = self._normed("pre_mlp_layer_norm", x_B1D)
    return self._module(Mlp, self.weights["mlp"], normed_B1D, self.adapter.mlp)

  def _query_key_value(self, x_B1D: jax.Array) -> list[jax.Array]:
    adapter = self.adapter.self_attention
    axes = (sharding.EMBED, None, sharding.JOINED_KV)
    joined = self.weights[_SELF]["joined"]
    scale = joined.get(quantizing.SCALE)
    all_B13F = gathering.project(x_B1D, joined["kernel"], axes, scale)
    updates = adapters.updates([getattr(adapter, x) for x in _READ_ONE], x_B1D)
    scales = (None, adapter.ia3_key, adapter.ia3_value)
    found = []
    for i, (update, scale) in enumerate(zip(updates, scales, strict=True)):
      y_B1F = all_B13F[:, :, i]
      if update is not None:
        y_B1F += update
      found.append(
        split_heads(self.config, y_B1F if scale is None else scale(y_B1F))
      )
    return found

  def _attended(
    self,
    weights: Any,
    adapter: Any,
    query_B1HK: jax.Array,
    seen: KeyValue,
    added: Any,
  ) -> jax.Array:
    rows = len(seen.key)
    query_BAHK = query_B1HK.reshape(rows, -1, *query_B1HK.shape[2:])
    y_BAHK = attention.of_one(query_BAHK, seen.key, seen.value, added)
    y_B1F = y_BAHK.reshape(*query_B1HK.shape[:2], -1)
    return self._module(Attention, weights, y_B1F, adapter, method="out_of")

  def _normed(self, name: str, x_B1D: jax.Array) -> jax.Array:
    given = {"params": self.weights[name]}
    y_B1D: Any = layer_norm(self.config).apply(given, constrain_rows(x_B1D))
    return y_B1D

  def _module(self, kind: Any, weights: Any, *args: Any, **options: Any) -> Any:
    return kind(self.config).apply({"params": weights}, *args, **options)


def _apply(config: T5Config, weights: Weights, *args: Any, method: str) -> Any:
  return applying.apply(
    t5.T5(config), config, weights.rest, *args, method=method
  )
