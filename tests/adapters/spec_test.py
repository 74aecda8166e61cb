import jax
import pytest

from hyperjax import adapters, sharding
from hyperjax.models.t5_layers import T5Config
from tests import testing

XL = T5Config(32128, 2048, 32, 64, 5120, 24, 24)


def test_a_prefix_has_keys_and_values_at_every_site():
  tree = adapters.PrefixSpec(5).abstract(testing.CONFIG, contexts=3)
  shapes = {
    path: leaf.shape for path, leaf in adapters.path_leaves(tree).items()
  }
  encoder, decoder = (2, 3, 5, 2, 8), (3, 3, 5, 2, 8)
  assert shapes == {
    "encoder.attention.prefix.key": encoder,
    "encoder.attention.prefix.value": encoder,
    "decoder.self_attention.prefix.key": decoder,
    "decoder.self_attention.prefix.value": decoder,
    "decoder.encoder_decoder_attention.prefix.key": decoder,
    "decoder.encoder_decoder_attention.prefix.value": decoder,
  }


def test_a_lora_updates_query_and_value_unless_told_otherwise():
  spec = adapters.LoraSpec(4, sites=("encoder.attention",))
  tree = adapters.path_leaves(spec.abstract(testing.CONFIG, contexts=3))
  assert {path: leaf.shape for path, leaf in tree.items()} == {
    "encoder.attention.query.down": (2, 3, 12, 4),
    "encoder.attention.query.up": (2, 3, 4, 16),
    "encoder.attention.value.down": (2, 3, 12, 4),
    "encoder.attention.value.up": (2, 3, 4, 16),
  }


def test_ia3_scales_keys_values_and_what_the_feed_forward_gives():
  tree = adapters.path_leaves(adapters.Ia3Spec(2).abstract(testing.CONFIG, 3))
  assert {path: leaf.shape for path, leaf in tree.items()} == {
    "encoder.attention.ia3_key.scale": (2, 3, 16),
    "encoder.attention.ia3_value.scale": (2, 3, 16),
    "encoder.mlp.ia3_wo.scale": (2, 3, 20),
    "decoder.self_attention.ia3_key.scale": (3, 3, 16),
    "decoder.self_attention.ia3_value.scale": (3, 3, 16),
    "decoder.encoder_decoder_attention.ia3_key.scale": (3, 3, 16),
    "decoder.encoder_decoder_attention.ia3_value.scale": (3, 3, 16),
    "decoder.mlp.ia3_wo.scale": (3, 3, 20),
  }


def test_a_lora_of_t5_xl_has_590_thousand_outputs_per_slot():
  tree = adapters.LoraSpec(16).abstract(XL)
  assert sum(leaf.size for leaf in jax.tree.leaves(tree)) // 16 == 589_824


@pytest.mark.parametrize("name", testing.SPECS)
def test_axes_name_every_axis_of_every_array(name):
  spec = testing.SPECS[name]
  known = {axis for axis, _ in sharding.AXIS_RULES}
  arrays = adapters.path_leaves(spec.abstract(testing.CONFIG))
  for path, axes in adapters.path_leaves(spec.axes(testing.CONFIG)).items():
    assert len(axes) == len(arrays[path].shape)
    assert set(axes) <= known
    assert axes[:2] == (sharding.LAYERS, sharding.BATCH)


@pytest.mark.parametrize(
  "make, message",
  [
    (lambda: adapters.PrefixSpec(0), "PrefixSpec.length"),
    (lambda: adapters.PrefixSpec(2, sites=("encoder",)), "PrefixSpec.sites"),
    (lambda: adapters.LoraSpec(0), "LoraSpec.rank"),
    (lambda: adapters.Ia3Spec(0), "Ia3Spec.slots"),
    (lambda: adapters.LoraSpec(2, projections=()), "LoraSpec.projections"),
    (lambda: adapters.LoraSpec(2, projections="query"), "LoraSpec.projections"),
    (
      lambda: adapters.LoraSpec(2, projections=("wi",)).leaves(testing.CONFIG),
      "wi_0, wi_1, wo",
    ),
  ],
)
def test_a_bad_spec_is_refused_by_name(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_a_lora_at_places_of_its_own_has_a_rank_at_each():
  """In the order of the T5's arrays, whatever the order that is given."""
  given = {"decoder.mlp.wo": 1, "decoder.self_attention.key": 3}
  spec = adapters.PlacedLoraSpec(given)
  tree = adapters.path_leaves(spec.abstract(testing.CONFIG))
  assert {path: leaf.shape for path, leaf in tree.items()} == {
    "decoder.self_attention.key.down": (3, 1, 12, 3),
    "decoder.self_attention.key.up": (3, 1, 3, 16),
    "decoder.mlp.wo.down": (3, 1, 20, 1),
    "decoder.mlp.wo.up": (3, 1, 1, 12),
  }
  assert spec.label == "LoRA of ranks 1 to 3 at 2 places"
  assert spec.num_slots == 3
  again = adapters.PlacedLoraSpec(dict(reversed(given.items())))
  assert again == spec and hash(again) == hash(spec)
  assert list(again.ranks) == list(spec.ranks)


@pytest.mark.parametrize(
  "ranks, message",
  [
    ({}, r"PlacedLoraSpec\.ranks must have at least one place"),
    ({"encoder.attention.q": 2}, r"ranks has 'encoder\.attention\.q'; it may"),
    ({"encoder.mlp.wo": 0}, "must be a whole number from 1"),
    (
      {"encoder.mlp.wi": 2},
      "ranks names wi, but a feed-forward of gelu/linear",
    ),
  ],
  ids=["none", "no place", "no rank", "not gated"],
)
def test_places_that_a_t5_has_not_are_refused(ranks, message):
  with pytest.raises(ValueError, match=message):
    adapters.PlacedLoraSpec(ranks).leaves(testing.CONFIG)


@pytest.mark.parametrize(
  "ranks, scale, wanted",
  [
    (
      {"encoder.attention.key": 4, "decoder.self_attention.key": 4},
      0.5,
      adapters.LoraSpec(
        4, 2.0, ("key",), ("encoder.attention", "decoder.self_attention")
      ),
    ),
    (
      {"encoder.mlp.wo": 3, "decoder.mlp.wo": 3},
      1.0,
      adapters.LoraSpec(3, 3.0, ("wo",)),
    ),
    ({"encoder.mlp.wo": 3}, 1.0, None),  # of one stack alone
    ({"encoder.attention.key": 4}, None, None),  # of several scales
    ({"encoder.mlp.wo": 3, "decoder.mlp.wo": 2}, 1.0, None),
  ],
  ids=["sites", "feed-forward", "a stack", "scales", "ranks"],
)
def test_a_lora_is_a_product_of_projections_and_sites_where_it_can_be(
  ranks, scale, wanted
):
  found = adapters.lora_spec(ranks, scale)
  assert found == (wanted or adapters.PlacedLoraSpec(ranks))
