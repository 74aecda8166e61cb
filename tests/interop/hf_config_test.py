"""config.json and generation_config.json: special ids, and what is kept."""

import dataclasses
import json

import pytest

from hyperjax.interop import hf_config
from tests import testing

FACTS = {
  "model_type": "t5",
  "vocab_size": 40,
  "d_model": 12,
  "num_heads": 2,
  "d_kv": 8,
  "d_ff": 20,
  "num_layers": 2,
  "num_decoder_layers": 3,
  "feed_forward_proj": "gated-gelu",
  "tie_word_embeddings": False,
}


def _read(folder, config=None, generation=None):
  (folder / "config.json").write_text(json.dumps(FACTS | (config or {})))
  if generation is not None:
    path = folder / "generation_config.json"
    path.write_text(json.dumps(generation))
  return hf_config.read(folder)


def _ids(config):
  return config.start_id, config.eos_ids, config.pad_id


@pytest.mark.parametrize(
  "config, generation, wanted",
  [
    ({}, None, (0, (1,), 0)),
    ({"decoder_start_token_id": 5, "pad_token_id": 3}, None, (5, (1,), 3)),
    ({"eos_token_id": [2, 1]}, {}, (0, (2, 1), 0)),
    ({}, {"decoder_start_token_id": 5, "eos_token_id": 2}, (5, (2,), 0)),
    ({"eos_token_id": 1}, {"eos_token_id": [1, 7]}, (0, (1, 7), 0)),
    ({"eos_token_id": 2}, {"eos_token_id": None}, (0, (2,), 0)),
  ],
)
def test_decodings_own_file_goes_before_the_models(
  tmp_path, config, generation, wanted
):
  assert _ids(_read(tmp_path, config, generation)[0]) == wanted


@pytest.mark.parametrize(
  "config, message",
  [
    ({"decoder_start_token_id": "0"}, "decoder_start_token_id must be a whole"),
    ({"eos_token_id": [1, -1]}, "eos_token_id must be a whole number"),
    ({"pad_token_id": 40}, "pad_id is 40; it must be below vocab_size"),
    ({"quantization_config": {}}, r"quantized .* dequantize"),
  ],
)
def test_what_is_no_id_is_refused(tmp_path, config, message):
  with pytest.raises(ValueError, match=rf"config\.json: .*{message}"):
    _read(tmp_path, config)


def test_what_was_read_is_written_again_with_all_else(tmp_path):
  config = {
    "decoder_start_token_id": 5,
    "eos_token_id": [2, 7],
    "task_specific_params": {"summarization": {"prefix": "summarize: "}},
    "dropout_rate": 0.25,
    "of_its_own": [1, 2],
    "transformers_version": "4.1",
    "torch_dtype": "float16",
  }
  generation = {"num_beams": 3, "pad_token_id": 0, "eos_token_id": [2, 7]}
  found, said = _read(tmp_path, config, generation)
  ours, theirs = hf_config.written(found, said, "float32")
  kept = set(config) - {"transformers_version", "torch_dtype"}
  assert {name: ours[name] for name in kept} == {x: config[x] for x in kept}
  assert ours["torch_dtype"] == "float32"
  assert "transformers_version" not in ours
  assert {name: theirs[name] for name in generation} == generation
  assert theirs["decoder_start_token_id"] == 5


@pytest.mark.parametrize(
  "said, changes, kind",
  [
    (None, {}, "t5"),
    ("mt5", {}, "mt5"),
    ("mt5", {"scale_decoder_output": True}, "t5"),
    ("umt5", {"relpos_per_layer": True}, "umt5"),
    (None, {"relpos_per_layer": True}, "umt5"),
  ],
)
def test_a_t5_is_written_as_what_computes_it(said, changes, kind):
  config = dataclasses.replace(testing.CONFIG, **changes)
  was = said and hf_config.Files({"model_type": said})
  facts, _ = hf_config.written(config, was, "float32")
  assert facts["model_type"] == kind
  known = {
    "t5": "T5ForConditionalGeneration",
    "mt5": "MT5ForConditionalGeneration",
    "umt5": "UMT5ForConditionalGeneration",
  }
  assert facts["architectures"] == [known[kind]]


def test_an_mt5_is_never_scaled(tmp_path):
  tied = {"tie_word_embeddings": True}
  assert _read(tmp_path, tied)[0].scale_decoder_output
  found, _ = _read(tmp_path, tied | {"model_type": "mt5"})
  assert not found.scale_decoder_output
  assert found.mlp_activations == ("gelu", "linear")


@pytest.mark.parametrize(
  "said, wanted",
  [
    ({"feed_forward_proj": "gated-gelu_fast"}, ("gelu", "linear")),
    ({"feed_forward_proj": "gelu_python"}, ("gelu_exact",)),
    # As in transformers the flag goes before the name.
    (
      {"feed_forward_proj": "relu", "is_gated_act": True},
      ("relu", "linear"),
    ),
    ({"feed_forward_proj": "gated-silu", "is_gated_act": False}, ("silu",)),
  ],
)
def test_activations_have_transformers_names(tmp_path, said, wanted):
  found, files = _read(tmp_path, said)
  assert found.mlp_activations == wanted
  ours, _ = hf_config.written(found, files, "float32")
  assert {name: ours[name] for name in said} == said


def test_defaults_are_those_of_the_kind(tmp_path):
  facts = {x: y for x, y in FACTS.items() if x != "feed_forward_proj"}
  for kind, wanted in (("t5", ("relu",)), ("umt5", ("gelu", "linear"))):
    (tmp_path / "config.json").write_text(
      json.dumps(facts | {"model_type": kind})
    )
    assert hf_config.read(tmp_path)[0].mlp_activations == wanted
