"""Our T5 against what t5x computes from the same parameters."""

import functools
import json

import jax
import numpy as np
import pytest

from hyperjax.interop import t5x, weights
from hyperjax.models import decoding, objectives, t5
from tests import conftest, testing


@pytest.fixture(scope="module")
def t5x_tiny():
  """A checkpoint that t5x wrote, and what t5x computes from it.

  `t5x_test` shows that its other format holds the same parameters.
  """
  folder = conftest.MODELS / "t5x_tiny"
  source = t5x.open_checkpoint(folder / "t5_tiny_legacy")
  params = weights.load(source, source.config).params
  return source.config, params, np.load(folder / "t5_tiny.npz"), folder


def test_logits_encoder_output_and_score_are_t5xs(t5x_tiny):
  config, params, expected, _ = t5x_tiny
  model = t5.T5(config)
  inputs = expected["encoder_input_tokens"]
  logits = testing.optimized(model.apply)(
    {"params": params}, inputs, expected["decoder_input_tokens"]
  )
  mask = expected["decoder_loss_weights"] > 0
  np.testing.assert_allclose(
    np.asarray(logits)[mask], expected["logits"][mask], rtol=1e-4, atol=1e-4
  )
  targets = expected["decoder_target_tokens"]
  log_probs = jax.nn.log_softmax(logits)
  picked = np.take_along_axis(
    np.asarray(log_probs), targets[..., None], axis=-1
  )[..., 0]
  np.testing.assert_allclose(
    (picked * expected["decoder_loss_weights"]).sum(axis=1),
    expected["score"],
    rtol=1e-4,
    atol=1e-4,
  )
  encode = functools.partial(model.apply, method="encode")
  encoded = jax.jit(encode)({"params": params}, inputs)
  np.testing.assert_allclose(
    np.asarray(encoded)[inputs > 0],
    expected["encoded"][inputs > 0],
    rtol=1e-4,
    atol=1e-4,
  )


def test_loss_and_gradient_norms_are_t5xs(t5x_tiny):
  config, params, expected, folder = t5x_tiny

  def loss(params):
    logits = t5.T5(config).apply(
      {"params": params},
      expected["encoder_input_tokens"],
      expected["decoder_input_tokens"],
    )
    total, weight, _ = objectives.token_loss(
      logits,
      expected["decoder_target_tokens"],
      expected["decoder_loss_weights"],
      z_loss=float(expected["z_loss_weight"]),
    )
    return total, weight

  (total, weight), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(
    params
  )
  assert total == pytest.approx(float(expected["loss"]), rel=1e-5)
  per_token = float(expected["loss_per_token"])
  assert total / weight == pytest.approx(per_token, rel=1e-5)
  norms = json.loads((folder / "t5_tiny_grad_norms.json").read_text())
  found = weights.from_params("gradients", config, grads)
  assert {name.replace(".", "/") for name in norms} == set(found.shapes)
  for name, wanted in norms.items():
    norm = np.linalg.norm(found.read(name.replace(".", "/")))
    assert norm == pytest.approx(wanted, rel=1e-3), name


def test_greedy_decodes_are_t5xs(t5x_tiny):
  config, params, expected, _ = t5x_tiny
  found = decoding.generate(
    t5.T5(config), params, expected["encoder_input_tokens"], 8
  )
  np.testing.assert_array_equal(found.tokens, expected["greedy_decode_8"])
