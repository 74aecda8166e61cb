"""What a hypermodel computes with, and what of it is trained."""

import collections
import dataclasses
import functools

import jax
import numpy as np
import pytest
from flax import linen as nn

from hyperjax import adapters, trees
from hyperjax.models import hypermodel, problems, t5
from tests import testing

BACKBONE = testing.CONFIG
OPTIONS = {
  "copy": {},
  "shared": {"body": "shared", "body_rank": 3},
  "frozen_encoder": {"body": "frozen_encoder", "decoder_layers": 2},
}
DEMONSTRATIONS = testing.tokens(3, 9)
SPEC = testing.SPECS["prefix"]


def _problem(body: str, **options) -> problems.HyperTuning:
  # As wide as no kernel of the T5.
  hyper = hypermodel.HyperT5Config(BACKBONE, 9, **OPTIONS[body] | options)
  return problems.HyperTuning(BACKBONE, hyper, SPEC)


@functools.cache
def _drawn(body):
  """Trained and frozen parameters of a problem, as they begin."""
  with jax.ensure_compile_time_eval():
    init = jax.jit(_problem(body).init)
    return jax.device_get(nn.meta.unbox(init(jax.random.key(0))))


@functools.cache
def _writer(body):
  return jax.jit(_problem(body).write)


def _write(body, own, demonstrations=DEMONSTRATIONS):
  _, frozen = _drawn(body)
  whole = _problem(body).read_by_write({"hypermodel": own}, frozen)
  return _writer(body)(whole, demonstrations)


def test_a_shared_t5_writes_what_its_copy_does_until_its_lora_is_trained():
  """Of the same T5, slots and head, bit for bit."""
  params, frozen = _drawn("shared")
  own, t5_params = params["hypermodel"], trees.flatten(frozen["backbone"])
  # Norms and position biases, which are its own, begin as the T5's.
  flat = {
    path: t5_params.get(path, x) for path, x in trees.flatten(own).items()
  }
  own = trees.unflatten(flat)
  of_copy = {p: x for p, x in t5_params.items() if "logits_dense" not in p}
  of_copy |= {p: x for p, x in flat.items() if p.split("/")[0] != "lora"}
  found = _write("shared", own)
  jax.tree.map(
    np.testing.assert_array_equal,
    found,
    _write("copy", trees.unflatten(of_copy)),
  )
  for path, leaf in own["lora"].items():
    assert leaf.any() == path.endswith("down"), path
    if path.endswith("up"):  # each of them acts
      changed = own | {"lora": own["lora"] | {path: leaf + 1}}
      acts = jax.tree.map(np.array_equal, found, _write("shared", changed))
      assert not all(jax.tree.leaves(acts)), path


def test_a_shared_body_has_lora_norms_biases_and_slots_of_its_own():
  own = dict(_drawn("shared")[0]["hypermodel"])
  del own["head"]
  attention, feed_forward = 4 * (12 + 16), 3 * (12 + 20)
  encoder = 2 * (attention + feed_forward)
  decoder = 3 * (2 * attention + feed_forward)
  norms = (2 * 2 + 1 + 3 * 3 + 1) * 12
  biases, slots = 2 * (2 * 32), 3 * 12
  assert trees.count(own) == 3 * (encoder + decoder) + norms + biases + slots


def test_a_frozen_encoder_reads_as_the_t5_does_also_where_units_drop_out():
  params, frozen = _drawn("frozen_encoder")
  assert set(params["hypermodel"]) == {"decoder", "head", "slots"}
  whole = {**params, **frozen}
  alone = jax.jit(functools.partial(t5.T5(BACKBONE).apply, method="encode"))
  wanted = alone({"params": frozen["backbone"]}, DEMONSTRATIONS)
  problem = _problem("frozen_encoder")
  found, _ = jax.jit(problem.encode)(whole, DEMONSTRATIONS)
  np.testing.assert_array_equal(found, wanted)
  dropping = dataclasses.replace(BACKBONE, dropout_rate=0.5)
  own = dataclasses.replace(problem.hypermodel, t5=dropping)
  model = hypermodel.HyperT5(own, SPEC, BACKBONE)
  variables = {
    "params": hypermodel.whole(own, params["hypermodel"], frozen["backbone"])
  }
  dropped, _ = jax.jit(functools.partial(model.apply, method="encode"))(
    variables, DEMONSTRATIONS, rngs={"dropout": jax.random.key(0)}
  )
  np.testing.assert_array_equal(dropped, wanted)


# Kernels of a layer: seven of the encoder's, eleven of the decoder's.
@pytest.mark.parametrize(
  "body, kernels, embeddings",
  [("copy", 7 + 11, 1), ("shared", 0, 0), ("frozen_encoder", 11, 0)],
)
def test_no_gradient_of_a_frozen_weight_is_computed(body, kernels, embeddings):
  """A gradient of a kernel is a product of its shape, of embeddings a scatter."""
  params, frozen = _drawn(body)
  problem, batch = _problem(body), testing.batch(2)

  def loss(params):
    return problem.loss(params, frozen, batch, None)[0]

  made = collections.Counter(
    (equation.primitive.name, equation.outvars[0].aval.shape)
    for equation in _equations(jax.make_jaxpr(jax.grad(loss))(params).jaxpr)
    if equation.outvars
  )
  shapes = {(12, 16), (16, 12), (12, 20), (20, 12)}
  shapes |= {shape[::-1] for shape in shapes}
  assert sum(made["dot_general", shape] for shape in shapes) == kernels
  assert made["scatter-add", (40, 12)] == embeddings


def _equations(jaxpr):
  for equation in jaxpr.eqns:
    yield equation
    for part in jax.tree.leaves(
      list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
    ):
      inner = getattr(part, "jaxpr", part)
      if hasattr(inner, "eqns"):
        yield from _equations(inner)


@pytest.mark.slow
@pytest.mark.parametrize("body", ["shared", "frozen_encoder"])
def test_separate_demonstrations_have_no_order_whatever_reads_them(body):
  own = _drawn(body)[0]["hypermodel"]
  separate = testing.tokens(2, 3, 6)
  one, other = _write(body, own, separate), _write(body, own, separate[:, ::-1])
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
    one,
    other,
  )


@pytest.mark.parametrize(
  "body, options, message",
  [
    ("shared", {"decoder_layers": 2}, "body is 'shared'"),
    ("frozen_encoder", {"decoder_layers": 4}, "1 to num_decoder_layers, 3"),
    ("nothing", {}, "HyperT5Config.body"),
  ],
)
def test_a_body_that_there_is_not_is_refused(body, options, message):
  given = {"body": body, **options}
  with pytest.raises(ValueError, match=message):
    hypermodel.HyperT5Config(BACKBONE, 16, **given)


@pytest.mark.parametrize("body", ["shared", "frozen_encoder"])
def test_a_body_of_the_backbones_weights_has_its_sizes_and_leaves_it_frozen(
  body,
):
  wider = dataclasses.replace(BACKBONE, mlp_dim=24, dropout_rate=0.1)
  hyper = hypermodel.HyperT5Config(wider, 16, body=body)
  with pytest.raises(
    ValueError, match=r"HyperT5Config\.t5 has mlp_dim 24, not 20$"
  ):
    problems.HyperTuning(BACKBONE, hyper, SPEC)
  with pytest.raises(
    ValueError, match=r"train_backbone is True.*must be 'copy'"
  ):
    dataclasses.replace(_problem(body), train_backbone=True)
  other = hypermodel.HyperT5Config(wider, 16)
  assert problems.HyperTuning(BACKBONE, other, adapters.PrefixSpec(2))
