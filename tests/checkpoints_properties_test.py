"""A checkpoint gives back any tree, bit for bit, on whatever mesh it is asked."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import PartitionSpec

from hyperjax import checkpoints, sharding, train_state

DTYPES = [
  np.float32,
  ml_dtypes.bfloat16,
  np.float16,
  np.int32,
  np.uint8,
  np.bool_,
]
# Whatever stands in an array, also what is no number.
SPECIAL = [0.0, -0.0, 1.0, np.inf, -np.inf, np.nan, 1e-40]
NAMES = st.sampled_from(["a", "b.c", "layers", "0", "x_1"])


@st.composite
def _leaf(draw):
  """An array that meshes divide, also without axes."""
  shape = draw(st.sampled_from([(), (1,), (4,), (4, 8), (8, 4, 3)]))
  generator = np.random.default_rng(draw(st.integers(0, 99)))
  values = generator.choice([*SPECIAL, *generator.normal(size=9) * 100], shape)
  with np.errstate(all="ignore"):
    return np.asarray(values).astype(draw(st.sampled_from(DTYPES)))


TREES = st.dictionaries(
  NAMES,
  st.recursive(
    _leaf() | st.just({}),
    lambda own: st.dictionaries(NAMES, own, max_size=3),
    max_leaves=5,
  ),
  min_size=1,
  max_size=4,
).filter(jax.tree.leaves)
MESHES = {"1": (1, {}), "data 4": (4, {}), "tensor 2": (4, {"tensor": 2})}


def _layout(name):
  devices, axes = MESHES[name]
  return sharding.MeshSpec(axes).build(jax.devices()[:devices])


def _placed(tree, layout):
  """Split where an extent allows it: the first over data, the last over tensor."""

  def place(leaf):
    names = [None] * leaf.ndim
    if leaf.ndim and leaf.shape[0] % 4 == 0:
      names[0] = sharding.DATA_AXIS
    if leaf.ndim > 1 and leaf.shape[-1] % 4 == 0:
      names[-1] = sharding.TENSOR_AXIS
    where = jax.sharding.NamedSharding(layout.mesh, PartitionSpec(*names))
    return jax.make_array_from_callback(
      leaf.shape, where, lambda index: leaf[index]
    )

  return jax.tree.map(place, tree)


def _abstract(tree):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree
  )


def _assert_same(found, wanted):
  assert jax.tree.structure(found) == jax.tree.structure(wanted)
  for (path, a), b in zip(
    jax.tree.leaves_with_path(found), jax.tree.leaves(wanted), strict=True
  ):
    assert (a.shape, a.dtype) == (b.shape, b.dtype), path
    assert np.asarray(a).tobytes() == b.tobytes(), path


@settings(max_examples=12)
@given(
  TREES,
  TREES,
  st.sampled_from([*MESHES]),
  st.sampled_from([*MESHES]),
  st.integers(0, 2**31 - 1),
  st.integers(0, 2**40),
)
def test_any_tree_is_restored_bit_for_bit_on_any_mesh(
  tmp_path_factory, params, moments, saved_on, restored_on, seed, position
):
  folder = tmp_path_factory.mktemp("run") / "checkpoints"
  layout = _layout(saved_on)
  key = jax.random.key(seed)
  facts = checkpoints.Facts(
    position, {"loss": [0.1 + seed, 3.0]}, checkpoints.key_data(key)
  )
  # A list and a tuple, as optimizers' states have them.
  moved = [(moments,), {"count": np.asarray(seed, np.int32)}]
  state = train_state.TrainState(
    jnp.int32(7), _placed(params, layout), {}, _placed(moved, layout), key
  )
  saver = checkpoints.Checkpoints(folder)
  saver.save(state, facts)
  saver.wait()
  saver.close()
  layout = _layout(restored_on)
  wanted = _placed(params, layout), _placed(moved, layout)
  replicated = layout.replicated
  abstract = train_state.TrainState(
    jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated),
    _abstract(wanted[0]),
    {},
    _abstract(wanted[1]),
    jax.ShapeDtypeStruct((), key.dtype, sharding=replicated),
  )
  reader = checkpoints.Checkpoints(folder, read_only=True)
  assert (reader.latest(), reader.steps()) == (7, [7])
  assert reader.facts(7) == facts
  found = reader.restore(7, abstract, {})
  _assert_same(found.params, params)
  _assert_same(found.opt_state, moved)
  for own, placed in zip(
    jax.tree.leaves(found.params), jax.tree.leaves(wanted[0]), strict=True
  ):
    assert own.sharding == placed.sharding
  assert int(found.step) == 7
  assert checkpoints.key_data(found.key) == list(facts.key)
  name = next(name for name, own in params.items() if jax.tree.leaves(own))
  part = reader.restore_part(7, {name: abstract.params[name]})
  _assert_same(part, {name: params[name]})
  reader.close()
