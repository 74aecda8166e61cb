"""T5's relatives from import to answers, by the command line alone."""

import importlib
import json
import pathlib

import numpy as np
import pytest

from hyperjax import main
from hyperjax.artifacts import adapter_folder
from hyperjax.data import vocabularies
from hyperjax.data.store import mixtures, store
from hyperjax.interop import hf, logits
from hyperjax.tasks import records
from tests import conftest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_configuration")]

FAMILY = conftest.MODELS / "t5_family"
# Those without a tokenizer are given one with fewer ids than they have rows.
CASES = {
  "mt5": [f"--vocabulary={records.VOCABULARY}"],
  "umt5": [f"--vocabulary={records.VOCABULARY}"],
  "byt5": [],
  "tokenizer_json_only": [],
}
GIN = """
from __gin__ import dynamic_registration
from hyperjax import adapters
from hyperjax import loop
from hyperjax import optimizers
from hyperjax.data import sources
from hyperjax.data.store import mixtures
from hyperjax.models import hypermodel

include "models/from_checkpoint.gin"
include "stages/hypertuning.gin"

DATA = @sources.FewShotEpisodes()
ADAPTERS = @adapters.LoraSpec()
BATCH_SIZE = 16
TRAIN_STEPS = 4
sources.FewShotEpisodes.tasks = @mixtures.StoredTasks()
sources.FewShotEpisodes.feature_lengths = {
    "demonstrations": 96, "inputs": 24, "targets": 12}
sources.FewShotEpisodes.num_demonstrations = (1, 2)
sources.FewShotEpisodes.num_targets = 2
mixtures.StoredTasks.mixture_or_task = "rules"
adapters.LoraSpec.rank = 2
adapters.LoraSpec.alpha = 0.5
hypermodel.HyperT5Config.head_hidden_dim = 8
optimizers.LinearDecay.peak = 3e-2
"""
RULE = 7


def _run(*given):
  assert main.main([str(x) for x in given]) == 0


def _store(cache_dir, tokenizer):
  """The rows of a rule in a tokenizer, as `hyperjax cache` would store them."""
  vocabularies.keep_copy(tokenizer, cache_dir / store.VOCABULARIES)
  rows = [
    {k: [*tokenizer.encode(x), tokenizer.eos_id] for k, x in row.items()}
    for row in records.rule_rows(RULE, "train")
  ]
  info = {
    "task": "rule",
    "split": "train",
    "vocabulary": tokenizer.description,
  }
  names = ("inputs", "targets")
  store.write(cache_dir / "rule", rows, names, info, tokenizer.size, False)
  folders = [("rule", 1.0, cache_dir / "rule")]
  mixtures.write_mixture(cache_dir, "rules", "train", False, folders)


def _answers(folder, model, *options):
  out = folder / f"{pathlib.Path(model).name}-{len(options)}.jsonl"
  lengths = ("--input_length=64", "--max_length=12")
  given = ("--model", model, "--inputs", folder / "inputs.txt", "--out", out)
  _run("predict", *given, *lengths, *options)
  return [json.loads(x)["prediction"] for x in out.read_text().splitlines()]


@pytest.mark.parametrize("name", CASES)
def test_adapters_are_written_saved_exported_and_answered(name, tmp_path):
  if name == "tokenizer_json_only":
    pytest.importorskip("tokenizers")
  t5, run = tmp_path / "t5", tmp_path / "run"
  _run("import", "--from", FAMILY / name, "--to", t5, *CASES[name])
  config = hf.open_folder(t5).config
  tokenizer = vocabularies.beside(t5, config.vocab_size)
  _store(tmp_path / "tokens", tokenizer)
  (tmp_path / "run.gin").write_text(GIN)
  _run(
    "train",
    f"--gin_file={tmp_path / 'run.gin'}",
    f"--gin.mixtures.StoredTasks.cache_dir='{tmp_path / 'tokens'}'",
    f"--gin.INITIAL_CHECKPOINT_PATH='{t5}'",
    f"--gin.MODEL_DIR='{run}'",
  )
  rows = list(records.rule_rows(RULE, "train"))[:2]
  examples = [{"input": x["inputs"], "output": x["targets"]} for x in rows]
  lines = "".join(json.dumps(x) + "\n" for x in examples)
  (tmp_path / "e.jsonl").write_text(lines)
  adapter = tmp_path / "adapter"
  _run(
    *("adapt", "--model", run, "--examples", tmp_path / "e.jsonl"),
    *("--out", adapter),
  )
  info = adapter_folder.read(adapter).info
  assert info.config.relpos_per_layer == (name == "umt5")
  assert info.tokenizer.identity == tokenizer.identity
  asked = [x["inputs"] for x in records.rule_rows(RULE, "validation")][:3]
  (tmp_path / "inputs.txt").write_text("".join(f"{x}\n" for x in asked))
  wanted = _answers(tmp_path, run, "--adapter", adapter)
  assert wanted != _answers(tmp_path, t5)
  assert _answers(tmp_path, t5, "--adapter", adapter) == wanted
  for form in ("hf", "orbax"):
    merged = tmp_path / f"merged_{form}"
    # Random weights amplify rounding past what a verification allows of a trained
    # T5; what is exported answers instead.
    options = ("--no-verify", "--out", merged)
    _run("export", "--adapter", adapter, "--to", form, *options)
    # With nothing but the folder.
    assert _answers(tmp_path, merged) == wanted
  again = tmp_path / "again"
  _run("import", "--from", tmp_path / "merged_orbax", "--to", again)
  found = vocabularies.beside(again, config.vocab_size)
  assert [found.encode(x) for x in asked] == [
    tokenizer.encode(x) for x in asked
  ]
  given = asked, wanted, config, tokenizer
  _check_transformers(tmp_path / "merged_hf", *given)
  _check_transformers(again, *given)


def _check_transformers(folder, asked, wanted, config, tokenizer):
  """That transformers has the same ids, and answers with them."""
  if not logits.has_transformers():
    return
  torch, transformers = map(importlib.import_module, ("torch", "transformers"))
  theirs = transformers.AutoTokenizer.from_pretrained(folder)
  model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
  for text, answer in zip(asked, wanted, strict=True):
    ids = theirs(text).input_ids
    assert ids == [*tokenizer.encode(text), tokenizer.eos_id]
    with torch.no_grad():
      found = model.generate(
        torch.tensor([ids]), max_new_tokens=12, use_cache=False
      )
    assert found[0, 0] == config.start_id
    # Of a T5 with more rows it also writes ids that no token has.
    if tokenizer.size == config.vocab_size:
      assert tokenizer.decode(found[0, 1:].tolist()) == answer
  assert np.isfinite(model.shared.weight.detach().numpy()).all()
