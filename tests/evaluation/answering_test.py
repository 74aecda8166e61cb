"""What answers under each control: what its T5 is given, and where that lies."""

import jax
import jax.numpy as jnp
import numpy as np

from hyperjax import sharding
from hyperjax.adapters.prefix import Prefix
from hyperjax.adapters.spec import Adapters, AttentionAdapter, EncoderAdapter
from hyperjax.batch import Batch
from hyperjax.evaluation import answering
from hyperjax.models import decoding, problems, t5
from tests import testing

LAYOUT = sharding.MeshSpec().build(jax.devices()[:2])
DEMONSTRATIONS = np.array([[5, 6, 0], [7, 0, 0]], np.int32)
INPUTS = np.array([[20, 1], [21, 0], [22, 1], [23, 1]], np.int32)


def _adapters(key):
  prefix = Prefix(key=jnp.asarray(key), value=jnp.asarray(key) + 1)
  return Adapters(encoder=EncoderAdapter(AttentionAdapter(prefix=prefix)))


def test_each_control_gives_the_t5_its_own_input_and_adapters():
  """Over the devices as the rows are."""
  problem = problems.FullFineTuning(testing.CONFIG, True)
  answerers = answering.Answerers(problem, LAYOUT, decoding.Greedy, None)
  params, constant = {"backbone": jnp.ones(1)}, _adapters(np.ones(3))
  batch = LAYOUT.place(
    Batch(INPUTS, INPUTS, INPUTS, np.float32(INPUTS), DEMONSTRATIONS)
  )
  joined = [
    [5, 6, 20, 1, 0],
    [5, 6, 21, 0, 0],
    [7, 22, 1, 0, 0],
    [7, 23, 1, 0, 0],
  ]
  for control, tokens, given in (
    ("right", joined, t5.NO_ADAPTERS),
    ("in_input", joined, t5.NO_ADAPTERS),
    ("none", INPUTS.tolist(), t5.NO_ADAPTERS),
    ("constant", INPUTS.tolist(), constant),
  ):
    own = answerers.of(control, params, {}, constant).give(batch)
    assert own.backbone is params["backbone"]
    assert own.adapters is given or own.adapters == given, control
    assert own.tokens.tolist() == tokens, control
    assert own.tokens.sharding == LAYOUT.batch, control


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
