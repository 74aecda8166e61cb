"""What answers under each control: what its T5 is given, and where that lies."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax import adapters, sharding
from hyperjax.adapters.prefix import Prefix
from hyperjax.adapters.spec import Adapters, AttentionAdapter, EncoderAdapter
from hyperjax.evaluation import answering
from hyperjax.models import decoding, problems, t5
from tests import testing

LAYOUT = sharding.MeshSpec().build(jax.devices()[:2])
INPUTS = np.array([[20, 1], [21, 0], [22, 1], [23, 1]], np.int32)


def _adapters(key):
  prefix = Prefix(key=jnp.asarray(key), value=jnp.asarray(key) + 1)
  return Adapters(encoder=EncoderAdapter(AttentionAdapter(prefix=prefix)))


def _answering(control, constant=None, problem=None):
  problem = problem or problems.FullFineTuning(testing.CONFIG, True)
  answerers = answering.Answerers(problem, LAYOUT, decoding.Greedy, None)
  return answerers.of(control, {"backbone": jnp.ones(1)}, {}, constant)


def test_a_t5_that_is_given_no_adapters_writes_none():
  """A constant adapter is handed on as it is."""
  constant = _adapters(np.ones(3))
  for control, wanted in (
    ("right", t5.NO_ADAPTERS),
    ("in_input", t5.NO_ADAPTERS),
    ("none", t5.NO_ADAPTERS),
    ("constant", constant),
  ):
    own = _answering(control, constant)
    given = own.setting(INPUTS, own.write(None))
    assert given.adapters == wanted, control
    assert given.tokens.tolist() == INPUTS.tolist(), control
    assert given.tokens.sharding == LAYOUT.batch, control
    assert given.backbone.tolist() == [1.0]


def test_a_hypermodel_writes_under_the_controls_that_change_what_it_reads():
  """Each context's own; the controls without it are answered without."""
  problem = testing.hypertuning(testing.SPECS["prefix"])
  in_context = problems.FullFineTuning(testing.CONFIG, True)
  trained = problems.AdapterFineTuning(testing.CONFIG, testing.SPECS["prefix"])
  shown = {"right", "rotated", "other", "relabelled", "relabelled_wrong"}
  for of, writes, joins in (
    (problem, shown, {"in_input"}),
    (in_context, set(), shown | {"in_input"}),
    (trained, set(), {"in_input"}),
  ):
    assert {
      x for x in answering.CONTROLS if answering.has_own_adapters(of, x)
    } == writes
    assert {
      x for x in answering.CONTROLS if answering.reads_in_input(of, x)
    } == joins


def test_memories_have_no_mean_as_a_control():
  found = answering.conditions(testing.hypertuning(adapters.MemorySpec(9)))
  assert "right" in found
  assert not found.keys() & {"constant", "relabelled_constant"}


def test_each_block_of_rows_gets_the_adapters_of_its_context():
  """Of two contexts, in any order and number; what all share is not repeated."""
  problem = testing.hypertuning(testing.SPECS["prefix"])
  written = testing.draw(problem.adapters.abstract(testing.CONFIG, 2))
  place = written.encoder.attention
  shared = dataclasses.replace(place.prefix, value=place.prefix.value[:, :1])
  written = dataclasses.replace(
    written,
    encoder=EncoderAdapter(dataclasses.replace(place, prefix=shared)),
  )
  own = _answering("right", problem=problem)
  tokens = np.repeat(INPUTS, 2, axis=0)
  given = own.setting(tokens, written, np.int32([1, 1, 0, 1]))
  prefix = given.adapters.encoder.attention.prefix
  for i, context in enumerate((1, 1, 0, 1)):
    np.testing.assert_array_equal(prefix.key[:, i], shared.key[:, context])
  assert prefix.key.shape[1] == 4
  assert prefix.key.sharding.is_equivalent_to(LAYOUT.contexts, prefix.key.ndim)
  np.testing.assert_array_equal(prefix.value, shared.value)
  # In their order without a word, and where none are written.
  assert own.setting(tokens, written).adapters is written
  none = _answering("none", problem=problem)
  assert none.setting(tokens, t5.NO_ADAPTERS, np.int32([1, 0])).adapters == (
    t5.NO_ADAPTERS
  )


def test_a_mean_is_over_the_contexts_that_count_and_lies_everywhere():
  """Layer 0 of three contexts has 0, 1 and 5; one of four only fills up."""
  problem = problems.LanguageModel(testing.CONFIG)
  answerers = answering.Answerers(problem, LAYOUT, decoding.Greedy, None)
  mean = answering.Mean()
  for values, weights in (([0, 1], [1, 1]), ([5, 9], [1, 0])):
    key = np.float16(values).reshape(1, 2, 1, 1, 1)
    written = jax.device_put(_adapters(key), LAYOUT.contexts)
    found = answerers._weigh(written, LAYOUT.place(np.float32(weights)))
    for leaf in jax.tree.leaves(found):
      assert (leaf.sharding, leaf.dtype) == (LAYOUT.replicated, jnp.float32)
    mean.add(found, sum(weights))
  prefix = mean.value.encoder.attention.prefix
  assert prefix.key.shape == (1, 1, 1, 1, 1)
  assert float(prefix.key.item()) == 2.0
  assert float(prefix.value.item()) == 3.0
