import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax.models import decoding, t5
from hyperjax.models.t5_layers import T5Config
from tests import testing

SMALL = T5Config(6, 8, 2, 4, 8, 1, 1)
MODEL = t5.T5(SMALL)
INPUTS = testing.tokens(5, 4, vocab_size=6)
LENGTH = 4


@functools.cache
def _params():
  """With logits far enough apart that some sequences end early."""
  drawn = testing.t5_params(SMALL, seed=24)
  return jax.tree.map(lambda x: 2.0 * np.asarray(x), drawn)


@functools.partial(jax.jit, static_argnames=("decoder", "num_tokens", "length"))
def _run(params, decoder, length, num_tokens, key):
  return decoding.generate(
    MODEL, params, INPUTS, length, decoder, num_tokens=num_tokens, key=key
  )


def _generate(decoder, length=LENGTH, num_tokens=None, key=None):
  return _run(_params(), decoder, length, num_tokens, key)


@functools.cache
def _all_sequences():
  """Every sequence of up to `LENGTH` tokens, and its log-probability."""
  sequences = []
  for tokens in itertools.product(range(6), repeat=LENGTH):
    end = tokens.index(1) + 1 if 1 in tokens else LENGTH
    if not any(tokens[end:]):
      sequences.append((tokens, end))
  ids = np.array([tokens for tokens, _ in sequences], np.int32)
  ends = np.array([end for _, end in sequences])
  shifted = np.pad(ids, ((0, 0), (1, 0)))[:, :-1]

  params = _params()

  @jax.jit
  def score(row):
    inputs = jnp.repeat(row[None], len(ids), axis=0)
    logits = MODEL.apply({"params": params}, inputs, shifted)
    log_probs = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(log_probs, ids[..., None], axis=-1)[..., 0]
    return (picked * (np.arange(LENGTH) < ends[:, None])).sum(axis=1)

  return ids, ends, np.stack([score(row) for row in INPUTS])


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
def test_a_wide_beam_finds_the_best_of_all_sequences(length_penalty):
  ids, ends, scores = _all_sequences()
  decoder = decoding.Beam(216, length_penalty, early_stopping=False)
  found = _generate(decoder)
  wanted = scores / ends**length_penalty
  np.testing.assert_array_equal(found.tokens, ids[wanted.argmax(axis=1)])
  np.testing.assert_allclose(found.scores, wanted.max(axis=1), rtol=1e-4)


def test_ids_that_the_tokenizer_lacks_are_never_decoded():
  free = _generate(decoding.Greedy)
  assert (np.asarray(free.tokens) >= 3).any()
  for decoder in (decoding.Greedy, decoding.Beam(3), decoding.Sampling()):
    found = _generate(decoder, num_tokens=3, key=jax.random.key(0))
    assert (np.asarray(found.tokens) < 3).all()


@pytest.mark.parametrize(
  "decoder, wanted",
  [
    (decoding.Sampling(), [0.4, 0.3, 0.2, 0.1]),
    (decoding.Sampling(top_k=2), [4 / 7, 3 / 7, 0, 0]),
    # 0.4 alone does not reach 0.6; 0.4 and 0.3 do.
    (decoding.Sampling(top_p=0.6), [4 / 7, 3 / 7, 0, 0]),
    (decoding.Sampling(top_p=0.75), [4 / 9, 3 / 9, 2 / 9, 0]),
    (decoding.Sampling(temperature=0.5), [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
  ],
  ids=str,
)
def test_sampling_draws_with_the_probabilities_it_should(decoder, wanted):
  logits = jnp.log(jnp.array([[0.4, 0.3, 0.2, 0.1]]))
  kept = decoding._keep_likely(logits / decoder.temperature, decoder)
  np.testing.assert_allclose(jax.nn.softmax(kept)[0], wanted, atol=1e-6)
  draws = jax.random.categorical(jax.random.key(0), kept[0], shape=(4000,))
  shares = np.bincount(draws, minlength=4) / 4000
  np.testing.assert_allclose(shares, wanted, atol=0.03)


def test_without_top_k_and_top_p_the_least_likely_token_stays():
  """However little is left of 1 beside the others in float32."""
  logits = jnp.array([[0.0, -20.0, -60.0]])
  kept = decoding._keep_likely(logits, decoding.Sampling())
  np.testing.assert_array_equal(kept, logits)
  kept = decoding._keep_likely(logits, decoding.Sampling(top_k=2))
  np.testing.assert_array_equal(kept, [[0.0, -20.0, -np.inf]])
  # More than there are are all.
  kept = decoding._keep_likely(logits, decoding.Sampling(top_k=9))
  np.testing.assert_array_equal(kept, logits)


def test_sampling_needs_a_key():
  with pytest.raises(ValueError, match="needs a key"):
    decoding.generate(MODEL, _params(), INPUTS, 2, decoding.Sampling())


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda: decoding.Sampling(top_p=0.0), "Sampling.top_p"),
    (lambda: decoding.Sampling(temperature=-1.0), "Sampling.temperature"),
    (lambda: decoding.Beam(0), "Beam.num_beams"),
  ],
)
def test_a_bad_setting_is_refused_by_name(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prefix", "lora"])
def test_each_row_is_decoded_under_its_own_adapter(name):
  config = testing.CONFIG
  params = testing.t5_params()
  inputs = testing.tokens(4, 6)
  written = testing.draw(testing.SPECS[name].abstract(config, 2))
  decoder = decoding.Beam(2, early_stopping=False)

  @jax.jit
  def run(inputs, written):
    return decoding.generate(
      t5.T5(config), params, inputs, 5, decoder, adapters=written
    ).tokens

  together = run(inputs, written)
  for context in (0, 1):
    rows = slice(2 * context, 2 * context + 2)
    own = jax.tree.map(lambda x, c=context: x[:, c : c + 1], written)
    np.testing.assert_array_equal(together[rows], run(inputs[rows], own))
