"""Decoding whose rows each have settings and an adapter of their own.

What a server decodes together was asked by several: temperatures, lengths and seeds
are arrays, so that one program serves them all. Adapters come out of a store of many
on the devices, by number. A decode is begun, then goes on to any position, as often as
is wanted: what is told meanwhile is what one go would have found.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from hyperjax.adapters import Adapters
from hyperjax.models import applying, decoding, objectives, t5_steps
from hyperjax.models.t5_layers import T5Config

TOP = 5  # likeliest tokens of a position that are told at most


@struct.dataclass
class RowOptions:
  """How each row is decoded."""

  temperature: Any  # float32 [B]; 0 takes the likeliest token
  top_p: Any  # float32 [B]; 1 keeps all
  limit: Any  # int32 [B]: tokens at most; 0 of rows that only fill a batch
  key_data: Any  # uint32 [B, 2]: of what is drawn, whatever rows are beside it
  given: Any  # int32 [B, T]: tokens that are taken as they are; -1: decoded
  tells_top: Any  # bool []: whether any row asks for the likeliest tokens


@struct.dataclass
class Running:
  """A decode at a position."""

  position: Any  # []
  tokens: Any  # int32 [B, T], padding after the end
  log_probs: Any  # float32 [B, T], of all ids, before temperature and top_p
  top_tokens: Any  # int32 [B, T, TOP]; zeros where they are not told
  top_log_probs: Any  # float32 [B, T, TOP]
  is_done: Any  # bool [B]
  previous: Any  # int32 [B]
  cache: Any
  adapters: Any  # of B contexts
  options: RowOptions


def start(
  config: T5Config,
  params: Any,
  stored: Adapters,
  slots_B: jax.Array,
  tokens_BS: jax.Array,
  options: RowOptions,
  *,
  max_length: int,
) -> Running:
  """A decode before its first position; the encoder runs here.

  Args:
    config: of the T5.
    params: its parameters, or as `t5_steps.prepared`.
    stored: adapters of many contexts.
    slots_B: which of them each row has.
    tokens_BS: what the encoder reads.
    options: of each row.
    max_length: positions at most.
  """
  own = applying.cast_adapters(
    jax.tree.map(lambda leaf: leaf[:, slots_B], stored), config
  )
  cache = t5_steps.start(config, params, tokens_BS, max_length, own)
  rows = len(tokens_BS)
  top = (rows, max_length, TOP)
  return Running(
    position=jnp.int32(0),
    tokens=jnp.full((rows, max_length), config.pad_id, jnp.int32),
    log_probs=jnp.zeros((rows, max_length), jnp.float32),
    top_tokens=jnp.zeros(top, jnp.int32),
    top_log_probs=jnp.zeros(top, jnp.float32),
    is_done=jnp.asarray(options.limit) < 1,
    previous=jnp.full(rows, config.start_id, jnp.int32),
    cache=cache,
    adapters=own,
    options=options,
  )


def advance(
  config: T5Config,
  params: Any,
  running: Running,
  until: jax.Array,
  *,
  num_tokens: int | None = None,
) -> Running:
  """The same decode at position `until`, or where all rows are done.

  `num_tokens` is how many ids the tokenizer has: higher ones are never decoded,
  and never among the likeliest.
  """
  # Once, and not for each position.
  weights = t5_steps.prepared(config, params)
  of_layers = t5_steps.by_layer(
    running.adapters.decoder, config.num_decoder_layers
  )
  ends = jnp.asarray(tuple(config.eos_ids))
  most = jnp.minimum(until, running.tokens.shape[1])

  def step(now: Running) -> Running:
    logits_BV, cache = t5_steps.step(
      config, weights, now.previous, now.cache, of_layers
    )
    log_probs_BV = jax.nn.log_softmax(logits_BV)
    told_BV = log_probs_BV
    if num_tokens is not None:
      padding = jnp.arange(logits_BV.shape[-1]) >= num_tokens
      logits_BV, told_BV = (
        jnp.where(padding, decoding.NEVER, x) for x in (logits_BV, log_probs_BV)
      )
    given_B = now.options.given[:, now.position]
    chosen_B = _chosen(logits_BV, now.position, now.options)
    chosen_B = jnp.where(given_B >= 0, given_B, chosen_B)
    own_B = jnp.take_along_axis(log_probs_BV, chosen_B[:, None], axis=1)[:, 0]
    values_BK, ids_BK = jax.lax.cond(
      now.options.tells_top, _top, _no_top, told_BV
    )
    chosen_B = jnp.where(now.is_done, config.pad_id, chosen_B)
    at, next_position = now.position, now.position + 1
    is_last_B = next_position >= now.options.limit
    return dataclasses.replace(
      now,
      position=next_position,
      tokens=now.tokens.at[:, at].set(chosen_B),
      log_probs=now.log_probs.at[:, at].set(jnp.where(now.is_done, 0, own_B)),
      top_tokens=now.top_tokens.at[:, at].set(ids_BK),
      top_log_probs=now.top_log_probs.at[:, at].set(values_BK),
      is_done=now.is_done | jnp.isin(chosen_B, ends) | is_last_B,
      previous=chosen_B,
      cache=cache,
    )

  def is_running(now: Running) -> jax.Array:
    return (now.position < most) & ~now.is_done.all()

  return jax.lax.while_loop(is_running, step, running)


def _top(log_probs_BV: jax.Array) -> tuple[jax.Array, jax.Array]:
  values_BK, ids_BK = jax.lax.top_k(log_probs_BV, TOP)
  return values_BK, ids_BK.astype(jnp.int32)


def _no_top(log_probs_BV: jax.Array) -> tuple[jax.Array, jax.Array]:
  shape = (len(log_probs_BV), TOP)
  return jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.int32)


def _chosen(
  logits_BV: jax.Array, position: jax.Array, options: RowOptions
) -> jax.Array:
  """A token of each row; nothing is drawn where no row asks for it."""
  likeliest_B = objectives.first_greatest(logits_BV)

  def drawn() -> jax.Array:
    temperature_B = jnp.where(options.temperature > 0, options.temperature, 1.0)
    scaled_BV = logits_BV / temperature_B[:, None]
    scaled_BV = jax.lax.cond(
      (options.top_p < 1).any(),
      _keep_likely,
      lambda x, _: x,
      scaled_BV,
      options.top_p,
    )
    keys_B = jax.vmap(jax.random.wrap_key_data)(options.key_data)
    keys_B = jax.vmap(jax.random.fold_in, (0, None))(keys_B, position)
    drawn_B = jax.vmap(jax.random.categorical)(keys_B, scaled_BV)
    return jnp.where(options.temperature > 0, drawn_B, likeliest_B)

  return jax.lax.cond(
    (options.temperature > 0).any(),
    lambda: drawn().astype(jnp.int32),
    lambda: likeliest_B,
  )


def _keep_likely(logits_BV: jax.Array, top_p_B: jax.Array) -> jax.Array:
  """The fewest likeliest tokens that reach each row's p; the others impossible."""
  sorted_BV = jnp.sort(logits_BV, axis=-1, descending=True)
  probs_BV = jax.nn.softmax(sorted_BV)
  before_BV = jnp.cumsum(probs_BV, axis=-1) - probs_BV
  # A token stays while those before it have not yet reached p.
  is_kept_BV = (before_BV < top_p_B[:, None]) | (top_p_B[:, None] >= 1)
  least_B1 = jnp.where(is_kept_BV, sorted_BV, jnp.inf).min(-1, keepdims=True)
  return jnp.where(logits_BV < least_B1, -jnp.inf, logits_BV)
