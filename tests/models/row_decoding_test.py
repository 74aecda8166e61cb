"""Rows with settings of their own decode as they do by themselves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import adapters
from hyperjax.models import forward, row_decoding, t5
from tests import testing

CONFIG, T = testing.CONFIG, 6
KNOWN = CONFIG.vocab_size // 2  # ids that the tokenizer has
SPEC = adapters.LoraSpec(2, alpha=8.0)


@pytest.fixture(scope="module")
def params():
  return testing.t5_params(CONFIG)


@pytest.fixture(scope="module")
def stored():
  """Three adapters; the last is the plain T5."""
  drawn = [testing.draw(SPEC.abstract(CONFIG), i, 1.0) for i in range(2)]
  own = [jax.tree.map(np.asarray, each) for each in drawn]
  return adapters.stack([*own, t5.NO_ADAPTERS])


def tokens(rows=4):
  return jax.random.randint(jax.random.key(1), (rows, 5), 3, CONFIG.vocab_size)


SLOTS = np.asarray([1, 0, 2, 1], np.int32)


def options(rows=4, **changes):
  given = {
    "temperature": np.zeros(rows, np.float32),
    "top_p": np.ones(rows, np.float32),
    "limit": np.full(rows, T, np.int32),
    "key_data": np.arange(2 * rows, dtype=np.uint32).reshape(rows, 2),
    "given": np.full((rows, T), -1, np.int32),
    "tells_top": np.bool_(False),
  }
  return row_decoding.RowOptions(**given | changes)


@functools.cache
def programs():
  start = functools.partial(row_decoding.start, CONFIG, max_length=T)
  advance = functools.partial(row_decoding.advance, CONFIG, num_tokens=KNOWN)
  return jax.jit(start), jax.jit(advance)


def decode(params, stored, asked, until=(T,), rows=slice(None)):
  start, advance = programs()
  running = start(params, stored, SLOTS[rows], tokens()[rows], asked)
  for position in until:
    running = advance(params, running, jnp.int32(position))
  return running


def test_greedy_rows_are_those_of_generate(params, stored):
  """Without the ids that the tokenizer lacks, some of which are likelier."""
  found = decode(params, stored, options(tells_top=np.bool_(True)))
  own = jax.tree.map(lambda leaf: leaf[:, SLOTS], stored)
  whole = functools.partial(forward.decode, CONFIG, max_length=T)
  setting = forward.Setting(params, tokens(), own)
  wanted = jax.jit(functools.partial(whole, num_tokens=KNOWN))(setting)
  np.testing.assert_array_equal(found.tokens, wanted.tokens)
  assert (found.tokens < KNOWN).all() and (found.top_tokens < KNOWN).all()
  assert (jax.jit(whole)(setting).tokens >= KNOWN).any()
  assert len({tuple(row) for row in np.asarray(found.tokens)}) > 1


def test_a_decode_in_parts_is_one_in_one_go(params, stored):
  asked = options(temperature=np.asarray([0, 1, 2, 3], np.float32))
  whole = decode(params, stored, asked)
  parts = decode(params, stored, asked, until=(1, 3, 4, T))
  np.testing.assert_array_equal(parts.tokens, whole.tokens)
  np.testing.assert_array_equal(parts.log_probs, whole.log_probs)


def test_what_a_row_draws_does_not_depend_on_its_neighbours(params, stored):
  """Other temperatures beside it, other rows, another place in the batch."""
  hot = np.asarray([9, 0, 9, 4], np.float32)
  found = decode(params, stored, options(temperature=hot))
  rows = np.asarray([3, 2, 1, 0])
  turned = options(temperature=hot[rows], key_data=options().key_data[rows])
  again = decode(params, stored, turned, rows=rows)
  np.testing.assert_array_equal(again.tokens, found.tokens[rows])
  greedy = decode(params, stored, options())
  is_greedy = (found.tokens == greedy.tokens).all(-1).tolist()
  assert is_greedy[1] and not all(is_greedy)


def test_each_position_draws_anew(params, stored):
  """At a temperature at which all tokens are as likely as each other."""
  found = decode(
    params, stored, options(temperature=np.full(4, 1e4, np.float32))
  )
  drawn = [
    [i for i in row if i != CONFIG.pad_id] for row in found.tokens.tolist()
  ]
  assert all(len(set(row)) > 1 for row in drawn if len(row) > 2)
  assert sum(len(row) > 2 for row in drawn) > 1


def test_the_least_mass_leaves_the_likeliest_token(params, stored):
  asked = options(
    temperature=np.full(4, 9, np.float32),
    top_p=np.asarray([1e-6, 1, 1e-6, 1], np.float32),
  )
  found = decode(params, stored, asked).tokens
  greedy = decode(params, stored, options()).tokens
  assert (found == greedy).all(-1).tolist() == [True, False, True, False]


def test_a_row_ends_at_its_own_limit(params, stored):
  limit = np.asarray([2, T, 0, 1], np.int32)
  found = decode(params, stored, options(limit=limit))
  whole = decode(params, stored, options())
  for row, most in enumerate(limit):
    np.testing.assert_array_equal(
      found.tokens[row, :most], whole.tokens[row, :most]
    )
    assert (found.tokens[row, most:] == CONFIG.pad_id).all()
    assert (found.log_probs[row, most:] == 0).all()
  assert found.is_done.all()


def test_log_probabilities_are_those_of_the_forward_pass(params, stored):
  """Of given answers, and of the likeliest that may be decoded where they are asked for."""
  answers = np.asarray([[5, 9, 4, 1], [7, 7, 1, 0], [3, 1, 0, 0], [1, 0, 0, 0]])
  lengths = np.asarray([4, 3, 2, 1], np.int32)
  given = np.full((4, T), -1, np.int32)
  given[:, :4] = answers
  asked = options(limit=lengths, given=given, tells_top=np.bool_(True))
  found = decode(params, stored, asked)
  own = jax.tree.map(lambda leaf: leaf[:, SLOTS], stored)
  read = np.pad(answers, ((0, 0), (1, 0)), constant_values=CONFIG.start_id)
  logits = jax.jit(functools.partial(forward.logits, CONFIG))(
    forward.Setting(params, tokens(), own), read[:, :-1]
  )
  wanted = np.asarray(jax.nn.log_softmax(logits))
  for row, length in enumerate(lengths):
    some = np.arange(length)
    np.testing.assert_allclose(
      found.log_probs[row, :length],
      wanted[row, some, answers[row, :length]],
      rtol=1e-4,
      atol=1e-5,
    )
    np.testing.assert_allclose(
      found.top_log_probs[row, :length],
      np.sort(wanted[row, :length, :KNOWN])[:, ::-1][:, : row_decoding.TOP],
      rtol=1e-4,
      atol=1e-5,
    )
    np.testing.assert_array_equal(
      found.top_tokens[row, :length, 0],
      wanted[row, :length, :KNOWN].argmax(-1),
    )
  assert not decode(params, stored, options()).top_log_probs.any()
