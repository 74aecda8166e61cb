"""Exports for llama.cpp and CTranslate2: names by hand, values in those programs."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest

from hyperjax import adapters
from hyperjax.data.vocabulary import SentencePiece
from hyperjax.interop import verify
from hyperjax.models import t5_layers
from hyperjax.serving import export
from tests import adapter_example, testing

SPIECE = pathlib.Path(__file__).parent.parent / "data" / "t5_family" / "spiece"


def _library(name):
  return pytest.importorskip(name, reason="needs hyperjax[interop]")


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
  return adapter_example.backbone(tmp_path_factory.mktemp("t5") / "t5")


def _saved(source, spec, folder):
  adapter = adapter_example.adapter(source, spec)
  adapter.save(folder)
  return adapter


def test_llama_cpp_gets_each_pair_by_its_name_there(t5, tmp_path, capsys):
  """Ranks differ: all have the largest, which alpha is, and zeros beyond."""
  gguf = _library("gguf")
  ranks = {"decoder.encoder_decoder_attention.query": 2, "encoder.mlp.wi_0": 3}
  own = _saved(t5, adapters.PlacedLoraSpec(ranks), tmp_path / "a").arrays
  export.export(tmp_path / "a", "gguf", tmp_path / "out", require_verified=True)
  assert "verified: logits of gguf" in capsys.readouterr().out
  reader = gguf.GGUFReader(tmp_path / "out" / "adapter.gguf")
  facts = {
    name: reader.get_field(name).contents()
    for name in (
      "general.architecture",
      "general.type",
      "adapter.type",
      "adapter.lora.alpha",
    )
  }
  assert list(facts.values()) == ["t5", "adapter", "lora", 3.0]
  found = {x.name: np.array(x.data) for x in reader.tensors}
  names = [
    *(f"dec.blk.{i}.cross_attn_q.weight" for i in range(3)),
    *(f"enc.blk.{i}.ffn_gate.weight" for i in range(2)),
  ]
  assert sorted(found) == sorted(f"{x}.lora_{y}" for x in names for y in "ab")
  query = own.decoder.encoder_decoder_attention.query
  down = found["dec.blk.1.cross_attn_q.weight.lora_a"]
  up = found["dec.blk.1.cross_attn_q.weight.lora_b"]
  np.testing.assert_array_equal(down[:2], query.down[1, 0].T)
  np.testing.assert_array_equal(up[:, :2], query.up[1, 0].T)
  assert not down[2].any() and not up[:, 2].any()


@pytest.mark.parametrize("kind", ["ia3", "prefix"])
def test_what_llama_cpp_has_not_is_refused(t5, tmp_path, kind):
  _saved(t5, testing.SPECS[kind], tmp_path / "a")
  with pytest.raises(
    ValueError,
    match=r"cannot be exported to gguf: llama\.cpp's adapters are LoRA",
  ):
    export.export(tmp_path / "a", "gguf", tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_an_export_that_must_be_verified_and_cannot_be_is_refused(t5, tmp_path):
  _saved(t5, testing.SPECS["lora"], tmp_path / "a")
  with pytest.raises(ValueError, match="--no-verify exclude each other"):
    export.export(tmp_path / "a", "orbax", tmp_path / "out", None, False, True)
  absent = verify.missing(["ctranslate2", "transformers", "torch"])
  if absent:
    with pytest.raises(ValueError, match=f"--to ct2 needs {absent[0]}"):
      export.export(tmp_path / "a", "ct2", tmp_path / "out")
  absent = verify.missing(["peft", "transformers", "torch"])
  if absent:
    with pytest.raises(
      ValueError, match=f"--require_verified needs {absent[0]}"
    ):
      export.export(
        tmp_path / "a", "peft", tmp_path / "out", require_verified=True
      )
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_ctranslate2_scores_answers_as_hyperjax_does(tmp_path, capsys, version):
  for name in ("ctranslate2", "transformers", "torch"):
    _library(name)
  spiece = SPIECE / "spiece.model"
  config: t5_layers.T5Config = dataclasses.replace(
    testing.TIED if version == "1.0" else testing.CONFIG,
    vocab_size=SentencePiece(str(spiece)).size,
  )
  source = adapter_example.backbone(tmp_path / "t5", config)
  shutil.copy(spiece, tmp_path / "t5")
  _saved(source, testing.SPECS["ia3"], tmp_path / "a")
  export.export(tmp_path / "a", "ct2", tmp_path / "out", require_verified=True)
  assert "verified: logits of ctranslate2" in capsys.readouterr().out
  assert (tmp_path / "out" / "model.bin").is_file()


def test_ctranslate2_needs_a_tokenizer(t5, tmp_path):
  for name in ("ctranslate2", "transformers", "torch"):
    _library(name)
  _saved(t5, testing.SPECS["lora"], tmp_path / "a")
  with pytest.raises(ValueError, match=r"--to ct2 needs the T5's tokenizer"):
    export.export(tmp_path / "a", "ct2", tmp_path / "out")
