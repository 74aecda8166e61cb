"""Attention in a kernel against the plain one, in Pallas's interpreter."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import adapters
from hyperjax.adapters import MASKED
from hyperjax.models import attention, attention_kernel, forward
from tests import testing

HEADS, WIDTH = 2, 16
KERNEL = dataclasses.replace(testing.CONFIG, attention="interpreted")


def _given(queries, keys, prefix, dtype, has_distances):
  """Arrays of two rows; all keys of the second but its prefix are masked."""
  rng = np.random.default_rng(0)

  def normal(*shape):
    return jnp.asarray(rng.normal(size=shape), dtype)

  query, y = (normal(2, queries, HEADS, WIDTH) for _ in range(2))
  key, value = (normal(2, prefix + keys, HEADS, WIDTH) for _ in range(2))
  masked = rng.random((2, prefix + keys)) < 0.3
  masked[1, prefix:] = True
  masked[0, prefix + keys - 7 :] = True
  masked[0, :prefix] = False
  # Hidden positions of a prefix get less than padding.
  hidden = jnp.where(masked, MASKED, 0.0).at[1, :prefix].set(2 * MASKED)
  distances = jnp.asarray(rng.normal(size=(HEADS, queries + keys - 1)))
  return (query, key, value, distances if has_distances else None), hidden, y


def _plain(query, key, value, distances, *, hidden, prefix):
  pairs = None
  if distances is not None:
    positions = (
      np.arange(key.shape[1] - prefix) - np.arange(query.shape[1])[:, None]
    )
    pairs = distances[:, positions + query.shape[1] - 1][None]
  bias = attention.Bias(pairs, keys=hidden, prefix=prefix)
  return attention.attention(query, key, value, bias)


def _kernel(query, key, value, distances, *, hidden, prefix):
  return attention_kernel.flash(
    query, key, value, hidden, distances, prefix=prefix, interpret=True
  )


def _value_and_gradients(function, given, y):
  def loss(given):
    out = function(*given).astype(jnp.float32)
    return (out * y).sum(), out

  (_, out), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(given)
  return [out, *jax.tree.leaves(gradients)]


@pytest.mark.parametrize(
  "queries, keys, prefix, has_distances",
  [(150, 301, 5, True), (37, 130, 0, False)],
)
def test_values_and_gradients_are_those_of_plain_attention(
  queries, keys, prefix, has_distances
):
  given, hidden, y = _given(queries, keys, prefix, jnp.float32, has_distances)
  found, wanted = (
    _value_and_gradients(
      functools.partial(function, hidden=hidden, prefix=prefix), given, y
    )
    for function in (_kernel, _plain)
  )
  assert len(found) == len(wanted) == 4 + has_distances
  for one, other in zip(found, wanted, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-5)


def test_in_bfloat16_errors_are_a_few_of_its_last_bits():
  """Against float32 arithmetic on the same arrays: at most 2**-7 of the largest."""
  given, hidden, y = _given(130, 150, 3, jnp.bfloat16, True)
  exact = jax.tree.map(lambda x: x.astype(jnp.float32), given)
  found, wanted = (
    _value_and_gradients(
      functools.partial(function, hidden=hidden, prefix=3), own, y
    )
    for function, own in ((_kernel, given), (_plain, exact))
  )
  for one, other in zip(found, wanted, strict=True):
    most = np.abs(one.astype(jnp.float32) - other).max()
    assert most <= 2**-7 * np.abs(other).max()


def test_a_t5_whose_attention_is_the_kernel_is_the_same_t5():
  """With padding, prefixes of which some lack positions, and a causal mask."""
  params = testing.t5_params()
  setting = forward.Setting(
    params, np.pad(testing.tokens(4, 6), ((0, 0), (0, 2))), _prefixes()
  )
  targets = testing.tokens(4, 5, seed=1)
  found, wanted = (
    jax.jit(functools.partial(forward.logits, config))(setting, targets)
    for config in (KERNEL, testing.CONFIG)
  )
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def _prefixes():
  spec = testing.SPECS["prefix"]
  one, other = (
    testing.draw(spec.abstract(testing.CONFIG, 1), seed) for seed in (0, 1)
  )
  short = jax.tree.map(lambda x: x[:, :, :2], other)
  return adapters.stack([jax.tree.map(np.asarray, x) for x in (one, short)])


@pytest.mark.slow
def test_a_step_with_the_kernel_is_the_plain_one_on_any_mesh():
  given = testing.batch(4, 2, demonstrations=9, inputs=7, targets=5)
  found = []
  for config, axes in (
    (testing.CONFIG, {}),
    (KERNEL, {}),
    (KERNEL, {"data": 2, "fsdp": 2, "tensor": 2}),
  ):
    problem = testing.hypertuning(testing.SPECS["prefix"], config)
    count = 8 if axes else 1
    trainer = testing.make_trainer(problem, num_devices=count, axes=axes)
    placed = trainer.layout.place_own(given)
    state, metrics = trainer.train_step(trainer.init(0), placed)
    found.append((state.params, metrics))
  for other in found[1:]:
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
      other,
      found[0],
    )
