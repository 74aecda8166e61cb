"""What T5's relatives have that T5 has not: biases of layers, special ids."""

import ast
import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import trees
from hyperjax.batch import Batch
from hyperjax.interop import weights
from hyperjax.models import decoding, forward, problems, t5
from hyperjax.models.forward import Setting
from tests import conftest, testing

OWN = dataclasses.replace(testing.CONFIG, relpos_per_layer=True)
INPUTS = testing.tokens(3, 6)
TARGETS = testing.tokens(3, 5, seed=1)


@functools.cache
def _shared():
  return testing.t5_params()


def _own_biases(change=lambda i, table: table):
  """The shared tables, once for each layer, changed by its number."""
  flat = trees.flatten(_shared())
  for stack, depth in (("encoder", 2), ("decoder", 3)):
    table = np.asarray(flat.pop(f"{stack}/relpos_bias/rel_embedding"))
    flat[f"{stack}/layers/relpos_bias/rel_embedding"] = np.stack(
      [change(i, table) for i in range(depth)]
    )
  return trees.unflatten(flat)


@functools.partial(jax.jit, static_argnames="config")
def _logits(config, params, targets=TARGETS):
  return forward.logits(config, Setting(params, INPUTS), targets)


def test_the_same_bias_in_every_layer_is_one_bias():
  wanted = _logits(testing.CONFIG, _shared())
  found = _logits(OWN, _own_biases())
  np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
  changed = _own_biases(lambda i, table: table * (1 + i))
  assert np.abs(_logits(OWN, changed) - wanted).max() > 1e-3


def test_cached_decoding_with_biases_of_layers_is_the_full_forward():
  params = _own_biases(lambda i, table: table * (1 + 3 * i))
  decode = jax.jit(
    lambda params: (
      forward.decode(OWN, Setting(params, INPUTS), max_length=5).tokens
    )
  )
  found = np.asarray(decode(params))
  begun = np.pad(found, ((0, 0), (1, 0)))[:, :-1]
  likeliest = np.asarray(_logits(OWN, params, begun).argmax(-1))
  for own, wanted in zip(found, likeliest, strict=True):
    ends = np.flatnonzero(own == 1)
    count = ends[0] + 1 if len(ends) else len(own)
    np.testing.assert_array_equal(own[:count], wanted[:count])


def test_a_loss_begins_with_the_start_that_a_t5_has():
  config = dataclasses.replace(testing.CONFIG, start_id=5)
  begun = np.concatenate([np.full((3, 1), 5), TARGETS[:, :-1]], axis=1)
  logits = _logits(testing.CONFIG, _shared(), begun)
  log_probs = jax.nn.log_softmax(logits)
  picked = np.take_along_axis(np.asarray(log_probs), TARGETS[..., None], -1)
  weights = (TARGETS != 0).astype(np.float32)
  wanted = (picked[..., 0] * weights).sum(axis=1)
  shifted = np.pad(TARGETS, ((0, 0), (1, 0)))[:, :-1]
  batch = Batch(INPUTS, shifted, TARGETS, weights)
  params = {"backbone": _shared()}
  problem = problems.LanguageModel(config)
  loss, weight, _ = jax.jit(lambda p: problem.loss(p, {}, batch, None))(params)
  assert float(loss) == pytest.approx(-wanted.sum(), rel=1e-5)
  assert float(weight) == weights.sum()
  setting = Setting(_shared(), INPUTS)
  scores = jax.jit(
    lambda: forward.log_likelihood(config, setting, jnp.asarray(TARGETS))
  )()
  np.testing.assert_allclose(scores, wanted, rtol=1e-5)


def test_padding_of_another_id_is_masked_and_unscored():
  config = dataclasses.replace(testing.CONFIG, pad_id=7)
  swapped = np.where(INPUTS == 7, 8, INPUTS)
  targets = np.where(TARGETS == 7, 8, TARGETS)
  ours, theirs = (np.where(x == 0, 7, x) for x in (swapped, targets))
  score = jax.jit(forward.log_likelihood, static_argnums=0)
  found = score(config, Setting(_shared(), ours), theirs)
  wanted = score(testing.CONFIG, Setting(_shared(), swapped), targets)
  np.testing.assert_allclose(found, wanted, rtol=1e-4)


@functools.partial(jax.jit, static_argnames=("config", "decoder"))
def _decoded(config, decoder, params, inputs):
  setting = Setting(params, inputs)
  return forward.decode(config, setting, max_length=6, decoder=decoder).tokens


@pytest.mark.parametrize(
  "decoder", [decoding.Greedy, decoding.Beam(1)], ids=["greedy", "beam"]
)
def test_any_of_several_ends_ends_and_padding_follows(decoder):
  plain = np.asarray(_decoded(testing.CONFIG, decoder, _shared(), INPUTS))
  # What the first two rows write third is an end now.
  ends = 1, int(plain[0, 2]), int(plain[1, 2])
  config = dataclasses.replace(testing.CONFIG, eos_ids=ends, pad_id=39)
  inputs = np.where(INPUTS == 0, 39, INPUTS)
  found = np.asarray(_decoded(config, decoder, _shared(), inputs))
  for own, before in zip(found, plain, strict=True):
    count = int(np.flatnonzero(np.isin(before, ends))[0]) + 1
    np.testing.assert_array_equal(own[:count], before[:count])
    assert set(own[count:]) <= {39}
    assert decoding.written(config, own) == before[:count].tolist()


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"start_id": 40}, "start_id is 40; it must be below vocab_size, which is"),
    ({"eos_ids": (1, 40)}, r"eos_ids is \(1, 40\); it must be below"),
    ({"pad_id": -1}, "pad_id must be a whole number"),
    ({"eos_ids": ()}, "eos_ids must have one or more"),
  ],
)
def test_special_ids_have_rows(changes, message):
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(testing.CONFIG, **changes)


def test_a_t5_alone_without_a_bias_of_the_stack_has_one_of_each_layer():
  shapes = jax.eval_shape(t5.T5(OWN).init, jax.random.key(0), INPUTS, TARGETS)[
    "params"
  ]
  names = [x for x in trees.flatten(shapes) if "relpos_bias" in x]
  assert all("/layers/relpos_bias/" in name for name in names)
  assert len(names) == 2


@functools.cache
def _steps(num_devices, axes=()):
  """Losses of three updates of a hypermodel that began as an umT5."""
  problem = testing.hypertuning(testing.SPECS["prefix"], OWN)
  trainer = testing.make_trainer(problem, None, num_devices, axes)
  state = trainer.init(0)
  batch = trainer.layout.place_own(testing.batch(8, 2))
  found = []
  for _ in range(3):
    state, metrics = trainer.train_step(state, batch)
    total, weight = metrics["loss"]
    found.append(float(total) / float(weight))
  tables = state.params["hypermodel"]["decoder"]["layers"]["relpos_bias"]
  return found, np.asarray(tables["rel_embedding"])


@pytest.mark.slow
@pytest.mark.parametrize(
  "axes", [(), (("fsdp", 4), ("tensor", 2))], ids=["data", "fsdp, tensor"]
)
def test_biases_of_layers_are_trained_on_every_mesh_alike(axes):
  wanted, tables = _steps(1)
  found, own = _steps(8, axes)
  np.testing.assert_allclose(found, wanted, rtol=1e-5)
  np.testing.assert_allclose(own, tables, rtol=1e-3, atol=2e-4)
  assert len(set(wanted)) == 3


@pytest.mark.parametrize(
  "name, count",
  [
    ("mt5_small", 300_176_768),
    ("umt5_small", 306_601_984),
    ("byt5_small", 299_637_760),
    ("codet5_base", 222_882_048),
  ],
)
def test_files_of_sizes_have_as_many_parameters_as_what_is_published(
  name, count
):
  file = conftest.ROOT / "gin" / "models" / f"{name}.gin"
  bound = re.findall(r"T5Config\.(\w+) = (.+)", file.read_text())
  config = t5.T5Config(**{x: ast.literal_eval(value) for x, value in bound})
  shapes = weights.parameter_shapes(config).values()
  assert sum(map(math.prod, shapes)) == count
