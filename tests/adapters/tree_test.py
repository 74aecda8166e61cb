"""What is done with adapters of whatever kind: batches, means, distances."""

import jax
import ml_dtypes
import numpy as np
import pytest

from hyperjax import adapters
from hyperjax.adapters import arrays
from hyperjax.adapters import spec as adapter_spec
from tests import testing

CONFIG = testing.CONFIG


def _drawn(spec, seed=0, contexts=1):
  if spec is None:
    return adapters.Adapters()
  generator = np.random.default_rng(seed)
  return jax.tree.map(
    lambda leaf: generator.normal(0, 0.5, leaf.shape).astype(np.float32),
    spec.abstract(CONFIG, contexts),
  )


@pytest.mark.parametrize("name", testing.SPECS)
def test_adapters_of_one_shape_are_only_put_side_by_side(name):
  """Nothing is added, so nothing is paid, where nothing is filled up."""
  spec = testing.SPECS[name]
  given = [_drawn(spec, 0), _drawn(spec, 1, contexts=2)]
  wanted = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *given)
  found = adapters.stack(given)
  assert jax.tree.structure(found) == jax.tree.structure(wanted)
  jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_a_batch_without_any_adapter_is_that_of_the_t5_alone():
  none = adapters.Adapters()
  assert adapters.stack([none, none]) == none


@pytest.mark.parametrize("name", testing.SPECS)
def test_filling_up_keeps_the_dtype(name):
  low = jax.tree.map(
    lambda leaf: leaf.astype(ml_dtypes.bfloat16), _drawn(testing.SPECS[name])
  )
  found = adapters.path_leaves(adapters.stack([low, adapters.Adapters()]))
  for path in adapters.path_leaves(low):
    assert found[path].dtype == ml_dtypes.bfloat16
    assert found[path].shape[1] == 2


@pytest.mark.parametrize("name", testing.SPECS)
def test_a_distance_is_relative_to_what_an_adapter_changes(name):
  """Halfway to changing nothing is a distance of a half."""
  own = _drawn(testing.SPECS[name])
  silent = adapters.assemble(
    {
      place: type(node)(
        **{
          field: np.full_like(getattr(node, field), value)
          for field, value in node.neutral.items()
          if getattr(node, field) is not None
        }
      )
      for place, node in adapters.nodes(own).items()
    }
  )
  assert adapters.distance(own, own) < 1e-6
  assert adapters.distance(own, silent) == pytest.approx(1)
  for place, node in adapters.nodes(own).items():
    half = type(node).mean([node, adapters.nodes(silent)[place]], [0.5, 0.5])
    whole = adapter_spec.assemble({place: half})
    kept, _ = adapters.cut(whole, testing.SPECS[name].leaves(CONFIG))
    [kept] = adapters.nodes(kept).values()
    if name == "memory":  # of which a half is no less, at its positions
      continue
    assert node.distance(kept) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("name", testing.SPECS)
def test_a_kind_names_itself_and_its_size(name):
  assert (
    testing.SPECS[name].label
    == {
      "prefix": "prefixes of 3",
      "lora": "LoRA of rank 2",
      "ia3": "IA3",
      "memory": "memory of 20",
      "both": "LoRA of rank 2 and prefixes of 3",
    }[name]
  )


def test_a_mean_holds_the_values_of_all_whatever_their_order():
  short = np.asarray([1.0], ml_dtypes.bfloat16)
  long = np.asarray([1.001], np.float32)
  for given in ([short, long], [long, short]):
    found = arrays.weighted(given, [0.5, 0.5])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [1.0005], rtol=1e-6)


@pytest.mark.parametrize("name", testing.SPECS)
def test_every_adapter_of_a_mean_has_a_weight_and_of_a_batch_a_number(name):
  given = [_drawn(testing.SPECS[name], seed) for seed in (0, 1)]
  with pytest.raises(ValueError, match="zip"):
    adapters.mean(given, [1.0])
  nodes = [next(iter(adapters.nodes(own).values())) for own in given]
  with pytest.raises(ValueError, match="zip"):
    type(nodes[0]).stack(nodes, [1])


def test_a_place_where_only_one_stands_is_as_far_as_all_that_it_does():
  """From nothing to something is infinitely far, and back it is all of it."""
  query, both = (
    "encoder.attention.query",
    ("encoder.attention.query", "decoder.mlp.wo"),
  )
  more = _drawn(adapters.PlacedLoraSpec(dict.fromkeys(both, 2)))
  less = adapter_spec.assemble({query: adapters.nodes(more)[query]})
  assert adapters.distance(more, more) < 1e-12
  assert adapters.distance(more, less) == pytest.approx(1)
  assert adapters.distance(less, more) == np.inf
