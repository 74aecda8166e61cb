"""Decoding with cached keys and values: greedy, sampling, beam search.

A decoder is a frozen description; `generate` runs it. Tokens come back without
the start token, padding after the end of the sequence.
"""

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from hyperjax import adapters, checks
from hyperjax.models import applying, decode_cache, objectives, t5, t5_steps

# Below every finite log-probability, and far from overflow when sums meet.
NEVER = -1e9


@dataclasses.dataclass(frozen=True)
class Sampling:
  """Draws each token; `temperature` 0 takes the most likely one (greedy).

  `top_k` keeps the k most likely tokens, `top_p` the fewest whose probability
  reaches p (Holtzman et al., 2020); 0 and 1 keep all.
  """

  temperature: checks.Temperature = 1.0
  top_k: checks.TopK = 0
  top_p: checks.TopP = 1.0

  def __post_init__(self):
    checks.fields(self)


Greedy = Sampling(temperature=0.0)


@dataclasses.dataclass(frozen=True)
class Beam:
  """Beam search, as transformers defines it.

  A finished sequence scores its log-probability over its length (its end token
  counted) to the power of `length_penalty`. With `early_stopping` a row is done
  once `num_beams` sequences are finished; without, once no running beam can
  still win at its present length.
  """

  num_beams: checks.NumBeams = 4
  # The longest answer's length to the power of 8 is past float32.
  length_penalty: Annotated[float, checks.Number(least=-7, most=7)] = 1.0
  early_stopping: bool = True

  def __post_init__(self):
    checks.fields(self)


Decoder = Sampling | Beam


def num_beams(decoder: Decoder) -> int:
  """Sequences that a decoder keeps of each row."""
  return decoder.num_beams if isinstance(decoder, Beam) else 1


@struct.dataclass
class Decoded:
  """What `generate` found."""

  tokens: jax.Array  # int32 [B, T]
  scores: jax.Array  # float32 [B]: log-probability; for Beam, its score


def generate(
  model: t5.T5,
  params: Any,
  tokens_BS: jax.Array,
  max_length: int,
  decoder: Decoder = Greedy,
  *,
  adapters: adapters.Adapters = t5.NO_ADAPTERS,
  num_tokens: int | None = None,
  key: jax.Array | None = None,
) -> Decoded:
  """Decodes each row of `tokens_BS` under the adapters of its context.

  Args:
    model: the backbone.
    params: its parameters.
    tokens_BS: encoder input.
    max_length: positions to decode at most, the end token counted.
    decoder: how.
    adapters: of C contexts; row b belongs to context b // (B // C).
    num_tokens: how many ids the tokenizer has; higher ones, which only pad the
      vocabulary, are never decoded.
    key: needed for sampling at a temperature above 0; one for all rows, or one
      for each, so that a row's draws do not depend on those beside it.

  Raises:
    ValueError: sampling without a key.
  """
  config = model.config
  # Once, and not for each position.
  weights = t5_steps.prepared(config, params)
  written = applying.cast_adapters(adapters, config)
  cache = t5_steps.start(
    *(config, weights, tokens_BS, max_length, written),
    beams=num_beams(decoder),
  )
  of_layers = t5_steps.by_layer(written.decoder, config.num_decoder_layers)

  def step(tokens_B, cache):
    logits_BV, cache = t5_steps.step(
      config, weights, tokens_B, cache, of_layers
    )
    if num_tokens is not None:
      padding = jnp.arange(logits_BV.shape[-1]) >= num_tokens
      logits_BV = jnp.where(padding, NEVER, logits_BV)
    return logits_BV, cache

  search = _Search(step, config, len(tokens_BS), max_length)
  if isinstance(decoder, Beam):
    return _beam_search(search, cache, decoder)
  if decoder.temperature > 0 and key is None:
    raise ValueError("sampling at a temperature above 0 needs a key")
  return _sample(search, cache, decoder, key)


def written(config: t5.T5Config, tokens_T: Any) -> list[int]:
  """A row of decoded tokens without the padding behind them."""
  tokens = np.asarray(tokens_T).tolist()
  while tokens and tokens[-1] == config.pad_id:
    tokens.pop()
  return tokens


class _Search(NamedTuple):
  """What every decoder goes by."""

  step: Callable[
    [jax.Array, decode_cache.Cache], tuple[jax.Array, decode_cache.Cache]
  ]
  config: t5.T5Config
  num_rows: int
  max_length: int

  def ends(self, chosen: jax.Array) -> jax.Array:
    """Which tokens end a sequence."""
    return jnp.isin(chosen, jnp.asarray(tuple(self.config.eos_ids)))

  def padding(self, *shape: int) -> jax.Array:
    """Tokens of sequences that are not begun."""
    return jnp.full(shape, self.config.pad_id, jnp.int32)


def _sample(search: _Search, cache, decoder, key) -> Decoded:
  num_rows, max_length = search.num_rows, search.max_length

  def running(carry):
    position, _, _, is_done_B, *_ = carry
    return (position < max_length) & ~is_done_B.all()

  def advance(carry):
    position, tokens_BT, scores_B, is_done_B, previous_B, cache = carry
    logits_BV, cache = search.step(previous_B, cache)
    if decoder.temperature == 0:
      chosen_B = objectives.first_greatest(logits_BV)
    else:
      kept_BV = _keep_likely(logits_BV / decoder.temperature, decoder)
      chosen_B = _draw(key, position, kept_BV)
    score_B = jnp.take_along_axis(logits_BV, chosen_B[:, None], axis=1)[:, 0]
    score_B -= jax.nn.logsumexp(logits_BV, axis=-1)
    scores_B += jnp.where(is_done_B, 0.0, score_B)
    pad_id = search.config.pad_id
    chosen_B = jnp.where(is_done_B, pad_id, chosen_B).astype(jnp.int32)
    tokens_BT = tokens_BT.at[:, position].set(chosen_B)
    is_done_B |= search.ends(chosen_B)
    return position + 1, tokens_BT, scores_B, is_done_B, chosen_B, cache

  carry = (
    jnp.int32(0),
    search.padding(num_rows, max_length),
    jnp.zeros(num_rows, jnp.float32),
    jnp.zeros(num_rows, bool),
    jnp.full(num_rows, search.config.start_id, jnp.int32),
    cache,
  )
  _, tokens_BT, scores_B, *_ = jax.lax.while_loop(running, advance, carry)
  return Decoded(tokens_BT, scores_B)


def _draw(key: jax.Array, position: jax.Array, logits_BV: jax.Array):
  """A token of each row."""
  if not key.ndim:
    position_key = jax.random.fold_in(key, position)
    return jax.random.categorical(position_key, logits_BV)
  keys_B = jax.vmap(jax.random.fold_in, (0, None))(key, position)
  return jax.vmap(jax.random.categorical)(keys_B, logits_BV)


def _keep_likely(logits_BV: jax.Array, decoder: Sampling) -> jax.Array:
  """Logits with what `top_k` and `top_p` rule out made impossible."""
  if decoder.top_k:
    k = min(decoder.top_k, logits_BV.shape[-1])
    least_B1 = jax.lax.top_k(logits_BV, k)[0][:, -1:]
    logits_BV = jnp.where(logits_BV < least_B1, -jnp.inf, logits_BV)
  if decoder.top_p < 1:
    sorted_BV = jnp.sort(logits_BV, axis=-1, descending=True)
    probs_BV = jax.nn.softmax(sorted_BV)
    before_BV = jnp.cumsum(probs_BV, axis=-1) - probs_BV
    # A token stays while those before it have not yet reached top_p.
    kept_BV = jnp.where(before_BV < decoder.top_p, sorted_BV, jnp.inf)
    least_B1 = kept_BV.min(axis=-1, keepdims=True)
    logits_BV = jnp.where(logits_BV < least_B1, -jnp.inf, logits_BV)
  return logits_BV


@struct.dataclass
class _Beams:
  """Running and finished sequences; K beams for each of B inputs."""

  position: jax.Array  # []
  tokens: jax.Array  # [B, K, T], running
  scores: jax.Array  # [B, K], running: sums of log-probabilities
  done_tokens: jax.Array  # [B, K, T]
  done_scores: jax.Array  # [B, K], length penalty applied
  is_done: jax.Array  # [B, K]: whether the slot holds a finished sequence
  can_improve: jax.Array  # [B, 1]
  cache: decode_cache.Cache


def _beam_search(search: _Search, cache, decoder) -> Decoded:
  beams, num_rows = decoder.num_beams, search.num_rows
  max_length = search.max_length

  def running(state: _Beams):
    is_open = ~state.is_done.all() if decoder.early_stopping else True
    return (state.position < max_length) & state.can_improve.any() & is_open

  def advance(state: _Beams):
    position = state.position
    last_BK = state.tokens[:, :, jnp.maximum(position - 1, 0)]
    last_BK = jnp.where(position == 0, search.config.start_id, last_BK)
    logits, cache = search.step(last_BK.reshape(-1), state.cache)
    log_probs = jax.nn.log_softmax(logits)
    vocab = log_probs.shape[-1]
    total = log_probs.reshape(num_rows, beams, vocab) + state.scores[..., None]
    # Twice as many as beams: enough remain running even if half of them end.
    scores, flat = jax.lax.top_k(total.reshape(num_rows, -1), 2 * beams)
    parents, chosen = flat // vocab, (flat % vocab).astype(jnp.int32)
    tokens = _gather(state.tokens, parents).at[:, :, position].set(chosen)
    ends = search.ends(chosen) | (position + 1 == max_length)

    done = _finish(state, tokens, scores, ends, decoder)
    still = jnp.where(ends, scores + NEVER, scores)
    scores, picked = jax.lax.top_k(still, beams)
    parents = jnp.take_along_axis(parents, picked, axis=1)
    cache = _reorder(cache, parents)
    state = dataclasses.replace(
      state,
      position=position + 1,
      tokens=_gather(tokens, picked),
      scores=scores,
      cache=cache,
      **done,
    )
    best = state.scores[:, :1] / (position + 1.0) ** decoder.length_penalty
    worst = state.done_scores.min(axis=1, keepdims=True)
    improves = best > jnp.where(state.is_done, worst, NEVER)
    return dataclasses.replace(
      state, can_improve=state.can_improve & improves.any(axis=1, keepdims=True)
    )

  first = jnp.arange(beams) == 0
  state = _Beams(
    position=jnp.int32(0),
    tokens=search.padding(num_rows, beams, max_length),
    # Only the first beam counts at first, or all would hold the same tokens.
    scores=jnp.tile(jnp.where(first, 0.0, NEVER), (num_rows, 1)),
    done_tokens=search.padding(num_rows, beams, max_length),
    done_scores=jnp.full((num_rows, beams), NEVER),
    is_done=jnp.zeros((num_rows, beams), bool),
    can_improve=jnp.ones((num_rows, 1), bool),
    cache=cache,
  )
  state = jax.lax.while_loop(running, advance, state)
  return Decoded(state.done_tokens[:, 0], state.done_scores[:, 0])


def _finish(state: _Beams, tokens, scores, ends, decoder: Beam):
  """The best finished sequences, old and new; only the top beams may end."""
  beams = decoder.num_beams
  ends = ends & (jnp.arange(2 * beams) < beams)
  length = state.position + 1.0
  scores = scores / length**decoder.length_penalty
  if decoder.early_stopping:
    is_full = state.is_done.all(axis=1, keepdims=True)
    scores = jnp.where(is_full, scores + NEVER, scores)
  scores = jnp.where(state.can_improve, scores, scores + NEVER)
  scores = jnp.where(ends, scores, scores + NEVER)
  all_scores = jnp.concatenate([state.done_scores, scores], axis=1)
  best_scores, picked = jax.lax.top_k(all_scores, beams)
  all_tokens = jnp.concatenate([state.done_tokens, tokens], axis=1)
  all_done = jnp.concatenate([state.is_done, ends], axis=1)
  return {
    "done_tokens": _gather(all_tokens, picked),
    "done_scores": best_scores,
    "is_done": jnp.take_along_axis(all_done, picked, axis=1),
  }


def _gather(x_BKT: jax.Array, index_BN: jax.Array) -> jax.Array:
  return jnp.take_along_axis(x_BKT, index_BN[..., None], axis=1)


def _reorder(
  cache: decode_cache.Cache, parents_BK: jax.Array
) -> decode_cache.Cache:
  """Each beam goes on from its parent: what was written stays where it is."""
  if cache.origins is None:
    return cache
  return dataclasses.replace(cache, origins=_gather(cache.origins, parents_BK))
