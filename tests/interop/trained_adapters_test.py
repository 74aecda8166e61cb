"""An adapter that was written, trained further and saved, as PEFT computes it."""

import json

import numpy as np
import pytest

from hyperjax import main, optimizers
from hyperjax.artifacts import adapter_folder, restore
from hyperjax.interop import verify
from hyperjax.serving import export
from tests import served_example

pytestmark = pytest.mark.slow


def _run(*given):
  return main.main([str(x) for x in given])


def test_from_adapt_through_training_to_peft(served, tmp_path, capsys):
  """PEFT's logits are those of the trained adapter, and not of the written."""
  for name in ("torch", "transformers", "peft"):
    pytest.importorskip(name, reason="needs hyperjax[interop]")
  pairs = served_example.pairs(7)
  rows = [json.dumps({"input": x, "output": y}) + "\n" for x, y in pairs]
  (tmp_path / "e.jsonl").write_text("".join(rows))
  model = ("--model", served / "lora", "--examples", tmp_path / "e.jsonl")
  assert not _run("adapt", *model, "--out", tmp_path / "written")
  served_example.tune(
    tmp_path / "run",
    served / "tokens",
    "lora",
    tmp_path / "written",
    optimizer=optimizers.AdamW(optimizers.Constant(0.1)),
  )
  saved = tmp_path / "saved"
  assert not _run("adapter", "save", tmp_path / "run", "--out", saved)
  tasks = sorted(path.name for path in saved.iterdir())
  assert tasks == ["records_rule_007", "records_rule_300"]
  source = restore.open_t5(served / "backbone")
  before = adapter_folder.read(tmp_path / "written").arrays
  capsys.readouterr()
  for task in tasks:
    out = tmp_path / f"peft_{task}"
    given = ("--adapter", saved / task, "--to", "peft", "--verify")
    assert not _run("export", *given, "--out", out)
    assert "verified: logits of" in capsys.readouterr().out
    wanted = verify.reference(source, adapter_folder.read(saved / task).arrays)
    started = verify.reference(source, before)
    found = export._peft_logits(out, source, wanted.tokens)
    np.testing.assert_allclose(found, wanted.adapted, rtol=1e-3, atol=1e-3)
    assert np.abs(found - started.adapted).max() > 0.1
