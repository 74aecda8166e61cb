"""Which T5 a tree of arrays is, and scanned trees layer by layer."""

import dataclasses

import numpy as np
import pytest

from hyperjax.interop import t5x, t5x_tree, weights
from tests import testing
from tests.interop import t5x_files

DEPTHS = {"encoder": 2, "decoder": 3}


@pytest.mark.parametrize(
  "config",
  [
    testing.CONFIG,
    testing.TIED,
    dataclasses.replace(testing.CONFIG, relpos_buckets=12),
    dataclasses.replace(testing.TIED, num_encoder_layers=3, head_dim=5),
    dataclasses.replace(testing.CONFIG, logits_via_embedding=True),
    dataclasses.replace(testing.CONFIG, num_decoder_layers=11, num_heads=3),
  ],
  ids=["1.1", "1.0", "12 buckets", "deep encoder", "tied 1.1", "11 layers"],
)
def test_a_t5_is_known_by_its_shapes(config):
  shapes = {name: a.shape for name, a in t5x_files.arrays_of(config).items()}
  assert t5x_tree.config_of(shapes, "here", {}) == config


def test_a_scanned_t5_with_one_bias_a_stack_is_the_unscanned_one(tmp_path):
  arrays = t5x_files.arrays_of()
  t5x_files.write_legacy(tmp_path, t5x_files.scanned(arrays, DEPTHS), chunk=3)
  source = t5x.open_checkpoint(tmp_path)
  assert source.config == testing.CONFIG
  for name, array in arrays.items():
    np.testing.assert_array_equal(source.read(name), array, name)
  assert set(source.shapes) == set(arrays)


@pytest.mark.parametrize("inline", [False, True])
def test_a_scanned_t5_with_equal_biases_is_the_unscanned_one(tmp_path, inline):
  arrays = t5x_files.arrays_of()
  own = t5x_files.with_layer_biases(arrays, testing.CONFIG)
  whole = t5x_files.scanned(own, DEPTHS)
  # t5x keeps heads apart where it scans.
  for name, array in whole.items():
    if name.endswith(("query/kernel", "key/kernel", "value/kernel")):
      whole[name] = array.reshape(*array.shape[:2], 2, 8)
    if name.endswith("out/kernel"):
      heads_first = array.reshape(2, 8, *array.shape[1:])
      whole[name] = np.moveaxis(heads_first, 1, 2)
  assert whole["encoder/encoder/attention/out/kernel"].shape == (2, 2, 8, 12)
  t5x_files.write_legacy(
    tmp_path, whole, inline=list(whole)[1:] if inline else ()
  )
  source = t5x.open_checkpoint(tmp_path)
  assert weights.identity(source) == weights.identity(t5x_files.source_of())


def test_biases_that_differ_between_layers_are_read_as_they_are(tmp_path):
  arrays = t5x_files.with_layer_biases(t5x_files.arrays_of(), testing.CONFIG)
  name = "decoder/layers_2/relpos_bias/rel_embedding"
  arrays[name][1, 5] += 1e-6
  for folder, tree in (
    ("unscanned", arrays),
    ("scanned", t5x_files.scanned(arrays, DEPTHS)),
  ):
    t5x_files.write_legacy(tmp_path / folder, tree)
    source = t5x.open_checkpoint(tmp_path / folder)
    assert source.config == dataclasses.replace(
      testing.CONFIG, relpos_per_layer=True
    )
    weights.check_whole(source)
    for own, array in arrays.items():
      np.testing.assert_array_equal(source.read(own), array, own)


def test_a_bias_of_some_layers_alone_is_no_t5(tmp_path):
  arrays = t5x_files.with_layer_biases(t5x_files.arrays_of(), testing.CONFIG)
  del arrays["decoder/layers_1/relpos_bias/rel_embedding"]
  t5x_files.write_legacy(tmp_path, arrays)
  with pytest.raises(ValueError, match="2 of the 3 layers of the decoder have"):
    t5x.open_checkpoint(tmp_path)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"token_embedder/embedding": None}, "it has no token_embedder/embedding"),
    ({"encoder/relpos_bias/rel_embedding": None}, "it has no encoder/relpos"),
    ({"token_embedder/embedding": (40,)}, "must have 2 axes"),
    (
      {"encoder/relpos_bias/rel_embedding": (3, 32)},
      "16 columns, which 3 heads",
    ),
    ({"encoder/layers_0/mlp/wi_0/kernel": None}, "it has no .*mlp/wi/kernel"),
    ({"encoder/relpos_bias/rel_embedding": (2, 3)}, "relpos_buckets must be"),
  ],
)
def test_what_is_no_t5_is_refused(change, message):
  shapes = {name: a.shape for name, a in t5x_files.arrays_of().items()}
  shapes = {k: v for k, v in (shapes | change).items() if v is not None}
  with pytest.raises(ValueError, match=message):
    t5x_tree.config_of(shapes, "here", {})


def test_a_stack_without_arrays_is_seen_missing(tmp_path):
  arrays = t5x_files.arrays_of()
  encoder = {k: v for k, v in arrays.items() if not k.startswith("decoder/")}
  t5x_files.write_legacy(tmp_path, encoder)
  source = t5x.open_checkpoint(tmp_path)
  with pytest.raises(ValueError, match="missing: decoder/decoder_norm/scale"):
    weights.identity(source)


@pytest.mark.parametrize(
  "given, message",
  [
    ({"num_heads": 4}, "num_heads cannot be given: here tells it"),
    ({"mlp_activations": ("relu",)}, "has 2 feed-forward inputs a layer"),
    (
      {"mlp_activations": ("tanh", "linear")},
      "mlp_activations must be a list of 1 to 2",
    ),
    ({"relpos_max_distance": 4}, "relpos_max_distance is 4; it must be above"),
  ],
)
def test_values_that_cannot_be_are_refused(given, message):
  shapes = {name: a.shape for name, a in t5x_files.arrays_of().items()}
  with pytest.raises(ValueError, match=message):
    t5x_tree.config_of(shapes, "here", given)
