import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import sharding
from hyperjax.models import attention


def test_a_bias_by_distance_is_laid_out_along_diagonals():
  rng = np.random.default_rng(0)
  distances = rng.normal(size=(2, 9)).astype(np.float32)
  gradient = rng.normal(size=(2, 4, 6)).astype(np.float32)
  found, pull = jax.vjp(lambda x: attention.of_pairs(x, 4), distances)
  wanted, along = np.zeros((2, 4, 6)), np.zeros((2, 9))
  for t, s in np.ndindex(4, 6):
    wanted[:, t, s] = distances[:, s - t + 3]
    along[:, s - t + 3] += gradient[:, t, s]
  np.testing.assert_array_equal(found, wanted)
  np.testing.assert_allclose(pull(gradient)[0], along, rtol=1e-5)


class _Device:
  def __init__(self, platform, capability=None):
    self.platform = platform
    if capability is not None:
      self.compute_capability = capability


CPU, TPU = _Device("cpu"), _Device("tpu")
HOPPER, TURING = _Device("gpu", "9.0"), _Device("gpu", "7.5")


@pytest.mark.parametrize(
  "wanted, dtype, lengths, device, chosen",
  [
    ("auto", "bfloat16", (256, 256), TPU, "plain"),
    ("auto", "bfloat16", (256, 256), HOPPER, "cudnn"),
    ("auto", "bfloat16", (256, 256), TURING, "plain"),  # too old
    ("auto", "bfloat16", (256, 256), _Device("gpu", "gfx942"), "plain"),
    ("auto", "float32", (256, 256), HOPPER, "plain"),  # cuDNN has no float32
    ("auto", "float16", (256, 256), HOPPER, "plain"),  # padding would be NaN
    ("auto", "bfloat16", (256, 256), CPU, "plain"),
    ("plain", "bfloat16", (256, 256), TPU, "plain"),
    ("pallas", "bfloat16", (256, 256), TPU, "pallas"),
    ("pallas", "float16", (256, 256), TPU, "plain"),
    ("pallas", "float32", (1, 7), TPU, "plain"),  # decoding
    ("pallas", "float32", (9000, 9000), TPU, "plain"),
    # A run that has moved.
    ("pallas", "float32", (256, 256), CPU, "plain"),
    ("cudnn", "bfloat16", (256, 256), CPU, "plain"),
    ("interpreted", "float32", (5, 7), CPU, "interpreted"),
  ],
)
def test_a_back_end_goes_by_device_type_and_lengths(
  wanted, dtype, lengths, device, chosen
):
  with sharding.made_for(device):
    assert attention.back_end(wanted, dtype, 64, *lengths) == chosen


def test_attention_is_a_softmax_over_biased_products():
  rng = np.random.default_rng(0)
  query, key, value = (
    rng.normal(size=shape).astype(np.float32)
    for shape in ((2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 4))
  )
  bias = rng.normal(size=(2, 2, 3, 5)).astype(np.float32)
  found = attention.attention(query, key, value, attention.Bias(bias))
  for b, t, h in np.ndindex(2, 3, 2):
    logits = key[b, :, h] @ query[b, t, h] + bias[b, h, t]
    weights = np.exp(logits - logits.max())
    wanted = (weights / weights.sum()) @ value[b, :, h]
    np.testing.assert_allclose(found[b, t, h], wanted, rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_a_softmax():
  rng = np.random.default_rng(1)
  query, key, value, wanted = (
    rng.normal(size=(2, 4, 2, 3)).astype(np.float32) for _ in range(4)
  )

  def distance(of, given):
    return ((of(*given) - wanted) ** 2).sum()

  def ours(query, key, value):
    return attention.attention(query, key, value, attention.Bias())

  def plain(query, key, value):
    logits = jnp.einsum("bthk,bshk->bhts", query, key)
    return jnp.einsum("bhts,bshk->bthk", jax.nn.softmax(logits), value)

  found, right = (
    jax.grad(functools.partial(distance, of))((query, key, value))
    for of in (ours, plain)
  )
  for x, y in zip(found, right, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
  # One key has all of the attention, whatever its logit: not nearly, but exactly.
  one = [x[:, :1] for x in (query, key, value)]
  of_query, of_key, _ = jax.grad(lambda given: (ours(*given) ** 3).sum())(one)
  assert not of_query.any() and not of_key.any()


def test_sums_of_many_large_values_stay_within_float16():
  query, value = jnp.zeros((1, 1, 1, 4)), jnp.full((1, 512, 1, 4), 200.0)
  query, value = query.astype(jnp.float16), value.astype(jnp.float16)
  found = attention.attention(query, value, value, attention.Bias())
  assert found.dtype == jnp.float16
  np.testing.assert_array_equal(found, np.full((1, 1, 1, 4), 200.0))


def test_gradients_of_more_logits_than_32_bits_count_can_be_compiled():
  # XLA's product of a vector so long ends the process.
  def loss(distances_HN, query_BTHK):
    bias = attention.positioned(distances_HN, query_BTHK.shape[1], "plain")
    return attention.attention(query_BTHK, query_BTHK, query_BTHK, bias).sum()

  gradient = jax.jit(jax.grad(loss)).lower(
    jax.ShapeDtypeStruct((2, 2 * 2**15 - 1), np.float32),
    jax.ShapeDtypeStruct((2, 2**15, 2, 4), np.float32),
  )
  stats = gradient.compile().memory_analysis()
  assert stats.temp_size_in_bytes >= 4 * 2**31


@pytest.mark.gpu
@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU")
def test_cudnn_is_plain_attention_but_for_the_last_bits_of_bfloat16():
  rng = np.random.default_rng(0)
  query, key, value, y = (
    jnp.asarray(rng.normal(size=(2, n, 4, 64)), jnp.bfloat16)
    for n in (64, 96, 96, 64)
  )
  pairs = jnp.asarray(rng.normal(size=(1, 4, 64, 96)))
  keys = attention.padding(jnp.arange(96) < jnp.array([[96], [50]]))

  def gradients(back_end):
    def total(query, key, value, pairs):
      bias = attention.Bias(pairs, keys=keys, back_end=back_end)
      out = attention.attention(query, key, value, bias)
      return (out.astype(jnp.float32) * y).sum()

    return jax.jit(jax.grad(total, (0, 1, 2, 3)))(query, key, value, pairs)

  for one, other in zip(gradients("cudnn"), gradients("plain"), strict=True):
    one, other = (np.asarray(x, np.float32) for x in (one, other))
    assert np.abs(one - other).max() <= 2**-6 * np.abs(other).max()
