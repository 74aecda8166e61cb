import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hyperjax import adapters
from hyperjax.models import hypermodel
from tests import testing

DEMONSTRATIONS = testing.tokens(3, 9)


def _model(spec, **options):
  config = hypermodel.HyperT5Config(testing.CONFIG, 16, **options)
  return hypermodel.HyperT5(config, spec, testing.CONFIG)


@functools.cache
def _params(name, **options):
  """Random everywhere: past the first update, LoRA writes more than zeros."""
  model = _model(testing.SPECS[name], **options)
  shapes = jax.eval_shape(model.init, jax.random.key(0), DEMONSTRATIONS)
  return testing.draw(nn.meta.unbox(shapes["params"]), scale=0.2)


@functools.partial(jax.jit, static_argnames="name")
def _write(name, params, demonstrations):
  model = _model(testing.SPECS[name])
  return model.apply({"params": params}, demonstrations)


def _assert_close(a, b):
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a, b
  )


@pytest.mark.slow
@pytest.mark.parametrize("name", testing.SPECS)
def test_it_writes_the_tree_that_the_spec_describes(name):
  written = _write(name, _params(name), DEMONSTRATIONS)
  wanted = testing.SPECS[name].abstract(testing.CONFIG, contexts=3)
  assert jax.tree.map(jnp.shape, written) == jax.tree.map(jnp.shape, wanted)


def test_a_padded_demonstration_changes_nothing():
  padded = np.pad(DEMONSTRATIONS, ((0, 0), (0, 5)))
  params = _params("prefix")
  _assert_close(
    _write("prefix", params, padded), _write("prefix", params, DEMONSTRATIONS)
  )


def test_contexts_do_not_meet():
  params = _params("prefix")
  together = _write("prefix", params, DEMONSTRATIONS)
  alone = _write("prefix", params, DEMONSTRATIONS[1:2])
  _assert_close(jax.tree.map(lambda x: x[:, 1:2], together), alone)


@pytest.mark.slow
def test_separate_demonstrations_have_no_order_and_may_be_empty():
  params = _params("prefix")
  separate = testing.tokens(2, 3, 6)
  plain = _write("prefix", params, separate)
  _assert_close(_write("prefix", params, separate[:, ::-1]), plain)
  with_empty = np.pad(separate, ((0, 0), (0, 2), (0, 0)))
  _assert_close(_write("prefix", params, with_empty), plain)
  joined = _write("prefix", params, separate.reshape(2, -1))
  assert not np.allclose(
    joined.encoder.attention.prefix.key,
    plain.encoder.attention.prefix.key,
    atol=1e-3,
  )


@pytest.mark.parametrize("name", testing.ALONE)
def test_encodings_of_separate_demonstrations_may_be_joined_later(name):
  """In another order, and with padding between: the same adapters."""
  model, params = _model(testing.SPECS[name]), {"params": _params(name)}
  separate = testing.tokens(2, 3, 6)
  encode = jax.jit(functools.partial(model.apply, method="encode"))
  parts = [encode(params, separate[:, i : i + 1]) for i in (2, 0, 1)]
  parts.insert(1, (jnp.ones((2, 4, 12)), jnp.zeros((2, 4), bool)))
  encoded, mask = (jnp.concatenate(x, axis=1) for x in zip(*parts, strict=True))
  write = jax.jit(functools.partial(model.apply, method="write"))
  later = write(params, encoded, mask)
  wanted = _write(name, _params(name), separate)
  if name == "memory":  # positions have no order, and zeros are none of them
    later, wanted = (_in_order(x.memory.states) for x in (later, wanted))
  _assert_close(later, wanted)


def _in_order(states):
  """Positions of a memory [1, C, M, D], sorted."""
  return [own[np.lexsort(own.T)] for own in np.asarray(states)[0].round(5)]


def test_earlier_slots_see_later_ones():
  """The hypermodel's decoder has no causal mask."""
  params = _params("prefix")
  slots = params["slots"].at[-1].add(1.0)
  changed = params | {"slots": slots}
  before = _write("prefix", params, DEMONSTRATIONS)
  after = _write("prefix", changed, DEMONSTRATIONS)
  first = [x.encoder.attention.prefix.key[:, :, 0] for x in (before, after)]
  assert not np.allclose(*first, atol=1e-4)


def test_bidirectional_slots_tell_later_from_earlier():
  spec = testing.SPECS["prefix"]
  params = _params("prefix")
  table = params["decoder"]["relpos_bias"]["rel_embedding"]
  # Bucket 17 of 32 is "one later" where buckets are bidirectional, and a
  # distance that three slots never have where they are not.
  changed = jax.tree.map(lambda x: x, params)
  changed["decoder"]["relpos_bias"]["rel_embedding"] = table.at[:, 17].add(3.0)

  def differs(bidirectional):
    model = _model(spec, bidirectional_slots=bidirectional)
    write = jax.jit(model.apply)
    one, two = (write({"params": p}, DEMONSTRATIONS) for p in (params, changed))
    return not np.allclose(
      one.encoder.attention.prefix.key,
      two.encoder.attention.prefix.key,
      atol=1e-5,
    )

  assert differs(True)
  assert not differs(False)


def test_an_untrained_lora_hypermodel_leaves_the_backbone_as_it_is():
  model = _model(testing.SPECS["lora"])
  variables = jax.jit(model.init)(jax.random.key(0), DEMONSTRATIONS)
  written = jax.jit(model.apply)(nn.meta.unbox(variables), DEMONSTRATIONS)
  paths = adapters.path_leaves(written)
  assert all(not leaf.any() for path, leaf in paths.items() if "up" in path)
  assert all(leaf.any() for path, leaf in paths.items() if "down" in path)


def test_an_untrained_ia3_hypermodel_writes_ones():
  model = _model(testing.SPECS["ia3"])
  variables = jax.jit(model.init)(jax.random.key(0), DEMONSTRATIONS)
  written = jax.jit(model.apply)(nn.meta.unbox(variables), DEMONSTRATIONS)
  for leaf in jax.tree.leaves(written):
    np.testing.assert_array_equal(leaf, np.ones_like(leaf))


def test_all_slots_write_a_leaf_that_has_none():
  params = _params("ia3")
  before = _write("ia3", params, DEMONSTRATIONS)
  for slot in range(testing.SPECS["ia3"].num_slots):
    changed = params | {"slots": params["slots"].at[slot].multiply(-1)}
    after = _write("ia3", changed, DEMONSTRATIONS)
    for one, other in zip(*map(jax.tree.leaves, (before, after)), strict=True):
      assert np.abs(one - other).max() > 1e-6


def test_names_shared_with_the_backbone_are_all_but_slots_head_and_logits():
  params = _params("prefix")
  backbone = testing.t5_params()
  assert set(params) - set(backbone) == {"slots", "head"}
  own = dict(backbone["decoder"])
  del own["logits_dense"]
  for found, wanted in (
    (params["encoder"], backbone["encoder"]),
    (params["decoder"], own),
  ):
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, wanted)


def test_an_untrained_head_writes_values_as_spread_as_the_spec_says():
  spec = adapters.PrefixSpec(16, key_stddev=2.0, value_stddev=0.5)
  wide = dataclasses.replace(testing.CONFIG, num_heads=16)
  config = hypermodel.HyperT5Config(testing.CONFIG, 256)
  model = hypermodel.HyperT5(config, spec, wide)
  params = jax.jit(model.init)(jax.random.key(0), DEMONSTRATIONS)
  written = jax.jit(model.apply)(nn.meta.unbox(params), DEMONSTRATIONS)
  prefix = written.encoder.attention.prefix
  assert 1.0 < np.std(prefix.key) < 3.0
  assert 0.25 < np.std(prefix.value) < 0.75
