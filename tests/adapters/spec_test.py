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
