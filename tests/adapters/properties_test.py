"""What is done with adapters, for any arrays, ranks, dtypes and weights."""

import math

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperjax import adapters
from hyperjax.artifacts import adapter_folder
from hyperjax.models.t5_layers import T5Config
from hyperjax.serving import average, update
from hyperjax.serving.examples import Example
from tests.adapters import written

# Ranks may be more than the smaller extent of a kernel, and than the larger.
CONFIG = T5Config(9, 4, 2, 3, 5, 1, 2)
SPECS = st.one_of(
  st.builds(adapters.PrefixSpec, st.integers(1, 4)),
  st.builds(
    adapters.LoraSpec,
    st.integers(1, 8),
    projections=st.sampled_from([("query",), ("value", "wo")]),
  ),
  st.just(adapters.Ia3Spec(2)),
)
SEEDS = st.integers(0, 2**20)
DTYPES = st.sampled_from([np.float32, ml_dtypes.bfloat16, np.float16])
WEIGHTS = st.floats(0, 1e3)


def _drawn(spec, seed, dtype=np.float32, contexts=1):
  return written.drawn(spec, CONFIG, seed, dtype, contexts)


def _does(arrays):
  """What each place does, in float64: a LoRA its update, others as they are."""
  found = {}
  for place, node in adapters.nodes(arrays).items():
    leaves = {
      name: np.asarray(getattr(node, name), np.float64)
      for name in node.neutral
      if getattr(node, name) is not None
    }
    if "down" in leaves:
      leaves = {"update": leaves["down"] @ leaves["up"]}
    found |= {f"{place}.{name}": leaf for name, leaf in leaves.items()}
  return found


def _assert_same(found, wanted, tolerance=1e-5):
  assert found.keys() == wanted.keys()
  for path, leaf in wanted.items():
    size = max(1.0, np.abs(leaf).max())
    np.testing.assert_allclose(
      found[path], leaf, rtol=0, atol=tolerance * size, err_msg=path
    )


@given(SPECS, SEEDS, st.lists(WEIGHTS, min_size=1, max_size=4))
def test_a_mean_of_copies_is_the_adapter_at_its_own_size(spec, seed, weights):
  """Whatever the weights, and of one alone; a cut then loses nothing."""
  weights = [*weights, 1.0]
  shares = [weight / sum(weights) for weight in weights]
  own = _drawn(spec, seed)
  mean = adapters.mean([own] * len(shares), shares)
  _assert_same(_does(mean), _does(own))
  wanted = spec.mean_of([spec] * (len(shares) - 1), CONFIG).abstract(CONFIG)
  assert jax.tree.map(np.shape, mean) == jax.tree.map(np.shape, wanted)
  cut, left_out = adapters.cut(mean, spec.leaves(CONFIG))
  assert jax.tree.map(np.shape, cut) == jax.tree.map(np.shape, own)
  assert left_out < 1e-5
  _assert_same(_does(cut), _does(own), 1e-4)
  assert adapters.distance(own, cut) < 1e-4


@given(
  SPECS,
  st.lists(st.tuples(SEEDS, WEIGHTS, DTYPES), min_size=1, max_size=4),
  st.randoms(use_true_random=False),
)
def test_a_mean_is_that_of_what_adapters_do_in_any_order(spec, parts, random):
  """As exact as the widest dtype of all that are given."""
  parts = [*parts, (0, 1.0, np.float32)]
  total = sum(weight for _, weight, _ in parts)
  wanted = {}
  for seed, weight, dtype in parts:
    for path, leaf in _does(_drawn(spec, seed, dtype)).items():
      wanted[path] = wanted.get(path, 0) + weight / total * leaf
  for _ in range(2):
    random.shuffle(parts)
    found = adapters.mean(
      [_drawn(spec, seed, dtype) for seed, _, dtype in parts],
      [weight / total for _, weight, _ in parts],
    )
    _assert_same(_does(found), wanted)


@given(st.integers(1, 8), st.integers(1, 8), SEEDS, SEEDS)
def test_a_cut_is_nearest_and_says_what_it_leaves_out(rank, slots, seed, other):
  """The norm of what differs over that of all, by hand; kernels have rank 4."""
  one = _drawn(adapters.LoraSpec(rank, projections=("query", "wo")), seed)
  wanted = adapters.LoraSpec(slots, projections=("query", "wo"))
  cut, left_out = adapters.cut(one, wanted.leaves(CONFIG))
  assert jax.tree.map(np.shape, cut) == jax.tree.map(
    np.shape, wanted.abstract(CONFIG)
  )

  def apart(tree):
    found, own = _does(tree), _does(one)
    return sum(((own[path] - found[path]) ** 2).sum() for path in own)

  total = sum((leaf**2).sum() for leaf in _does(one).values())
  assert left_out == pytest.approx(math.sqrt(apart(cut) / total), abs=1e-5)
  assert (left_out > 1e-3) == (slots < min(rank, 4))
  # No other of that rank is nearer: its factors moved a little.
  generator = np.random.default_rng(other)
  moved = jax.tree.map(lambda x: x + generator.normal(0, 0.02, x.shape), cut)
  assert apart(moved) >= apart(cut) - 1e-4


@given(SPECS, SEEDS, SEEDS, st.floats(0.1, 10))
def test_a_distance_is_zero_from_itself_and_relative(spec, seed, other, scale):
  one, two = _drawn(spec, seed), _drawn(spec, other)
  assert adapters.distance(one, one) < 1e-6
  found = adapters.distance(one, two)
  assert math.isfinite(found) and (found > 1e-3) == (seed != other)
  if not isinstance(spec, adapters.Ia3Spec):  # which is neutral at 1
    scaled = [
      jax.tree.map(lambda x: (x * math.sqrt(scale)).astype(x.dtype), tree)
      for tree in (one, two)
    ]
    assert adapters.distance(*scaled) == pytest.approx(found, rel=1e-4)
  # Of what does nothing there is no share, only none or infinitely much.
  silent = adapters.assemble(
    {
      place: type(node)(
        **{
          name: np.full_like(getattr(node, name), value)
          for name, value in node.neutral.items()
          if getattr(node, name) is not None
        }
      )
      for place, node in adapters.nodes(one).items()
    }
  )
  assert adapters.distance(silent, silent) == 0
  assert adapters.distance(silent, one) == math.inf
  assert adapters.distance(one, silent) == pytest.approx(1, rel=1e-4)


@given(
  st.lists(
    st.tuples(st.one_of(st.none(), SPECS), SEEDS, DTYPES, st.integers(1, 3)),
    min_size=1,
    max_size=4,
  ),
  st.integers(0, 4),
)
def test_a_stack_holds_each_context_as_it_was(parts, at):
  """Filled up with what changes nothing; a stack of stacks is one stack."""
  parts = [
    adapters.Adapters() if spec is None else _drawn(spec, seed, dtype, contexts)
    for spec, seed, dtype, contexts in parts
  ]
  counts = [adapters.num_contexts(part) or 1 for part in parts]
  whole = adapters.stack(parts)
  assert adapters.num_contexts(whole) in (None, sum(counts))
  first, found = 0, adapters.nodes(whole)
  for part, count in zip(parts, counts, strict=True):
    own = adapters.nodes(part)
    for place, node in found.items():
      for name, neutral in node.neutral.items():
        _check_filled(node, own.get(place), name, neutral, first, count)
    first += count
  at = min(at, len(parts))
  halves = [adapters.stack(x) for x in (parts[:at], parts[at:]) if x]
  again = adapters.stack(halves)
  assert jax.tree.structure(again) == jax.tree.structure(whole)
  jax.tree.map(np.testing.assert_array_equal, again, whole)


def _check_filled(node, own, name, neutral, first, count):
  wide = getattr(node, name)
  if wide is None:  # all positions of all are visible
    assert name == "visible" and own is not None
    assert own.key.shape[2] == node.key.shape[2]
    return
  wide = np.asarray(wide)[:, first : first + count].copy()
  if own is not None:
    leaf = getattr(own, name)
    if leaf is None:  # a mask: of as many positions as there are keys
      leaf = np.ones(own.key.shape[:3], bool)
    inside = tuple(map(slice, leaf.shape))
    np.testing.assert_array_equal(wide[inside], leaf)
    wide[inside] = neutral
  np.testing.assert_array_equal(wide, np.full_like(wide, neutral))


@given(SPECS, SEEDS, DTYPES)
def test_trees_and_their_parameters_are_one(spec, seed, dtype):
  own = _drawn(spec, seed, dtype)
  assert adapters.assemble(adapters.nodes(own)) == own
  back = adapters.from_params(adapters.as_params(own), spec.leaves(CONFIG))
  assert jax.tree.structure(back) == jax.tree.structure(own)
  jax.tree.map(np.testing.assert_array_equal, back, own)


def _written(spec, seed, count):
  """An adapter of that many examples."""
  examples = [Example(f"{seed} {i}", "y", i) for i in range(count)]
  return written.from_examples(spec, CONFIG, _drawn(spec, seed), examples)


@given(SPECS, SEEDS, st.lists(st.tuples(SEEDS, st.integers(0, 5)), max_size=3))
def test_an_update_by_the_mean_weighs_examples(spec, seed, later):
  """With none it is no change; each keeps the spec of what it updates."""
  own = _written(spec, seed, 2)
  assert own.identity
  wanted, count = _does(own.arrays), 2
  for other, number in later:
    new = _written(spec, other, number)
    found = update.by_mean(own, new)
    assert found.info.spec == spec
    left_out = found.info.origin["updates"][-1].get("left_out", 0.0)
    share = number / (count + number)
    theirs = _does(new.arrays)
    mean = {
      path: (1 - share) * leaf + share * theirs[path]
      for path, leaf in wanted.items()
    }
    does = _does(found.arrays)
    lost = sum(((does[path] - mean[path]) ** 2).sum() for path in mean)
    total = sum((leaf**2).sum() for leaf in mean.values())
    assert math.sqrt(lost / total) == pytest.approx(left_out, abs=1e-4)
    if not number:
      assert left_out < 1e-5
    own, wanted, count = found, does, count + number


@given(
  SPECS,
  st.lists(
    st.tuples(SEEDS, st.floats(0, 2.0**120, width=32, allow_subnormal=False)),
    min_size=2,
    max_size=4,
  ),
)
def test_weights_of_any_size_are_shares(spec, parts):
  """Scaled to a sum of 1."""
  given_ = [_written(spec, seed, 1) for seed, _ in parts]
  weights = [weight for _, weight in parts]
  if not any(weights):
    with pytest.raises(ValueError, match="not all be 0"):
      average.average(given_, weights)
    return
  found = average.average(given_, weights)
  shares = [x["weight"] for x in found.info.origin["average"]]
  assert sum(shares) == pytest.approx(1)
  for share, weight in zip(shares, weights, strict=True):
    largest = max(weights)
    wanted = (weight / largest) / sum(x / largest for x in weights)
    assert share == pytest.approx(wanted, rel=1e-9, abs=1e-300)


@given(SPECS, SEEDS, DTYPES)
def test_an_adapter_folder_is_read_bit_for_bit(
  tmp_path_factory, spec, seed, dtype
):
  folder = tmp_path_factory.mktemp("adapter")
  own = _written(spec, seed, 1)
  own = adapter_folder.Adapter(own.info, _drawn(spec, seed, dtype))
  own.save(folder / "a")
  found = adapter_folder.read(folder / "a")
  assert (found.info, found.identity) == (own.info, own.identity)
  leaves = adapters.path_leaves(found.arrays)
  for path, leaf in adapters.path_leaves(own.arrays).items():
    assert leaves[path].dtype == dtype
    assert leaves[path].tobytes() == leaf.tobytes(), path
