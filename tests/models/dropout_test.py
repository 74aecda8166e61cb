"""Dropout in a stack of layers: which units fall, and where."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hyperjax import adapters, sharding, trees
from hyperjax.models import t5_layers, t5_stacks

CONFIG = t5_layers.T5Config(
  4, 8, 2, 4, 8, num_encoder_layers=2, num_decoder_layers=1, dropout_rate=0.5
)
ENCODER = t5_stacks.Encoder(CONFIG)
ROWS = 8
# The same in every row, so that only dropout tells rows apart.
X_BSD = np.tile(np.random.default_rng(0).normal(size=(1, 3, 8)), (ROWS, 1, 1))
X_BSD = X_BSD.astype(np.float32)


def _encode(params, key):
  rngs = None if key is None else {"dropout": key}
  mask_BS = jnp.ones(X_BSD.shape[:2], bool)
  x_BSD = sharding.constrain(
    jnp.asarray(X_BSD), sharding.BATCH, sharding.LENGTH, sharding.EMBED
  )
  given = x_BSD, mask_BS, adapters.Adapters().encoder
  return ENCODER.apply({"params": params}, *given, rngs=rngs)


@functools.cache
def _params():
  """All layers alike, with outputs of zero: each is given the same and adds nothing."""
  given = X_BSD, jnp.ones((ROWS, 3), bool), adapters.Adapters().encoder
  shapes = jax.eval_shape(lambda: ENCODER.init(jax.random.key(0), *given))
  generator = np.random.default_rng(1)
  flat = {}
  for path, leaf in trees.flatten(nn.meta.unbox(shapes["params"])).items():
    own = leaf.shape[1:] if path.startswith("layers/") else leaf.shape
    one = generator.normal(size=own)
    if path.endswith(("wo/kernel", "out/kernel")):
      one = np.zeros_like(one)
    flat[path] = np.broadcast_to(one, leaf.shape).astype(np.float32)
  return trees.unflatten(flat)


def test_each_layer_drops_units_of_its_own():
  """Seen in the gradients of what each adds, which are else the same."""

  @jax.jit
  def gradients(params, key):
    def first(params):
      return _encode(params, key)[0].sum()

    return jax.grad(first)(params)["layers"]["mlp"]["wo"]["kernel"]

  one, two = np.asarray(gradients(_params(), jax.random.key(2)))
  assert np.any(one) and np.any(two) and not np.allclose(one, two, atol=1e-6)
  one, two = np.asarray(gradients(_params(), None))
  assert np.any(one)
  np.testing.assert_allclose(one, two, 1e-5, 1e-6)


def test_each_row_drops_units_of_its_own_whatever_the_mesh():
  found = []
  for num_devices, tensor in ((1, 1), (8, 2)):
    layout = sharding.MeshSpec({"tensor": tensor}).build(
      jax.devices()[:num_devices]
    )
    with layout.activate():
      run = jax.jit(_encode, out_shardings=layout.batch)
      found.append(np.asarray(run(_params(), jax.random.key(3))))
  assert len({row.tobytes() for row in found[0]}) == ROWS
  np.testing.assert_allclose(found[1], found[0], 1e-5, 1e-6)
