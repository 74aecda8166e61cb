"""`hyperjax export`: what is written is right, or it is not there."""

import dataclasses
import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import adapters, main
from hyperjax.artifacts import adapter_folder, restore, run_file
from hyperjax.interop import formats, hf, hf_write, merged, peft, weights
from hyperjax.models import decoding, t5
from hyperjax.serving import export
from hyperjax.tasks import records
from tests import adapter_example, runs_example, testing
from tests.interop import t5x_files

SOME = adapter_example.SPECS["cross-attention"]


@pytest.fixture
def without_torch(monkeypatch):
  """A machine without the extra."""
  for name in ("torch", "transformers", "peft"):
    monkeypatch.setitem(sys.modules, name, None)


def _library(name):
  return pytest.importorskip(name, reason="needs hyperjax[interop]")


def _made(tmp_path, spec=SOME, config=testing.CONFIG, **options):
  """A backbone in "t5" and an adapter for it in "adapter"."""
  dtype = options.pop("dtype", "float32")
  source = adapter_example.backbone(tmp_path / "t5", config, dtype)
  adapter = adapter_example.adapter(source, spec, **options)
  adapter.save(tmp_path / "adapter")
  return source, adapter


def _export(tmp_path, to, *options, adapter="adapter"):
  return main.main(
    [
      "export",
      f"--adapter={tmp_path / adapter}",
      f"--to={to}",
      f"--out={tmp_path / 'out'}",
      *options,
    ]
  )


def _check_refused(tmp_path, capsys, *words):
  """One line that says all of these, and nothing left behind."""
  captured = capsys.readouterr()
  said = captured.err.strip().splitlines()[-1]
  assert said.startswith("hyperjax export: ")
  for word in words:
    assert word in said
  assert {path.name for path in tmp_path.iterdir()} <= {
    "t5",
    "adapter",
    "moved",
  }


# Without other programs.


def test_a_merged_t5_is_a_checkpoint_that_runs_start_from(
  tmp_path, capsys, without_torch
):
  source, adapter = _made(tmp_path)
  assert _export(tmp_path, "orbax") == 0
  assert "verified: logits of the checkpoint" in capsys.readouterr().out
  found = restore.open_t5(tmp_path / "out")
  changed = merged.merged(source, adapter.arrays)
  assert weights.identity(found) == weights.identity(changed)
  record = run_file.read(tmp_path / "out")
  assert record.merged.adapter == adapter.identity
  assert record.merged.backbone == adapter.info.backbone


def test_without_torch_it_says_that_nothing_was_verified(
  tmp_path, capsys, without_torch
):
  _made(tmp_path)
  assert _export(tmp_path, "peft") == 0
  said = capsys.readouterr().out
  assert "not verified: peft, transformers, torch not installed" in said
  assert "hyperjax[interop]" in said
  assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
    "adapter_config.json",
    "adapter_model.safetensors",
  ]
  assert os.stat(tmp_path / "out").st_mode & 0o777 == 0o755


def test_an_instruction_that_the_t5_reads_is_said(
  tmp_path, capsys, without_torch
):
  _, adapter = _made(tmp_path)
  for readers, is_said in ((["hypermodel"], False), (["backbone"], True)):
    instruction = {"text": "Say it again.", "readers": readers}
    info = dataclasses.replace(adapter.info, instruction=instruction)
    dataclasses.replace(adapter, info=info).save(tmp_path / "adapter", True)
    assert _export(tmp_path, "peft") == 0
    said = capsys.readouterr().out
    assert ("put before each input" in said) == is_said
    assert ("'Say it again.'" in said) == is_said
    (tmp_path / "out").rename(tmp_path / readers[0])


def test_verification_that_was_asked_for_is_not_left_out(
  tmp_path, capsys, without_torch
):
  _made(tmp_path)
  assert _export(tmp_path, "hf", "--verify") == 1
  _check_refused(tmp_path, capsys, "--verify needs transformers, torch")


def test_a_merged_folder_is_the_merged_t5_with_its_vocabulary(
  tmp_path, without_torch
):
  config = dataclasses.replace(testing.TIED, vocab_size=96)
  source, adapter = _made(tmp_path, config=config, dtype="bfloat16")
  pieces = records.VOCABULARY.read_bytes()
  (tmp_path / "t5" / "spiece.model").write_bytes(pieces)
  assert _export(tmp_path, "hf") == 0
  found = hf.open_folder(tmp_path / "out")
  changed = merged.merged(source, adapter.arrays)
  assert weights.identity(found) == weights.identity(changed)
  assert found.config == source.config
  assert (tmp_path / "out" / "spiece.model").read_bytes() == pieces


def test_the_base_model_is_named_where_transformers_reads_it(
  tmp_path, without_torch
):
  _made(tmp_path)
  assert _export(tmp_path, "peft") == 0
  facts = json.loads((tmp_path / "out" / peft.CONFIG).read_text())
  assert facts["base_model_name_or_path"] == str(tmp_path / "t5")


@pytest.mark.parametrize(
  "to, reason",
  [
    ("peft", "only the self-attention of a T5's decoder"),
    ("hf", "prefixes are no part of any weight"),
    ("orbax", "prefixes are no part of any weight"),
    ("adapters", "moves all other keys by the prefix's length"),
  ],
)
def test_a_prefix_is_refused_with_the_reason_and_what_to_do(
  tmp_path, capsys, to, reason
):
  _made(tmp_path, adapters.PrefixSpec(3))
  assert _export(tmp_path, to) == 1
  _check_refused(
    tmp_path, capsys, reason, "hyperjax predict", "train LoRA", "adapters/lora"
  )


@pytest.mark.parametrize("to", ["adapters", "onnx"])
def test_another_format_is_refused_with_those_there_are(tmp_path, capsys, to):
  _made(tmp_path)
  assert _export(tmp_path, to) == 1
  _check_refused(tmp_path, capsys, to, "peft", "hf")


def test_another_backbone_is_refused_and_one_that_moved_is_not(
  tmp_path, capsys, without_torch
):
  _made(tmp_path)
  (tmp_path / "t5").rename(tmp_path / "moved")
  assert _export(tmp_path, "peft") == 1
  _check_refused(tmp_path, capsys, "which is not there", "--backbone")
  # The same sizes, another seed.
  params = testing.t5_params(seed=1)
  other = weights.from_params("memory", testing.CONFIG, params)
  hf_write.write_folder(tmp_path / "t5", other)
  backbone = f"--backbone={tmp_path / 't5'}"
  assert _export(tmp_path, "peft", backbone) == 1
  _check_refused(tmp_path, capsys, "is an adapter of the T5", "this one is")
  backbone = f"--backbone={tmp_path / 'moved'}"
  assert _export(tmp_path, "peft", backbone) == 0


def test_nothing_is_written_over(tmp_path, capsys):
  _made(tmp_path)
  (tmp_path / "out").mkdir()
  (tmp_path / "out" / "mine").write_text("kept")
  assert _export(tmp_path, "peft") == 1
  assert "out exists already" in capsys.readouterr().err
  assert (tmp_path / "out" / "mine").read_text() == "kept"


def test_a_merge_that_rounds_the_adapter_away_is_refused(tmp_path, capsys):
  _made(tmp_path, dtype="bfloat16", scale=0.003)
  assert _export(tmp_path, "orbax") == 1
  _check_refused(tmp_path, capsys, "too little of the adapter is left")


def test_an_adapter_that_is_no_adapter_folder_is_refused(tmp_path, capsys):
  _made(tmp_path)
  assert _export(tmp_path, "peft", adapter="t5") == 1
  _check_refused(tmp_path, capsys, "is no adapter folder")


def test_a_base_model_that_transformers_does_not_read_is_not_named(
  tmp_path, capsys, without_torch
):
  config = dataclasses.replace(testing.CONFIG, scale_decoder_output=False)
  folder = tmp_path / "t5" / "checkpoint_3"
  t5x_files.write_legacy(folder, t5x_files.arrays_of(config))
  source = formats.open_source(folder)
  adapter = adapter_example.adapter(source, SOME)
  adapter.save(tmp_path / "adapter")
  assert _export(tmp_path, "peft") == 0
  said = capsys.readouterr().out
  assert f"`hyperjax import --from {folder} --to FOLDER` writes that" in said
  facts = json.loads((tmp_path / "out" / peft.CONFIG).read_text())
  assert facts["base_model_name_or_path"] is None
  # A merged T5 needs none.
  (tmp_path / "out").rename(tmp_path / "peft")
  assert _export(tmp_path, "hf") == 0
  assert "names no base model" not in capsys.readouterr().out
  assert not (tmp_path / "out" / "spiece.model").exists()
  # Two files of a Hugging Face folder are its configuration and its arrays.
  (tmp_path / "t5" / "config.json").write_text("{}")
  assert export._theirs(
    dataclasses.replace(source, path=str(tmp_path / "t5"))
  ) is (None)


def test_what_is_not_to_be_verified_is_not(tmp_path, capsys):
  _made(tmp_path)
  assert _export(tmp_path, "orbax", "--no-verify") == 0
  assert "not verified: --no-verify" in capsys.readouterr().out


def test_of_rounded_sums_it_is_said_what_that_changes(tmp_path, capsys):
  _made(tmp_path, dtype="bfloat16", scale=1.0)
  assert _export(tmp_path, "orbax", "--verify") == 0
  said = capsys.readouterr().out
  assert "verified: logits of the checkpoint and of HyperJAX differ" in said
  assert "; rounding the sums to bfloat16 changes logits by up to" in said


# In the other program.


@pytest.mark.slow
@pytest.mark.parametrize(
  "spec", [SOME, testing.SPECS["ia3"]], ids=["lora", "ia3"]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("to", ["peft", "hf"])
def test_an_export_is_verified_in_the_other_program(
  tmp_path, capsys, to, dtype, spec
):
  """Of bfloat16 weights PEFT's sum is exact, a merged one is rounded."""
  _library("peft")
  _made(tmp_path, spec, dtype=dtype)
  assert _export(tmp_path, to, "--verify") == 0
  said = capsys.readouterr().out
  assert "verified: logits of" in said
  assert ("peft 0." in said) == (to == "peft")
  is_rounded = to == "hf" and dtype == "bfloat16"
  assert ("rounding the sums to bfloat16" in said) == is_rounded


@pytest.mark.slow
@pytest.mark.parametrize(
  "config",
  [testing.CONFIG, testing.TIED],
  ids=["1.1", "1.0"],
)
def test_transformers_decodes_a_merged_t5_as_hyperjax_the_adapter(
  tmp_path, config
):
  torch, transformers = _library("torch"), _library("transformers")
  source, adapter = _made(
    tmp_path, adapter_example.SPECS["feed-forward"], config
  )
  assert _export(tmp_path, "hf", "--verify") == 0
  ids = testing.tokens(3, 11) * (np.arange(11) < [[11], [6], [1]])
  params = weights.load(source, source.config).params
  wanted = decoding.generate(
    t5.T5(source.config), params, jnp.asarray(ids), 10, adapters=adapter.arrays
  ).tokens
  model = transformers.T5ForConditionalGeneration.from_pretrained(
    tmp_path / "out"
  )
  found = model.generate(
    input_ids=torch.tensor(ids).long(),
    attention_mask=torch.tensor(ids > 0).long(),
    max_new_tokens=10,
    do_sample=False,
    use_cache=False,
  )[:, 1:].numpy()  # the start token is in front
  found = np.pad(found, ((0, 0), (0, 10 - found.shape[1])))
  np.testing.assert_array_equal(found, wanted)


@pytest.mark.slow
def test_a_wrong_name_makes_the_command_fail(tmp_path, capsys, monkeypatch):
  _library("peft")
  _made(tmp_path)
  monkeypatch.setattr(peft, "WRAPPED", "base_model.")
  assert _export(tmp_path, "peft") == 1
  _check_refused(tmp_path, capsys, "the T5 that PEFT makes")


@pytest.mark.slow
def test_a_merge_that_leaves_a_kernel_out_makes_the_command_fail(
  tmp_path, capsys, monkeypatch
):
  _library("transformers")
  _made(tmp_path)
  monkeypatch.setattr(merged, "merged", lambda source, written: source)
  assert _export(tmp_path, "hf") == 1
  _check_refused(tmp_path, capsys, "the export is wrong")


@pytest.mark.slow
def test_what_a_trained_hypermodel_wrote_for_a_run_of_ours_is_exported(
  tmp_path, capsys, world
):
  """The backbone is a run: PEFT's base is written for the comparison."""
  spec = adapters.LoraSpec(2, alpha=3.0)
  run = runs_example.multitask(
    world / "tokens", tmp_path / "run", world / "backbone", spec, steps=6
  )
  run.execute()
  trainer = testing.make_trainer(run.problem)
  given = restore.load(str(tmp_path / "run"), trainer)
  demonstrations = jnp.asarray(testing.tokens(1, 24, vocab_size=32))
  written = jax.jit(run.problem.write)(given.params, demonstrations)
  assert np.abs(written.encoder.attention.query.up).max() > 0
  info = adapter_folder.Info(
    spec=spec,
    config=runs_example.CONFIG,
    backbone=given.backbone,
    tokenizer=None,
    lengths=runs_example.LENGTHS,
    origin={"hypermodel": {"run": str(tmp_path / "run"), "step": 6}},
  )
  adapter = adapter_folder.Adapter(info, jax.tree.map(np.asarray, written))
  adapter.save(tmp_path / "adapter")
  assert _export(tmp_path, "orbax") == 0
  (tmp_path / "out").rename(tmp_path / "orbax")
  if all(map(_is_there, ("torch", "transformers", "peft"))):
    for to in ("peft", "hf"):
      assert _export(tmp_path, to, "--verify") == 0
      said = capsys.readouterr().out
      assert "verified: logits of" in said
      source = f"hyperjax import --from {world / 'backbone'}"
      assert (source in said) == (to == "peft")
      (tmp_path / "out").rename(tmp_path / to)
    facts = json.loads((tmp_path / "peft" / peft.CONFIG).read_text())
    assert facts["base_model_name_or_path"] is None


def _is_there(name):
  import importlib.util

  return importlib.util.find_spec(name) is not None
