"""PEFT folders: names and values by hand, and what PEFT computes from them."""

import dataclasses
import functools
import json
import re

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors

from hyperjax import adapters
from hyperjax.interop import hf, hf_write, peft, verify, weights
from hyperjax.models import decoding, t5
from tests import adapter_example, conftest, testing


def _write(folder, spec, config=testing.CONFIG, dtype=np.float32):
  drawn = testing.draw(spec.abstract(config))
  drawn = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), drawn)
  folder.mkdir()
  peft.write_folder(folder, drawn, config, "/t5")
  facts = json.loads((folder / peft.CONFIG).read_text())
  return drawn, facts, safetensors.load_file(folder / peft.ARRAYS)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16], ids=str)
def test_arrays_lie_transposed_under_the_names_of_transformers(tmp_path, dtype):
  spec = adapters.LoraSpec(
    3, projections=("query", "wi_0"), sites=("decoder.self_attention",)
  )
  drawn, _, arrays = _write(tmp_path / "p", spec, dtype=dtype)
  prefix = "base_model.model"
  attention = f"{prefix}.decoder.block.2.layer.0.SelfAttention.q"
  query = drawn.decoder.self_attention.query
  np.testing.assert_array_equal(
    arrays[f"{attention}.lora_A.weight"], query.down[2, 0].T
  )
  np.testing.assert_array_equal(
    arrays[f"{attention}.lora_B.weight"], query.up[2, 0].T
  )
  mlp = f"{prefix}.encoder.block.1.layer.1.DenseReluDense.wi_0"
  np.testing.assert_array_equal(
    arrays[f"{mlp}.lora_B.weight"], drawn.encoder.mlp.wi_0.up[1, 0].T
  )
  # Three layers of one site, five of the feed-forward, two arrays each.
  assert len(arrays) == 16
  assert {array.dtype for array in arrays.values()} == {np.dtype(dtype)}


def test_the_scale_is_one_whatever_alpha_was(tmp_path):
  spec = adapters.LoraSpec(3, alpha=7.0)
  _, facts, _ = _write(tmp_path / "p", spec)
  assert facts["lora_alpha"] == facts["r"] == 3
  assert not facts["use_rslora"]
  assert facts["base_model_name_or_path"] == "/t5"
  assert facts["task_type"] == "SEQ_2_SEQ_LM"


def test_scales_of_ia3_lie_as_columns_and_those_of_wo_as_rows(tmp_path):
  drawn, facts, arrays = _write(tmp_path / "p", testing.SPECS["ia3"])
  prefix = "base_model.model.decoder.block.2.layer"
  for name, scale in (
    ("1.EncDecAttention.k", drawn.decoder.encoder_decoder_attention.ia3_key),
    ("0.SelfAttention.v", drawn.decoder.self_attention.ia3_value),
  ):
    np.testing.assert_array_equal(
      arrays[f"{prefix}.{name}.ia3_l"], scale.scale[2, 0][:, None]
    )
  np.testing.assert_array_equal(
    arrays[f"{prefix}.2.DenseReluDense.wo.ia3_l"],
    drawn.decoder.mlp.ia3_wo.scale[2, 0][None],
  )
  assert len(arrays) == 2 * 3 + 3 * 5
  assert facts["peft_type"] == "IA3"
  names = hf.array_names(testing.CONFIG, "shared.weight").values()
  modules = {name.removesuffix(".weight") for name in names}
  matched = {
    which: {m for m in modules if re.fullmatch(facts[which], m)}
    for which in ("target_modules", "feedforward_modules")
  }
  assert matched["target_modules"] == {
    m for m in modules if m.endswith((".k", ".v", ".wo"))
  }
  assert matched["feedforward_modules"] == {
    m for m in modules if m.endswith(".wo")
  }


def test_the_targets_are_the_modules_of_the_spec_and_no_others(tmp_path):
  spec = adapters.LoraSpec(
    2, projections=("value", "wo"), sites=("decoder.encoder_decoder_attention",)
  )
  _, facts, _ = _write(tmp_path / "p", spec)
  names = hf.array_names(testing.CONFIG, "shared.weight").values()
  modules = [name.removesuffix(".weight") for name in names]
  matched = [m for m in modules if re.fullmatch(facts["target_modules"], m)]
  assert sorted(matched) == [
    "decoder.block.0.layer.1.EncDecAttention.v",
    "decoder.block.0.layer.2.DenseReluDense.wo",
    "decoder.block.1.layer.1.EncDecAttention.v",
    "decoder.block.1.layer.2.DenseReluDense.wo",
    "decoder.block.2.layer.1.EncDecAttention.v",
    "decoder.block.2.layer.2.DenseReluDense.wo",
    "encoder.block.0.layer.1.DenseReluDense.wo",
    "encoder.block.1.layer.1.DenseReluDense.wo",
  ]


# What PEFT computes from such folders.

CONFIGS = {
  "1.1": testing.CONFIG,
  "1.0": testing.TIED,
  "1.1, deeper encoder": dataclasses.replace(
    testing.CONFIG,
    num_encoder_layers=3,
    num_decoder_layers=1,
    num_heads=3,
    relpos_buckets=8,
    relpos_max_distance=20,
  ),
}


def _library(name="peft"):
  return pytest.importorskip(name, reason="needs hyperjax[interop]")


def _adapted(base, folder):
  """PEFT's T5, and its token ids decoded greedily."""
  torch, transformers = _library("torch"), _library("transformers")
  model = transformers.T5ForConditionalGeneration.from_pretrained(
    base, dtype=torch.float32
  )
  model = _library().PeftModel.from_pretrained(model, str(folder)).eval()

  def logits(tokens):
    ids = torch.tensor(tokens[0]).long()
    with torch.no_grad():
      found = model(
        input_ids=ids,
        attention_mask=(ids > 0).long(),
        decoder_input_ids=torch.tensor(tokens[1]).long(),
      )
    return found.logits.numpy()

  def greedy(tokens, length):
    ids = torch.tensor(tokens).long()
    with torch.no_grad():
      found = model.generate(
        input_ids=ids,
        attention_mask=(ids > 0).long(),
        max_new_tokens=length,
        do_sample=False,
        # transformers 5's cache has as many layers as the encoder.
        use_cache=False,
      )[:, 1:].numpy()  # the start token is in front
    return np.pad(found, ((0, 0), (0, length - found.shape[1])))

  return logits, greedy


def _ours(source, tokens, length):
  """Logits and greedy tokens of HyperJAX, as functions of the adapter."""
  params = weights.load(source, source.config).params
  model = t5.T5(source.config)

  def logits(params, drawn):
    return model.apply({"params": params}, *tokens, drawn)

  def greedy(params, drawn):
    found = decoding.generate(model, params, tokens[0], length, adapters=drawn)
    return found.tokens

  return (
    functools.partial(testing.optimized(logits), params),
    functools.partial(jax.jit(greedy), params),
  )


def _check(tmp_path, source, spec, tokens=None):
  drawn = adapter_example.adapter(source, spec).arrays
  (tmp_path / "p").mkdir()
  peft.write_folder(tmp_path / "p", drawn, source.config, source.path)
  tokens = tokens or verify.draw_tokens(source.config)
  logits, greedy = _adapted(source.path, tmp_path / "p")
  our_logits, our_greedy = _ours(source, tokens, 12)
  wanted = our_logits(drawn)
  plain = our_logits(adapters.Adapters())
  assert np.abs(wanted - plain).max() > 0.1
  np.testing.assert_allclose(logits(tokens), wanted, rtol=1e-4, atol=1e-4)
  np.testing.assert_array_equal(greedy(tokens[0], 12), our_greedy(drawn))


@pytest.mark.slow
@pytest.mark.parametrize(
  "shape, name",
  [
    ("1.1", "query and value"),
    ("1.1", "feed-forward"),
    ("1.0", "feed-forward"),
    ("1.0", "cross-attention"),
    ("1.1, deeper encoder", "one stack"),
    ("1.1, deeper encoder", "cross-attention"),
    ("1.0", "places"),
    ("1.1", "ia3"),
    ("1.0", "ia3"),
    ("1.1, deeper encoder", "ia3"),
  ],
)
def test_peft_computes_and_decodes_the_same_on_a_padded_batch(
  tmp_path, shape, name
):
  _library()
  source = adapter_example.backbone(tmp_path / "t5", CONFIGS[shape])
  _check(tmp_path, source, adapter_example.SPECS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t5_1_0", "t5_1_1"])
def test_peft_computes_the_same_on_a_t5_of_transformers(tmp_path, name):
  _library()
  folder = conftest.MODELS / "hf_tiny" / name
  stored = np.load(folder / "expected.npz")
  tokens = stored["encoder_input_tokens"], stored["decoder_input_tokens"]
  source = hf.open_folder(folder)
  _check(tmp_path, source, adapters.LoraSpec(5, alpha=3.0), tokens)


@pytest.mark.slow
@pytest.mark.parametrize(
  "broken",
  [
    lambda name: name.replace("SelfAttention", "selfattention"),
    lambda name: name.removeprefix("base_model.model."),
    lambda name: name.replace("block.1", "block.7"),
  ],
)
def test_a_wrong_name_in_the_folder_is_found(tmp_path, broken):
  """PEFT itself only warns, and answers as if there were no adapter."""
  _library()
  source = adapter_example.backbone(tmp_path / "t5")
  _, _, arrays = _write(tmp_path / "p", adapters.LoraSpec(2), source.config)
  safetensors.save_file(
    {broken(name): array for name, array in arrays.items()},
    tmp_path / "p" / peft.ARRAYS,
    {"format": "pt"},
  )
  tokens = verify.draw_tokens(source.config)
  with pytest.raises(ValueError, match="the export is wrong: the T5 that PEFT"):
    verify.transformers_logits(tmp_path / "t5", tokens, tmp_path / "p")


@pytest.mark.slow
def test_a_backbone_of_two_shards_serves_as_well(tmp_path):
  _library()
  source = weights.from_params("m", testing.CONFIG, testing.t5_params())
  hf_write.write_folder(tmp_path / "t5", source, shard_bytes=4000)
  _check(
    tmp_path,
    hf.open_folder(tmp_path / "t5"),
    adapter_example.SPECS["one stack"],
  )
