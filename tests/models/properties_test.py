"""What a row's logits, tokens and scores may not depend on, for any values.

Sizes are few, so that few programs are compiled; lengths, values, places and
neighbours are drawn.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperjax import adapters, trees
from hyperjax.models import forward, t5
from hyperjax.models.forward import Setting
from hyperjax.models.t5_layers import T5Config
from tests import testing

CONFIG = T5Config(
  vocab_size=11,
  emb_dim=8,
  num_heads=2,
  head_dim=3,
  mlp_dim=10,
  num_encoder_layers=1,
  num_decoder_layers=2,
)
# One of each in every batch: kinds, ranks, lengths, places, and none at all.
KINDS = {
  "lora": adapters.LoraSpec(
    2, projections=("query", "key", "value", "out", "wi_0", "wi_1", "wo")
  ),
  "prefix": adapters.PrefixSpec(2),
  "none": None,
  "ia3": adapters.Ia3Spec(1),
  "longer prefix": adapters.PrefixSpec(3, sites=("encoder.attention",)),
}
NARROW, WIDE = (5, 4), (8, 6)  # inputs, targets
ROWS = 2  # of a context
SEEDS = st.integers(0, 2**20)


@functools.cache
def _params(seed=0):
  """Random everywhere, with logits far enough apart to have one best."""
  return jax.tree.map(np.asarray, testing.draw(_abstract(), seed, 0.7))


@functools.cache
def _abstract():
  return jax.eval_shape(lambda: testing.t5_params(CONFIG))


def _drawn(name, seed):
  spec = KINDS[name]
  if spec is None:
    return adapters.Adapters()
  found = testing.draw(spec.abstract(CONFIG), seed, 0.6)
  return jax.tree.map(np.asarray, found)


def _rows(draw, lengths):
  """Ids, padded to each of `lengths`; some rows may have none."""
  shape = (len(KINDS) * ROWS, lengths[0])
  ids = np.random.default_rng(draw(SEEDS)).integers(2, 11, shape)
  sizes = draw(
    st.lists(st.integers(0, lengths[0]), min_size=shape[0], max_size=shape[0])
  )
  ids *= np.arange(shape[1]) < np.asarray(sizes)[:, None]
  return [
    np.pad(ids, ((0, 0), (0, length - shape[1]))).astype(np.int32)
    for length in lengths
  ]


def _shifted(ids):
  return np.pad(ids, ((0, 0), (1, 0)))[:, :-1]


@jax.jit
def _logits(params, inputs, targets, own):
  setting = Setting(params, inputs, own)
  return forward.logits(CONFIG, setting, targets)


@jax.jit
def _answers(params, inputs, targets, own):
  setting = Setting(params, inputs, own)
  return {
    "logits": forward.logits(CONFIG, setting, targets),
    "scores": forward.log_likelihood(CONFIG, setting, targets),
    "decoded": forward.decode(CONFIG, setting, max_length=NARROW[1]),
  }


def _log_probs(logits):
  logits = np.asarray(logits, np.float64)
  return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


@settings(max_examples=12)
@given(st.data())
def test_a_row_answers_alone_as_beside_any_others_with_more_padding(data):
  """Its logits, the score of its targets, and what is decoded, kind by kind."""
  inputs, padded_inputs = _rows(data.draw, (NARROW[0], WIDE[0]))
  targets, padded_targets = _rows(data.draw, (NARROW[1], WIDE[1]))
  order = data.draw(st.permutations([*KINDS]))
  own = [_drawn(name, data.draw(SEEDS)) for name in order]
  found = _answers(
    _params(), padded_inputs, padded_targets, adapters.stack(own)
  )
  for i, name in enumerate(order):
    rows = slice(ROWS * i, ROWS * i + ROWS)
    tokens = np.asarray(found["decoded"].tokens[rows])
    # What is decoded is held against the full pass over it.
    read = np.stack([_shifted(targets[rows]), _shifted(tokens)])
    alone = np.stack(
      [_logits(_params(), inputs[rows], ids, own[i]) for ids in read]
    )
    same = np.asarray(_logits(_params(), inputs[rows], targets[rows], own[i]))
    np.testing.assert_allclose(
      found["logits"][rows, : NARROW[1]],
      same,
      rtol=1e-4,
      atol=1e-4,
      err_msg=name,
    )
    log_probs = _log_probs(alone)
    picked = np.take_along_axis(log_probs[0], targets[rows][..., None], 2)
    wanted = (picked[..., 0] * (targets[rows] > 0)).sum(axis=1)
    np.testing.assert_allclose(
      found["scores"][rows], wanted, rtol=1e-4, atol=1e-4, err_msg=name
    )
    _check_greedy(tokens, found["decoded"].scores[rows], log_probs[1])


def _check_greedy(tokens, scores, log_probs):
  """Each the most likely after those before it, until the end."""
  for ids, score, own in zip(tokens, scores, log_probs, strict=True):
    ends = np.flatnonzero(ids == 1)
    length = ends[0] + 1 if len(ends) else len(ids)
    picked = own[np.arange(length), ids[:length]]
    assert (picked >= own[:length].max(axis=1) - 1e-4).all()
    assert not ids[length:].any()
    np.testing.assert_allclose(score, picked.sum(), rtol=1e-4, atol=1e-4)


@given(st.data())
def test_a_context_meets_no_other_contexts_adapter_or_rows(data):
  """Bit for bit, whatever is changed beside it."""
  inputs = _rows(data.draw, WIDE[:1])[0]
  targets = _rows(data.draw, WIDE[1:])[0]
  own = [_drawn(name, data.draw(SEEDS)) for name in KINDS]
  changed = data.draw(st.integers(0, len(KINDS) - 1))
  other = list(own)
  other[changed] = _drawn([*KINDS][changed], data.draw(SEEDS))
  rows = slice(ROWS * changed, ROWS * changed + ROWS)
  other_inputs, other_targets = inputs.copy(), targets.copy()
  other_inputs[rows] = _rows(data.draw, WIDE[:1])[0][rows]
  other_targets[rows] = _rows(data.draw, WIDE[1:])[0][rows]
  one = _answers(_params(), inputs, targets, adapters.stack(own))
  two = _answers(_params(), other_inputs, other_targets, adapters.stack(other))
  kept = np.delete(np.arange(len(inputs)), rows)
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(a[kept], b[kept]), one, two
  )


@given(SEEDS, st.sampled_from(["lora", "ia3"]), st.floats(0.01, 2))
def test_an_adapter_merged_into_its_kernels_is_the_adapter_applied(
  seed, name, scale
):
  own = jax.tree.map(
    np.asarray,
    testing.draw(KINDS[name].abstract(CONFIG), seed, scale),
  )
  flat = dict(trees.flatten(_params()))
  for place, node in adapters.nodes(own).items():
    stack, *rest = node.kernel(place).split(".")
    path = "/".join((stack, "layers", *rest, "kernel"))
    layers = range(len(flat[path]))
    flat[path] = np.stack(
      [
        jax.tree.map(lambda x, i=i: x[i, 0], node).merged(flat[path][i])
        for i in layers
      ]
    )
  inputs = testing.tokens(ROWS, NARROW[0], seed=seed, vocab_size=11)
  targets = testing.tokens(ROWS, NARROW[1], seed=seed + 1, vocab_size=11)
  applied = _logits(_params(), inputs, targets, own)
  merged = _logits(trees.unflatten(flat), inputs, targets, t5.NO_ADAPTERS)
  np.testing.assert_allclose(merged, applied, rtol=1e-3, atol=1e-3)


@jax.jit
def _divergence(inputs, targets, one, other):
  setting = Setting(_params(), inputs, one)
  return (
    forward.divergence(CONFIG, setting, other, targets),
    forward.divergence(CONFIG, setting, one, targets),
    forward.logits(CONFIG, setting, _shift(targets)),
    forward.logits(CONFIG, setting._replace(adapters=other), _shift(targets)),
  )


def _shift(ids):
  return jnp.pad(ids, ((0, 0), (1, 0)))[:, :-1]


@given(SEEDS, st.sampled_from([0, 1e-5, 1e-3, 0.1, 1, 10]))
def test_divergence_is_of_the_distributions_and_never_below_zero(seed, apart):
  """From rounding to far apart; against float64, and 0 from itself."""
  one = _drawn("lora", seed)
  step = _drawn("lora", seed + 1)
  other = jax.tree.map(lambda x, y: x + np.float32(apart) * y, one, step)
  inputs = testing.tokens(ROWS, NARROW[0], seed=seed, vocab_size=11)
  targets = testing.tokens(ROWS, NARROW[1], seed=seed + 1, vocab_size=11)
  targets[1, 2:] = 0
  found, own, p, q = _divergence(inputs, targets, one, other)
  assert (np.asarray(found) >= 0).all() and not np.asarray(own).any()
  p, q = _log_probs(p), _log_probs(q)
  wanted = ((np.exp(p) * (p - q)).sum(axis=2) * (targets > 0)).sum(axis=1)
  np.testing.assert_allclose(found, wanted, rtol=2e-3, atol=1e-9)
