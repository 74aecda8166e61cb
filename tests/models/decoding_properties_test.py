"""What decoders find, against the full forward pass, for any weights."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hyperjax.models import decoding, forward
from hyperjax.models.t5_layers import T5Config
from tests import testing

CONFIG = T5Config(6, 8, 2, 4, 8, 1, 1)
ROWS, LENGTH = 3, 4
PENALTY = 0.7
DECODERS = {
  "greedy": decoding.Greedy,
  "one beam": decoding.Beam(1),
  "beams": decoding.Beam(3, PENALTY),
  "cold": decoding.Sampling(1e-5),
  "likely": decoding.Sampling(2.0, top_k=3, top_p=0.8),
}
# Weights from nearly even to nearly certain tokens, so that some rows end.
DRAWN = st.tuples(st.integers(0, 2**20), st.sampled_from([0.3, 1.0, 2.0]))


def _given(drawn):
  seed, scale = drawn
  abstract = jax.eval_shape(lambda: testing.t5_params(CONFIG))
  params = jax.tree.map(np.asarray, testing.draw(abstract, seed, scale))
  return params, testing.tokens(ROWS, 3, seed=seed, vocab_size=6)


@jax.jit
def _log_probs(params, inputs, tokens):
  """Of each row's tokens at every position: [B, T, V]."""
  setting = forward.Setting(params, inputs)
  shifted = jnp.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
  return jax.nn.log_softmax(forward.logits(CONFIG, setting, shifted))


@jax.jit
def _decoded(params, inputs, seed):
  setting = forward.Setting(params, inputs)
  key = jax.random.key_data(jax.random.key(seed))
  return {
    name: forward.decode(
      CONFIG, setting, key, max_length=LENGTH, decoder=decoder
    )
    for name, decoder in DECODERS.items()
  }


@given(DRAWN, st.integers(0, 9))
def test_decoders_keep_what_they_promise(drawn, seed):
  """Against one full pass over what each found."""
  params, inputs = _given(drawn)
  found = {
    name: jax.tree.map(np.asarray, decoded)
    for name, decoded in _decoded(params, inputs, seed).items()
  }
  sums, steps = {}, {}
  for name, decoded in found.items():
    log_probs = np.asarray(
      _log_probs(params, inputs, decoded.tokens), np.float64
    )
    steps[name] = [
      (log_probs[row, t], token)
      for row, ids in enumerate(decoded.tokens)
      for t, token in enumerate(ids[: _length(ids)])
    ]
    picked = np.take_along_axis(log_probs, decoded.tokens[..., None], 2)[..., 0]
    lengths = np.asarray([_length(ids) for ids in decoded.tokens])
    sums[name] = (picked * (np.arange(LENGTH) < lengths[:, None])).sum(axis=1)
    penalty = {"one beam": 1.0, "beams": PENALTY}.get(name, 0.0)
    np.testing.assert_allclose(
      decoded.scores, sums[name] / lengths**penalty, rtol=1e-4, atol=1e-4
    )
  for name in ("greedy", "one beam", "cold"):
    for own, token in steps[name]:
      assert own[token] >= own.max() - 1e-3, name
  for own, token in steps["likely"]:
    assert token in _allowed(own / 2.0, 3, 0.8)


def _length(ids):
  """With the end, if there is one."""
  ends = np.flatnonzero(ids == 1)
  return ends[0] + 1 if len(ends) else len(ids)


def _allowed(logits, top_k, top_p):
  """Of the k most likely, the fewest whose share reaches p; near ties as well."""
  order = np.argsort(-logits)
  kept = logits[order[:top_k]]
  shares = np.exp(kept - np.logaddexp.reduce(kept))
  number = int(np.searchsorted(np.cumsum(shares), top_p - 1e-4)) + 1
  least = kept[min(number, top_k) - 1]
  return np.flatnonzero(logits >= least - 1e-3)


@given(
  st.lists(st.integers(-40, 40), min_size=7, max_size=7, unique=True),
  st.integers(0, 9),
  st.floats(0.01, 1),
)
def test_top_k_and_top_p_keep_the_fewest_that_reach_them(logits, k, p):
  logits = np.asarray(logits, np.float32) / 8
  decoder = decoding.Sampling(top_k=k, top_p=p)
  kept = np.asarray(decoding._keep_likely(jnp.asarray(logits[None]), decoder))
  survivors = np.isfinite(kept[0])
  np.testing.assert_array_equal(kept[0][survivors], logits[survivors])
  # The most likely ones, at least one and at most k.
  number = survivors.sum()
  assert 1 <= number <= (k or 7)
  assert logits[survivors].min() == np.sort(logits)[-number]
  if k:
    logits = np.sort(logits)[-min(k, 7) :]
  shares = np.sort(np.exp(logits - np.logaddexp.reduce(logits)))[::-1]
  assert shares[:number].sum() >= p - 1e-5 or number == len(shares)
  assert shares[: number - 1].sum() < p + 1e-5


@functools.cache
def _continuations():
  """All of up to three tokens, that end or are of three, without padding."""
  found = []
  for ids in itertools.product(range(1, 6), repeat=3):
    length = _length(np.asarray(ids))
    cut = [*ids[:length], *[0] * (3 - length)]
    if cut not in found:
      found.append(cut)
  return np.asarray(found, np.int32)


@jax.jit
def _scores(params, inputs, targets):
  setting = forward.Setting(params, inputs)
  return forward.log_likelihood(CONFIG, setting, targets)


@given(DRAWN)
def test_the_probabilities_of_all_continuations_sum_to_one(drawn):
  """But for those with a padding token, whose share is taken by hand."""
  params, inputs = _given(drawn)
  targets = _continuations()
  assert len(targets) == 1 + 4 + 4 * 4 * 5
  repeated = np.repeat(inputs[:1], len(targets), axis=0)
  scores = np.asarray(_scores(params, repeated, targets), np.float64)
  log_probs = np.asarray(_log_probs(params, repeated, targets), np.float64)
  padded = 0.0
  for prefix in {tuple(ids[:t]) for ids in targets for t in range(3)}:
    if 0 in prefix or 1 in prefix:
      continue
    row = next(
      i for i, ids in enumerate(targets) if tuple(ids[: len(prefix)]) == prefix
    )
    before = sum(log_probs[row, t, token] for t, token in enumerate(prefix))
    padded += np.exp(before + log_probs[row, len(prefix), 0])
  assert np.exp(scores).sum() <= 1 + 1e-5
  np.testing.assert_allclose(np.exp(scores).sum() + padded, 1, atol=1e-4)
