"""Hugging Face folders: parity on real ones, refusal of broken ones."""

import dataclasses
import json
import pathlib
import shutil
import sys

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from hyperjax import trees
from hyperjax.interop import hf, hf_arrays, hf_write, weights
from hyperjax.models import decoding, t5
from tests import conftest, testing


@pytest.fixture(scope="module", params=["t5_1_0", "t5_1_1"])
def real(request):
  """A T5 saved by transformers, and what transformers computes from it."""
  folder = conftest.MODELS / "hf_tiny" / request.param
  source = hf.open_folder(folder)
  loaded = weights.load(source, source.config)
  expected = dict(np.load(folder / "expected.npz"))
  norms = json.loads((folder / "grad_norms.json").read_text())
  return source.config, loaded.params, expected | {"grad_norms": norms}


def _close(found, wanted, mask):
  np.testing.assert_allclose(
    np.asarray(found)[mask], wanted[mask], rtol=1e-4, atol=1e-4
  )


def _scored(config, params, expected):
  """Logits, and the log-probability of each row's targets."""
  inputs = expected["encoder_input_tokens"], expected["decoder_input_tokens"]
  logits = t5.T5(config).apply({"params": params}, *inputs)
  targets = expected["decoder_target_tokens"]
  log_probs = jax.nn.log_softmax(logits)
  picked = jnp.take_along_axis(log_probs, targets[..., None], axis=-1)
  return logits, (picked[..., 0] * (targets > 0)).sum(axis=1)


def test_logits_encoder_output_and_score_are_those_of_transformers(real):
  config, params, expected = real
  inputs = expected["encoder_input_tokens"]

  def run(params):
    encoded = t5.T5(config).apply({"params": params}, inputs, method="encode")
    return *_scored(config, params, expected), encoded

  logits, score, encoded = testing.optimized(run)(params)
  _close(logits, expected["logits"], expected["decoder_target_tokens"] > 0)
  _close(encoded, expected["encoded"], inputs > 0)
  _close(score, expected["score"], np.ones(len(score), bool))


def test_norms_of_all_gradients_are_those_of_transformers(real):
  config, params, expected = real

  @jax.jit
  @jax.grad
  def gradients(params):
    return -_scored(config, params, expected)[1].sum()

  found = weights.from_params("gradients", config, gradients(params))
  names = hf.array_names(config, "shared.weight")
  assert set(names.values()) == set(expected["grad_norms"])
  for name, hf_name in names.items():
    norm = np.linalg.norm(found.read(name))
    wanted = expected["grad_norms"][hf_name]
    assert norm == pytest.approx(wanted, rel=1e-3), name


@pytest.mark.parametrize(
  "decoder, name",
  [(decoding.Greedy, "greedy_12"), (decoding.Beam(4), "beam4_12")],
)
def test_decodes_are_those_of_transformers_token_for_token(real, decoder, name):
  config, params, expected = real
  found = jax.jit(
    lambda params: (
      decoding.generate(
        t5.T5(config), params, expected["encoder_input_tokens"], 12, decoder
      ).tokens
    )
  )(params)
  # transformers writes the start token in front.
  np.testing.assert_array_equal(found, expected[name][:, 1:])


def _write(folder, config=testing.CONFIG, dtype=np.float32, **changes):
  """A folder as transformers writes it, and the parameters in it."""
  folder.mkdir(parents=True)
  gated = len(config.mlp_activations) > 1
  facts = {
    "model_type": "t5",
    "vocab_size": config.vocab_size,
    "d_model": config.emb_dim,
    "num_heads": config.num_heads,
    "d_kv": config.head_dim,
    "d_ff": config.mlp_dim,
    "num_layers": config.num_encoder_layers,
    "num_decoder_layers": config.num_decoder_layers,
    "feed_forward_proj": "gated-gelu" if gated else "relu",
    "relative_attention_num_buckets": config.relpos_buckets,
    "tie_word_embeddings": config.logits_via_embedding,
  }
  facts = {k: v for k, v in (facts | changes).items() if v is not None}
  (folder / "config.json").write_text(json.dumps(facts))
  params = testing.t5_params(config)
  source = weights.from_params("memory", config, params)
  names = hf.array_names(config, "shared.weight")
  arrays = {}
  for name, hf_name in names.items():
    array = source.read(name).astype(dtype)
    is_transposed = name.endswith(("/kernel", "/rel_embedding"))
    arrays[hf_name] = np.ascontiguousarray(array.T if is_transposed else array)
  _save(folder, arrays)
  return params, arrays


def _save(folder, arrays):
  safetensors.numpy.save_file(arrays, folder / "model.safetensors")


def _change_config(folder, dropped=(), **changes):
  file = folder / "config.json"
  facts = json.loads(file.read_text())
  for name in dropped:
    del facts[name]
  file.write_text(json.dumps(facts | changes))


def _shard(folder, arrays):
  """Splits a single file in two with an index, as transformers does."""
  (folder / "model.safetensors").unlink()
  names = sorted(arrays)
  halves = {
    "model-00001-of-00002.safetensors": names[::2],
    "model-00002-of-00002.safetensors": names[1::2],
  }
  for file, own in halves.items():
    safetensors.numpy.save_file({n: arrays[n] for n in own}, folder / file)
  where = {name: file for file, own in halves.items() for name in own}
  index = folder / "model.safetensors.index.json"
  index.write_text(json.dumps({"weight_map": where}))
  return index


def _load(folder, config=testing.CONFIG):
  return weights.load(hf.open_folder(folder), config)


@pytest.mark.parametrize(
  "config", [testing.CONFIG, testing.TIED], ids=["1.1", "1.0"]
)
def test_a_folder_of_unequal_shapes_reads_back(tmp_path, config):
  """Heads times width is not d_model; the stacks differ in depth."""
  params, _ = _write(tmp_path / "t5", config)
  found = trees.flatten(_load(tmp_path / "t5", config).params)
  for path, array in trees.flatten(params).items():
    np.testing.assert_array_equal(found[path], array, path)


def test_shards_read_as_the_single_file_does(tmp_path):
  _, arrays = _write(tmp_path / "t5")
  single = _load(tmp_path / "t5")
  _shard(tmp_path / "t5", arrays)
  sharded = _load(tmp_path / "t5")
  assert sharded.identity == single.identity
  jax.tree.map(np.testing.assert_array_equal, sharded.params, single.params)


def test_the_single_file_goes_before_an_index(tmp_path):
  _, arrays = _write(tmp_path / "t5")
  single = _load(tmp_path / "t5").identity
  _shard(tmp_path / "t5", {name: 2 * array for name, array in arrays.items()})
  assert _load(tmp_path / "t5").identity != single
  _save(tmp_path / "t5", arrays)
  assert _load(tmp_path / "t5").identity == single


def test_an_array_of_a_shard_that_the_index_leaves_out_is_seen(tmp_path):
  _, arrays = _write(tmp_path / "t5")
  index = _shard(tmp_path / "t5", arrays | {"spare": np.ones(3, np.float32)})
  where = json.loads(index.read_text())
  del where["weight_map"]["spare"]
  index.write_text(json.dumps(where))
  with pytest.raises(ValueError, match="extra: spare"):
    _load(tmp_path / "t5")


def test_an_array_in_two_shards_is_refused(tmp_path):
  _, arrays = _write(tmp_path / "t5")
  _shard(tmp_path / "t5", arrays)
  for file in (tmp_path / "t5").glob("*.safetensors"):
    safetensors.numpy.save_file(arrays, file)
  with pytest.raises(ValueError, match="so does another shard"):
    hf.open_folder(tmp_path / "t5")


def test_bfloat16_is_read_and_has_an_identity_of_its_own(tmp_path):
  params, _ = _write(tmp_path / "low", dtype=ml_dtypes.bfloat16)
  _write(tmp_path / "full")
  low, full = _load(tmp_path / "low"), _load(tmp_path / "full")
  kept = dataclasses.replace(testing.CONFIG, param_dtype="bfloat16")
  again = _load(tmp_path / "low", kept)
  # The identity is of the values as stored, not as loaded.
  assert low.identity == again.identity != full.identity
  embedding = again.params["token_embedder"]["embedding"]
  assert embedding.dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(
    low.params["token_embedder"]["embedding"],
    np.asarray(params["token_embedder"]["embedding"], ml_dtypes.bfloat16),
  )


def test_a_changed_value_changes_the_identity(tmp_path):
  _, arrays = _write(tmp_path / "a")
  before = _load(tmp_path / "a").identity
  arrays["shared.weight"][3, 3] += 1e-6
  _save(tmp_path / "a", arrays)
  assert _load(tmp_path / "a").identity != before


@pytest.mark.parametrize("head", ["absent", "equal", "own"])
@pytest.mark.parametrize(
  "keys, is_scaled",
  [
    ({}, True),
    ({"tie_word_embeddings": True}, True),
    ({"tie_word_embeddings": False}, False),
    ({"tie_word_embeddings": None}, True),
    # A T5 1.1 as transformers 5 saves it.
    ({"tie_word_embeddings": True, "scale_decoder_outputs": False}, False),
    ({"tie_word_embeddings": True, "scale_decoder_outputs": True}, True),
    ({"tie_word_embeddings": False, "scale_decoder_outputs": True}, True),
    ({"scale_decoder_outputs": False}, False),
    ({"scale_decoder_outputs": None}, False),
  ],
  ids=str,
)
def test_the_output_layer_and_its_scale_are_those_of_transformers(
  tmp_path, keys, is_scaled, head
):
  _, arrays = _write(tmp_path / "t5")
  _change_config(tmp_path / "t5", ["tie_word_embeddings"], **keys)
  if head == "absent":
    del arrays["lm_head.weight"]
  if head == "equal":
    arrays["lm_head.weight"] = arrays["shared.weight"].copy()
  _save(tmp_path / "t5", arrays)
  config = hf.open_folder(tmp_path / "t5").config
  assert config.scale_decoder_output is is_scaled
  assert config.logits_via_embedding is (head != "own")


def test_a_folder_saved_again_by_transformers_5_is_the_same_t5(tmp_path):
  saved = conftest.MODELS / "hf_tiny" / "t5_1_1"
  again = tmp_path / "again"
  shutil.copytree(saved, again)
  _change_config(again, tie_word_embeddings=True, scale_decoder_outputs=False)
  before, after = hf.open_folder(saved), hf.open_folder(again)
  assert after.config == before.config
  identities = {
    weights.load(source, source.config).identity for source in (before, after)
  }
  assert len(identities) == 1


@pytest.mark.parametrize(
  "name",
  [
    "lm_head.weight",
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
  ],
)
def test_an_equal_copy_of_the_embedding_changes_nothing(tmp_path, name):
  params, arrays = _write(tmp_path / "t5", testing.TIED)
  before = _load(tmp_path / "t5", testing.TIED).identity
  embedding = arrays["shared.weight"]
  _save(tmp_path / "t5", arrays | {name: embedding.copy()})
  assert _load(tmp_path / "t5", testing.TIED).identity == before
  # The copy alone does as well.
  del arrays["shared.weight"]
  _save(tmp_path / "t5", arrays | {name: embedding.copy()})
  found = _load(tmp_path / "t5", testing.TIED)
  assert found.identity == before
  np.testing.assert_array_equal(
    found.params["token_embedder"]["embedding"],
    params["token_embedder"]["embedding"],
  )


def test_equality_is_of_every_row_also_of_a_long_embedding(tmp_path):
  config = dataclasses.replace(testing.TIED, vocab_size=2500)
  _, arrays = _write(tmp_path / "t5", config)
  arrays["lm_head.weight"] = arrays["shared.weight"].copy()
  _save(tmp_path / "t5", arrays)
  assert hf.open_folder(tmp_path / "t5").config.logits_via_embedding
  arrays["lm_head.weight"][-1, -1] += 1
  _save(tmp_path / "t5", arrays)
  assert not hf.open_folder(tmp_path / "t5").config.logits_via_embedding


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_an_embedding_of_one_stack_alone_is_refused(tmp_path, stack):
  _, arrays = _write(tmp_path / "t5")
  name = f"{stack}.embed_tokens.weight"
  _save(tmp_path / "t5", arrays | {name: arrays["shared.weight"] + 1})
  with pytest.raises(ValueError, match=rf"{name} must equal shared\.weight"):
    hf.open_folder(tmp_path / "t5")


def test_a_copy_of_an_embedding_with_a_number_that_is_none_is_a_copy(tmp_path):
  _, arrays = _write(tmp_path / "t5")
  shared = arrays["shared.weight"].copy()
  shared[1, 2] = np.nan
  copies = {"shared.weight": shared, "encoder.embed_tokens.weight": shared}
  _save(tmp_path / "t5", arrays | copies)
  source = hf.open_folder(tmp_path / "t5")
  with pytest.raises(ValueError, match="values that are not finite"):
    weights.load(source, testing.CONFIG)


@pytest.mark.parametrize("before", ["transformer.", "module."])
def test_a_t5_within_another_model_is_told_from_none(tmp_path, before):
  _, arrays = _write(tmp_path / "t5")
  _save(tmp_path / "t5", {f"{before}{x}": y for x, y in arrays.items()})
  with pytest.raises(ValueError, match=rf"has {before}shared\.weight, and no"):
    hf.open_folder(tmp_path / "t5")


def test_the_bias_that_no_t5_uses_is_left_out(tmp_path):
  _, arrays = _write(tmp_path / "t5")
  before = _load(tmp_path / "t5").identity
  name = (
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
  )
  _save(tmp_path / "t5", arrays | {name: np.ones((32, 2), np.float32)})
  assert _load(tmp_path / "t5").identity == before


@pytest.mark.parametrize(
  "change, message",
  [
    (
      {"drop": "encoder.final_layer_norm.weight"},
      "missing: encoder/encoder_norm",
    ),
    ({"add": "encoder.block.9.extra"}, r"extra: encoder\.block\.9\.extra"),
    (
      {"cut": "shared.weight"},
      r"wrong shape: token_embedder/embedding is \(39",
    ),
  ],
)
def test_arrays_that_do_not_fit_are_listed(tmp_path, change, message):
  _, arrays = _write(tmp_path / "t5")
  if "drop" in change:
    del arrays[change["drop"]]
  if "add" in change:
    arrays[change["add"]] = np.zeros(3, np.float32)
  if "cut" in change:
    arrays[change["cut"]] = arrays[change["cut"]][1:].copy()
  _save(tmp_path / "t5", arrays)
  with pytest.raises(ValueError, match=message):
    _load(tmp_path / "t5")


def test_all_that_does_not_fit_is_listed_before_anything_is_read(tmp_path):
  _, arrays = _write(tmp_path / "t5")
  del arrays["encoder.final_layer_norm.weight"]
  for name in ("q", "k"):
    arrays[f"decoder.block.2.layer.1.EncDecAttention.{name}.weight"] = np.ones(
      (15, 12), np.float32
    )
  _save(tmp_path / "t5", arrays)

  def read(name):
    raise AssertionError(f"{name} was read")

  source = dataclasses.replace(hf.open_folder(tmp_path / "t5"), read=read)
  with pytest.raises(ValueError) as refusal:
    weights.load(source, testing.CONFIG)
  site = "decoder/layers_2/encoder_decoder_attention"
  for line in (
    "missing: encoder/encoder_norm/scale",
    f"wrong shape: {site}/query/kernel is (12, 15), not (12, 16)",
    f"wrong shape: {site}/key/kernel is (12, 15), not (12, 16)",
  ):
    assert line in str(refusal.value)


def test_a_t5_that_computes_something_else_is_refused(tmp_path):
  _write(tmp_path / "t5")
  other = dataclasses.replace(
    testing.CONFIG, mlp_activations=("relu", "linear")
  )
  with pytest.raises(ValueError, match=r"mlp_activations is .*'relu'.*'gelu'"):
    _load(tmp_path / "t5", other)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"model_type": "longt5", "local_radius": 3}, "longt5.* local_radius"),
    (
      {"model_type": "bert"},
      "model_type must be one of t5, mt5, umt5, got .bert.",
    ),
    ({"d_model": "12"}, "d_model must be a whole number"),
    ({"num_heads": True}, "num_heads must be a whole number"),
    ({"d_ff": 0}, "d_ff must be a whole number from 1 to .*, got 0"),
    ({"num_decoder_layers": 2.5}, "num_decoder_layers must be a whole number"),
    (
      {"relative_attention_max_distance": "128"},
      "relative_attention_max_distance must be a whole number",
    ),
    ({"relative_attention_num_buckets": 2}, "relpos_buckets must be"),
    ({"layer_norm_epsilon": "1e-6"}, "layer_norm_epsilon must be a finite"),
    ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon must be a fin"),
    ({"scale_decoder_outputs": "no"}, "scale_decoder_outputs must be true"),
    ({"dense_act_fn": ["relu"]}, "dense_act_fn"),
    ({"feed_forward_proj": "gated-tanh"}, "feed_forward_proj 'gated-tanh'"),
  ],
)
def test_a_model_that_is_no_t5_is_refused(tmp_path, changes, message):
  _write(tmp_path / "t5", **changes)
  with pytest.raises(ValueError, match=rf"config\.json: .*{message}"):
    hf.open_folder(tmp_path / "t5")


@pytest.mark.parametrize(
  "name",
  [
    "vocab_size",
    "num_layers",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "layer_norm_epsilon",
    "feed_forward_proj",
  ],
)
def test_a_null_is_refused_by_name(tmp_path, name):
  _write(tmp_path / "t5")
  _change_config(tmp_path / "t5", **{name: None})
  with pytest.raises(ValueError, match=rf"config\.json: {name} .*None"):
    hf.open_folder(tmp_path / "t5")


@pytest.mark.parametrize(
  "content, message",
  [("[1]", ": a JSON object is needed"), ("{", ": not JSON")],
)
def test_a_config_that_is_no_object_is_refused(tmp_path, content, message):
  _write(tmp_path / "t5")
  (tmp_path / "t5" / "config.json").write_text(content)
  with pytest.raises(ValueError, match=rf"config\.json{message}"):
    hf.open_folder(tmp_path / "t5")


def test_pickles_are_never_read(tmp_path):
  _write(tmp_path / "t5")
  (tmp_path / "t5" / "model.safetensors").unlink()
  (tmp_path / "t5" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
  with pytest.raises(ValueError, match="a pickle, which is never read"):
    hf.open_folder(tmp_path / "t5")


def test_weights_that_were_quantized_are_refused_with_what_to_do(tmp_path):
  name = "decoder.block.2.layer.2.DenseReluDense.wo.weight"
  _, arrays = _write(tmp_path / "t5")
  arrays[name] = arrays[name].astype(np.int8)
  _save(tmp_path / "t5", arrays)
  with pytest.raises(ValueError, match=rf"{name} is of type I8 .*dequantize"):
    hf.open_folder(tmp_path / "t5")


def test_a_type_that_does_not_hold_a_value_is_refused(tmp_path):
  _, arrays = _write(tmp_path / "t5")
  arrays["shared.weight"][3, 4] = 70000  # float16 ends at 65504
  _save(tmp_path / "t5", arrays)
  source = hf.open_folder(tmp_path / "t5")
  with pytest.raises(ValueError, match=r"embedding has values up to 7e\+04"):
    hf_write.write_folder(tmp_path / "half", source, "float16")
  assert not (tmp_path / "half").exists()
  hf_write.write_folder(tmp_path / "b", source, "bfloat16")


def test_a_truncated_or_missing_shard_is_named(tmp_path):
  _, arrays = _write(tmp_path / "t5")
  index = _shard(tmp_path / "t5", arrays)
  shard = tmp_path / "t5" / "model-00002-of-00002.safetensors"
  content = shard.read_bytes()
  shard.write_bytes(content[:-50])
  with pytest.raises(ValueError, match=r"00002-of-00002.* is not a whole"):
    hf.open_folder(tmp_path / "t5")
  shard.unlink()
  with pytest.raises(ValueError, match=r"00002-of-00002.* is missing"):
    hf.open_folder(tmp_path / "t5")
  shard.write_bytes(content)
  where = json.loads(index.read_text())
  name = next(n for n, f in where["weight_map"].items() if "00001" in f)
  where["weight_map"][name] = shard.name
  index.write_text(json.dumps(where))
  with pytest.raises(ValueError, match=f"lacks {name}"):
    hf.open_folder(tmp_path / "t5")


@pytest.mark.parametrize(
  "file", ["../secret.safetensors", "/etc/passwd", "a/b"]
)
def test_an_index_cannot_lead_out_of_the_folder(tmp_path, file):
  _, arrays = _write(tmp_path / "t5")
  index = _shard(tmp_path / "t5", arrays)
  where = json.loads(index.read_text())
  where["weight_map"]["shared.weight"] = file
  index.write_text(json.dumps(where))
  with pytest.raises(ValueError, match="not a file of this folder"):
    hf.open_folder(tmp_path / "t5")


def test_a_copy_of_another_shape_or_type_is_none(tmp_path):
  _, arrays = _write(tmp_path / "t5", testing.TIED)
  embedding = arrays["shared.weight"]
  for copy in (embedding[:-1], embedding.astype(np.float64)):
    _save(tmp_path / "t5", arrays | {"lm_head.weight": copy})
    found = hf.open_folder(tmp_path / "t5")
    assert not found.config.logits_via_embedding
    assert found.shapes["decoder/logits_dense/kernel"] == copy.T.shape


@pytest.mark.parametrize("name", ["num_layers", "num_decoder_layers"])
def test_a_t5_has_from_one_to_1024_layers(tmp_path, name):
  _write(tmp_path / "t5")
  path = tmp_path / "t5" / "config.json"
  facts = json.loads(path.read_text())

  def opened(value):
    path.write_text(json.dumps(facts | {name: value}))
    return hf.open_folder(tmp_path / "t5").config

  field = name.replace("num_layers", "num_encoder_layers")
  for value in (1, 1024):
    assert getattr(opened(value), field) == value
  for value in (0, 1025):
    with pytest.raises(ValueError, match=f"{name} must be a whole number from"):
      opened(value)


def test_what_a_config_leaves_out_is_as_in_transformers(tmp_path):
  _write(tmp_path / "t5")
  path = tmp_path / "t5" / "config.json"
  facts = json.loads(path.read_text())
  for name in (
    "feed_forward_proj",
    "dense_act_fn",
    "num_decoder_layers",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "layer_norm_epsilon",
  ):
    facts.pop(name, None)
  path.write_text(json.dumps(facts))
  config = hf.open_folder(tmp_path / "t5").config
  assert config.mlp_activations == ("relu",)
  assert config.num_decoder_layers == config.num_encoder_layers == 2
  assert (config.relpos_buckets, config.relpos_max_distance) == (32, 128)
  assert config.layer_norm_epsilon == 1e-6


def test_a_file_that_is_open_is_not_mapped_into_memory(tmp_path):
  """Its pages would stay there, beside the arrays that were read."""
  if sys.platform != "linux":
    pytest.skip("what is mapped is read from /proc")
  _write(tmp_path / "t5")
  file = tmp_path / "t5" / "model.safetensors"
  opened = hf_arrays.open_file(file)
  assert opened.get_tensor("shared.weight").shape == (40, 12)
  assert str(file) not in pathlib.Path("/proc/self/maps").read_text()
