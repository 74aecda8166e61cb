"""Steps of a decode: what each computes, and that it moves nothing it need not."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import adapters, sharding, trainer, trees
from hyperjax.models import decoding, forward, problems
from hyperjax.models.t5_layers import T5Config
from tests import testing

CONFIG = testing.CONFIG
LENGTH = 7
INPUTS = testing.tokens(8, 7)


def _written(lengths=(3, 1)):
  """Prefixes of two contexts, of which one is shorter where lengths differ."""
  drawn = [
    testing.draw(adapters.PrefixSpec(length).abstract(CONFIG, 1), i, 1.0)
    for i, length in enumerate(lengths)
  ]
  return adapters.stack([jax.tree.map(np.asarray, each) for each in drawn])


@pytest.mark.slow
def test_beams_behind_prefixes_score_as_the_full_forward_pass():
  """Each beam sees its own positions, and of a prefix what its context has."""
  setting = forward.Setting(testing.t5_params(), INPUTS, _written())
  decoder = decoding.Beam(4, 0.0)
  found, wanted = jax.jit(lambda setting: _found_and_wanted(setting, decoder))(
    setting
  )
  np.testing.assert_allclose(found.scores, wanted, rtol=1e-4, atol=1e-5)
  assert len({tuple(row) for row in np.asarray(found.tokens)}) > 1


def _found_and_wanted(setting, decoder):
  found = forward.decode(CONFIG, setting, max_length=LENGTH, decoder=decoder)
  shifted = jnp.pad(found.tokens, ((0, 0), (1, 0)))[:, :-1]
  logits = forward.logits(CONFIG, setting, shifted)
  log_probs = jnp.take_along_axis(
    jax.nn.log_softmax(logits), found.tokens[..., None], axis=2
  )[..., 0]
  ended = jnp.cumsum(found.tokens == 1, axis=1) - (found.tokens == 1)
  return found, (log_probs * (ended == 0)).sum(axis=1)


def _equations(jaxpr):
  for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
    yield equation
    for value in jax.tree.leaves(
      equation.params, is_leaf=lambda x: hasattr(x, "eqns")
    ):
      if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
        yield from _equations(value)


def test_beams_move_no_keys_or_values():
  """Of a position's program; who goes on from whom is a table of numbers."""
  setting = forward.Setting(testing.t5_params(), INPUTS, _written((3, 3)))
  jaxpr = jax.make_jaxpr(
    functools.partial(
      forward.decode, CONFIG, max_length=LENGTH, decoder=decoding.Beam(3)
    )
  )(setting)
  [loop] = [
    x
    for x in _equations(jaxpr)
    if x.primitive.name == "while" and len(x.outvars) > 10
  ]
  moved = [
    x.outvars[0].aval
    for x in _equations(loop.params["body_jaxpr"])
    if x.primitive.name in ("gather", "dynamic_slice", "concatenate")
  ]
  assert moved
  heads = (CONFIG.num_heads, CONFIG.head_dim)
  assert not [x for x in moved if set(heads) <= set(x.shape)]


@pytest.mark.slow
def test_a_step_runs_few_instructions_a_layer_besides_its_products():
  """Counted in programs of two depths; nothing is copied."""
  fewer, more = (_counted(_compiled(layers)) for layers in (1, 2))
  assert more["copy"] == fewer["copy"]
  # Four of each norm, four of each softmax, two of the cache; sums, gates, heads.
  assert more["all"] - fewer["all"] <= 28
  # Query, key and value are one product; two are of each attention.
  assert more["dot"] - fewer["dot"] == 1 + 1 + 2 + 2 * 2 + 3


@pytest.mark.slow
def test_sharded_weights_are_gathered_when_a_position_reads_them():
  """Not before the first one: then each device would hold the whole decoder."""
  config = T5Config(512, 64, 4, 16, 128, 1, 2)
  layout = sharding.MeshSpec({"fsdp": 4}).build(jax.devices()[:4])
  shapes, _ = trainer.abstract_params(problems.LanguageModel(config), layout)
  params = trees.place_params(testing.t5_params(config), shapes["backbone"])
  tokens = layout.place(testing.tokens(4, 24))
  with layout.activate():
    decode = jax.jit(lambda given: forward.decode(config, given, max_length=12))
    text = decode.lower(forward.Setting(params, tokens)).compile().as_text()
  computations = dict(
    re.findall(r"^%(\S+) \(.*?\{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE)
  )
  body = re.findall(r"while\(.*?body=%([^,\s]+)", text)[-1]
  # Of each layer: query, key and value, two outs, a query, and of a gated MLP three.
  assert len(re.findall(r" all-gather\(", computations[body])) >= 2 * 7


def _compiled(layers):
  config = T5Config(512, 64, 4, 16, 128, 1, layers)

  def decode(params, inputs):
    setting = forward.Setting(params, inputs)
    return forward.decode(config, setting, max_length=12)

  given = testing.t5_params(config), testing.tokens(4, 24)
  # Fused as users' programs are, whatever other tests do.
  return jax.jit(decode).lower(*given).compile().as_text()


def _counted(text):
  """Instructions of a program's last loop that compute something."""
  computations = dict(
    re.findall(r"^%(\S+) \(.*?\{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE)
  )
  body = re.findall(r"while\(.*?body=%([^,\s]+)", text)[-1]
  counted = {"all": 0, "dot": 0, "copy": 0}
  for line in computations[body].splitlines():
    found = re.search(r"= (?:\(.*?\)|\S+) ([a-z-]+)\(", line)
    if not found or found[1] in _FREE:
      continue
    inner = line
    if found[1] == "fusion":
      inner = computations[re.findall(r"calls=%([^,\s]+)", line)[0]]
    for name in ("dot", "copy"):
      counted[name] += f" {name}(" in inner
    counted["all"] += " dot(" not in inner
  return counted


_FREE = ("parameter", "get-tuple-element", "constant", "bitcast", "tuple")
