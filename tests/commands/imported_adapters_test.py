"""Adapters of PEFT on the command line, beside those that a hypermodel wrote."""

import json

import numpy as np
import pytest
from safetensors import numpy as safetensors

from hyperjax import adapters, main
from hyperjax.artifacts import adapter_folder
from tests import served_example

CONFIG = served_example.CONFIG
MODULES = {
  "decoder.block.0.layer.0.SelfAttention.q": 1,
  "decoder.block.1.layer.1.EncDecAttention.v": 3,
}
ASKED = served_example.questions()[:3]


def _run(*given):
  return main.main([str(x) for x in given])


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
  """LoRA of two modules, of different ranks, that changes answers."""
  folder = tmp_path_factory.mktemp("peft") / "theirs"
  folder.mkdir()
  draw = np.random.default_rng(0).standard_normal
  width, arrays = CONFIG.num_heads * CONFIG.head_dim, {}
  for module, rank in MODULES.items():
    for part, shape in (("A", (rank, CONFIG.emb_dim)), ("B", (width, rank))):
      name = f"base_model.model.{module}.lora_{part}.weight"
      arrays[name] = 2 * draw(shape).astype(np.float32)
  facts = {
    "peft_type": "LORA",
    "r": 1,
    "lora_alpha": 2,
    "rank_pattern": {"EncDecAttention.v": 3},
    "target_modules": list(MODULES),
  }
  (folder / "adapter_config.json").write_text(json.dumps(facts))
  safetensors.save_file(arrays, folder / "adapter_model.safetensors")
  return folder


@pytest.fixture(scope="module")
def work(served, theirs, tmp_path_factory):
  """An adapter that a hypermodel wrote, and an imported one for the same T5."""
  folder = tmp_path_factory.mktemp("work")
  pairs = served_example.pairs(served_example.RULES[0])
  rows = [{"input": given, "output": answer} for given, answer in pairs]
  examples = folder / "rule.jsonl"
  examples.write_text("".join(json.dumps(row) + "\n" for row in rows))
  model = served / "lora"
  written = ("--examples", examples, "--out", folder / "written")
  assert not _run("adapt", "--model", model, *written)
  taken = ("--from", theirs, "--model", model, "--out", folder / "imported")
  assert not _run("adapter", "import", *taken)
  return folder


@pytest.mark.slow
def test_an_imported_adapter_answers_beside_a_written_one(
  served, work, tmp_path
):
  """Of other ranks, at other places; each line as if it were alone."""
  own = [work / "written", work / "imported"]
  lines = [
    {"input": text, "adapter": str(folder)} for text in ASKED for folder in own
  ]
  inputs = tmp_path / "inputs.jsonl"
  inputs.write_text("".join(json.dumps(line) + "\n" for line in lines))
  shared = ("--model", served / "lora", "--scores")
  assert not _run(
    "predict", *shared, "--inputs", inputs, "--out", tmp_path / "both.jsonl"
  )
  plain = tmp_path / "plain.txt"
  plain.write_text("".join(f"{text}\n" for text in ASKED))
  alone = []
  for folder in own:
    out = tmp_path / f"{folder.name}.jsonl"
    given = ("--inputs", plain, "--adapter", folder, "--out", out)
    assert not _run("predict", *shared, *given)
    alone.append([json.loads(line) for line in out.read_text().splitlines()])
  found = (tmp_path / "both.jsonl").read_text().splitlines()
  for i, line in enumerate(found):
    row, single = json.loads(line), alone[i % 2][i // 2]
    assert row["prediction"] == single["prediction"]
    assert row["log_likelihood"] == pytest.approx(
      single["log_likelihood"], abs=1e-4
    )
  assert [x["log_likelihood"] for x in alone[0]] != [
    x["log_likelihood"] for x in alone[1]
  ]


def test_an_imported_adapter_says_what_it_is_and_has_a_mean_with_a_written_one(
  work, tmp_path, capsys
):
  own = [work / "written", work / "imported"]
  assert not _run("adapter", "info", own[1], "--json")
  [shown] = json.loads(capsys.readouterr().out)
  assert shown["kind"] == "PlacedLoraSpec"
  assert shown["origin"]["imported"]["peft"]["rank_pattern"]
  written, imported = map(adapter_folder.read, own)
  assert shown["tokenizer"]["identity"] == written.info.tokenizer.identity
  assert imported.info.backbone.identity == written.info.backbone.identity
  assert imported.info.lengths == written.info.lengths
  assert not _run("adapter", "average", *own, "--out", tmp_path / "mean")
  mean = adapter_folder.read(tmp_path / "mean")
  rank = written.info.spec.rank
  assert mean.info.spec == adapters.PlacedLoraSpec(
    {
      "encoder.attention.query": rank,
      "encoder.attention.value": rank,
      "decoder.self_attention.query": rank + 1,
      "decoder.self_attention.value": rank,
      "decoder.encoder_decoder_attention.query": rank,
      "decoder.encoder_decoder_attention.value": rank + 3,
    }
  )


def test_an_import_that_cannot_be_has_one_line_and_leaves_nothing(
  served, theirs, tmp_path, capsys
):
  facts = json.loads((theirs / "adapter_config.json").read_text())
  folder = tmp_path / "dora"
  folder.mkdir()
  settings = json.dumps(facts | {"use_dora": True})
  (folder / "adapter_config.json").write_text(settings)
  given = (
    "--from",
    folder,
    "--model",
    served / "lora",
    "--out",
    tmp_path / "o",
  )
  assert _run("adapter", "import", *given) == 1
  shown = capsys.readouterr().err.strip()
  assert "use_dora is True" in shown and len(shown.splitlines()) == 1
  assert not (tmp_path / "o").exists()
  given = (
    "--from",
    theirs,
    "--model",
    tmp_path / "no",
    "--out",
    tmp_path / "o",
  )
  assert _run("adapter", "import", *given) == 1
  assert "there is no such folder" in capsys.readouterr().err
