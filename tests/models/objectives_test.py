import jax
import numpy as np
import pytest

from hyperjax.models import objectives

LOGITS = np.log([[[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.5, 0.25, 0.25]]])
TARGETS = np.array([[0, 1, 2]])


def _loss(weights, **options):
  return objectives.token_loss(
    LOGITS.astype(np.float32), TARGETS, np.array([weights]), **options
  )


def test_loss_is_a_sum_over_weighted_targets_with_its_weight():
  loss, weight, metrics = _loss([1.0, 1.0, 0.0])
  np.testing.assert_allclose(loss, -np.log(0.7) - np.log(0.3), rtol=1e-6)
  assert weight == 2
  # The first target is the most likely id, the second is not.
  np.testing.assert_allclose(metrics["token_accuracy"], (1, 2))


def test_z_loss_adds_the_squared_log_normalizer():
  plain, *_ = _loss([1.0, 1.0, 1.0])
  shifted = LOGITS.astype(np.float32) + 2.0
  loss, _, metrics = objectives.token_loss(
    shifted, TARGETS, np.ones((1, 3)), z_loss=0.5
  )
  np.testing.assert_allclose(loss, plain + 3 * 0.5 * 2.0**2, rtol=1e-5)
  np.testing.assert_allclose(metrics["cross_entropy"][0], plain, rtol=1e-5)


def test_smoothed_labels_cost_nothing_where_they_are_met():
  smooth = np.log([[[0.9, 0.05, 0.05]]]).astype(np.float32)
  loss, *_ = objectives.token_loss(
    smooth, np.array([[0]]), np.ones((1, 1)), label_smoothing=0.1
  )
  assert loss == pytest.approx(0.0, abs=1e-6)
  worse, *_ = objectives.token_loss(
    smooth, np.array([[1]]), np.ones((1, 1)), label_smoothing=0.1
  )
  # Cross entropy with (0.05, 0.9, 0.05), less that distribution's entropy.
  q, p = np.array([0.05, 0.9, 0.05]), np.array([0.9, 0.05, 0.05])
  assert worse == pytest.approx(np.sum(q * np.log(q / p)), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_is_the_softmax_less_the_wanted_distribution(smoothing):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 3, 7)).astype(np.float32)
  targets = rng.integers(0, 7, (2, 3))
  weights = np.array([[1, 1, 0], [0.5, 1, 1]], np.float32)
  found = jax.grad(
    lambda x: objectives.token_loss(x, targets, weights, 1e-2, smoothing)[0]
  )(logits)
  for b, t in np.ndindex(2, 3):
    exps = np.exp(logits[b, t])
    wanted = np.full(7, smoothing / 6)
    wanted[targets[b, t]] = 1 - smoothing
    # log(Z) squared has twice its logarithm before the softmax.
    share = exps / exps.sum() * (1 + 2e-2 * np.log(exps.sum()))
    np.testing.assert_allclose(
      found[b, t], weights[b, t] * (share - wanted), rtol=1e-4, atol=1e-6
    )


def test_of_equal_logits_the_first_is_the_prediction():
  logits = np.array([[[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]]], np.float32)
  for targets, right in (([[1, 0]], 2), ([[2, 1]], 0)):
    metrics = objectives.token_loss(logits, np.array(targets), np.ones((1, 2)))[
      2
    ]
    assert metrics["token_accuracy"][0] == right


def test_of_logits_that_are_no_numbers_the_first_id_is_the_prediction():
  found = objectives.first_greatest(jax.numpy.full((1, 2, 5), np.nan))
  np.testing.assert_array_equal(found, [[0, 0]])
