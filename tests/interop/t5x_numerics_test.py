"""Our T5 against what t5x computes from the same parameters."""

import json

import jax
import numpy as np
import pytest

from hyperjax import trees
from hyperjax.interop import t5x, weights
from hyperjax.models import decoding, objectives, t5
from tests import testing


@pytest.fixture(scope="module", params=["legacy", "orbax"])
def t5x_tiny(request, data_dir):
  """A checkpoint that t5x wrote, and what t5x computes from it."""
  folder = data_dir / "t5x_tiny"
  source = t5x.open_checkpoint(folder / f"t5_tiny_{request.param}")
  params = weights.load(source, source.config).params
  return source.config, params, np.load(folder / "t5_tiny.npz"), folder


def test_logits_encoder_output_and_score_are_t5xs(t5x_tiny):
  config, params, expected, _ = t5x_tiny
  model = t5.T5(config)
  inputs = expected["encoder_input_tokens"]
  logits = testing.optimized(
    model.apply, {"params": params}, inputs, expected["decoder_input_tokens"]
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
  encoded = model.apply({"params": params}, inputs, method="encode")
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
  flat = trees.flatten(grads)
  checked = 0
  for name, wanted in norms.items():
    path = name.replace(".", "/")
    if "/layers_" in path:
      stack, layer, rest = path.split("/", 2)
      grad = flat[f"{stack}/layers/{rest}"][int(layer.removeprefix("layers_"))]
    else:
      grad = flat[path]
    assert float(np.linalg.norm(grad)) == pytest.approx(wanted, rel=1e-3), name
    checked += 1
  assert checked == len(norms) > 20


def test_greedy_decodes_are_t5xs(t5x_tiny):
  config, params, expected, _ = t5x_tiny
  found = decoding.generate(
    t5.T5(config), params, expected["encoder_input_tokens"], 8
  )
  np.testing.assert_array_equal(found.tokens, expected["greedy_decode_8"])
