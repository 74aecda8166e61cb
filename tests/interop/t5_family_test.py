"""A folder of T5's relatives, each held to what its README says of it.

`HYPERJAX_T5_FAMILY` names another folder of the same layout: subfolders of models,
with `expected.npz` and `expected_ids.json` of what is read, without either of what
must be refused. Those of `peft/` are in t5_family_peft_test.py.
"""

import dataclasses
import functools
import json
import os
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from hyperjax import main
from hyperjax.data import vocabularies
from hyperjax.interop import hf, hf_config, logits, t5x, weights
from hyperjax.models import forward
from tests import conftest, testing

FOLDER = pathlib.Path(
  os.environ.get("HYPERJAX_T5_FAMILY", conftest.MODELS / "t5_family")
)
# Of the largest logit, or of 1 where that is below. Rounding alone takes some models
# farther: where the weights' neighbours do, either program may be so far from the truth.
TOLERANCE = 5e-5
# What a program that writes a folder says of itself, and where it says the rest.
WRITERS = {
  "_from_model_config",
  "architectures",
  "dtype",
  "torch_dtype",
  "transformers_version",
}


def _cases(*needed):
  """Model folders that have all of `needed`, by their names."""
  found = [x.parent for x in sorted(FOLDER.glob("*/config.json"))]
  return [x.name for x in found if all((x / name).is_file() for name in needed)]


READ = [
  x
  for x in _cases()
  if (FOLDER / x / "expected.npz").is_file()
  or (FOLDER / x / "expected_ids.json").is_file()
]
REFUSED = [x for x in _cases() if x not in READ]


@functools.cache
def _loaded(name):
  source = hf.open_folder(FOLDER / name)
  return source.config, weights.load(source, source.config).params


def _import(name, target, *options):
  folder = str(FOLDER / name)
  return main.main(["import", "--from", folder, "--to", str(target), *options])


def test_the_folder_has_cases():
  assert _cases("expected.npz")
  assert REFUSED


@pytest.mark.parametrize("name", _cases("expected.npz"))
def test_logits_and_likeliest_tokens_are_those_of_transformers(name):
  config, params = _loaded(name)
  expected = np.load(FOLDER / name / "expected.npz")
  encoder_BS = expected["encoder_input_tokens"]
  np.testing.assert_array_equal(
    encoder_BS != config.pad_id, expected["attention_mask"] == 1
  )
  wanted_BT = expected["greedy_10"]
  assert set(wanted_BT[:, 0]) == {config.start_id}
  given_BT = expected["decoder_input_tokens"]
  length = max(given_BT.shape[1], wanted_BT.shape[1] - 1)
  # Of each row both, one after the other, in one pass.
  both = np.full((len(given_BT), 2, length), config.pad_id, np.int32)
  both[:, 0, : given_BT.shape[1]] = given_BT
  both[:, 1, : wanted_BT.shape[1] - 1] = wanted_BT[:, :-1]

  @testing.optimized
  def run(params):
    setting = forward.Setting(params, encoder_BS)
    return forward.logits(config, setting, both.reshape(-1, length))

  count = given_BT.shape[1]

  def logits(params):
    return np.asarray(run(params)).reshape(*both.shape, -1)[:, 0, :count]

  with jax.default_matmul_precision("highest"):
    found = np.asarray(run(params)).reshape(*both.shape, -1)
    moved = testing.moved_by_rounding(logits, params)
  wanted_BTV = expected["logits"]
  most = max(TOLERANCE * max(1.0, float(np.abs(wanted_BTV).max())), 2 * moved)
  np.testing.assert_allclose(found[:, 0, :count], wanted_BTV, rtol=0, atol=most)
  for likeliest_T, wanted_T in zip(
    found[:, 1].argmax(-1), wanted_BT[:, 1:], strict=True
  ):
    count = _length(config, wanted_T)
    np.testing.assert_array_equal(likeliest_T[:count], wanted_T[:count])


def _length(config, tokens_T):
  """How many tokens there are, the end among them."""
  ends = np.flatnonzero(np.isin(tokens_T, config.eos_ids))
  return int(ends[0]) + 1 if len(ends) else len(tokens_T)


def _decodes_otherwise(name):
  """Whether its decoding has something that others have not."""
  try:
    config, _ = hf_config.read(FOLDER / name)
  except ValueError:
    return True  # it is told by the test itself
  ids = config.start_id, tuple(config.eos_ids), config.pad_id
  return config.relpos_per_layer or ids != (0, (1,), 0)


# Quick where it shows something that no other test does.
_MOST_SLOW = [
  x if _decodes_otherwise(x) else pytest.param(x, marks=pytest.mark.slow)
  for x in _cases("expected.npz")
]


@pytest.mark.parametrize("name", _MOST_SLOW)
def test_cached_greedy_decoding_is_that_of_transformers(name):
  config, params = _loaded(name)
  expected = np.load(FOLDER / name / "expected.npz")

  @jax.jit
  def run(params):
    setting = forward.Setting(params, expected["encoder_input_tokens"])
    return forward.decode(config, setting, max_length=10).tokens

  with jax.default_matmul_precision("highest"):
    found_BT = np.asarray(run(params))
  # transformers writes the start token in front, and ends where all rows have.
  wanted_BT = expected["greedy_10"][:, 1:]
  count = wanted_BT.shape[1]
  np.testing.assert_array_equal(found_BT[:, :count], wanted_BT)
  assert set(found_BT[:, count:].flat) <= {config.pad_id}


@pytest.mark.parametrize("name", _cases("expected_ids.json"))
def test_texts_have_the_ids_of_transformers_and_come_back(name):
  config, _ = _loaded(name)
  tokenizer = vocabularies.beside(FOLDER / name, config.vocab_size)
  assert tokenizer is not None
  assert tokenizer.size <= config.vocab_size
  for row in json.loads((FOLDER / name / "expected_ids.json").read_text()):
    ids = [*tokenizer.encode(row["text"]), tokenizer.eos_id]
    assert ids == row["ids"], row["text"]
    if "decoded" in row:
      # transformers leaves special tokens out, T5's sentinels and what stands for
      # unknown text among them.
      kept = [i for i in ids if not _is_special(tokenizer, i)]
      found, wanted = tokenizer.decode(kept), row["decoded"]
      if len(kept) < len(ids) - 1:
        # SentencePiece has no blank where nothing is before it.
        found, wanted = found.split(), wanted.split()
      assert found == wanted, row["text"]


def _is_special(tokenizer, number):
  shown = tokenizer.decode([number])
  return number == tokenizer.unknown_id or shown.startswith("<extra_id_")


@pytest.mark.parametrize("name", READ)
def test_imported_it_is_the_same_t5_with_its_tokenizer(name, tmp_path, capsys):
  assert _import(name, tmp_path / "t5") == 0, capsys.readouterr().err
  said, again = (
    json.loads((folder / "config.json").read_text())
    for folder in (FOLDER / name, tmp_path / "t5")
  )
  of_output = {"tie_word_embeddings"}  # which files decide, not this
  for key, value in said.items():
    if key not in WRITERS | of_output and value is not None:
      assert again[key] == value, key
  arrays = _arrays(tmp_path / "t5")
  for key, array in _arrays(FOLDER / name).items():
    assert arrays[key].dtype == array.dtype, key
    np.testing.assert_array_equal(arrays[key], array, key)
  # What is beside them is the tied output layer for transformers 4.
  assert arrays.keys() - _arrays(FOLDER / name).keys() <= {"lm_head.weight"}
  for own in vocabularies.FILES:
    if (FOLDER / name / own).is_file():
      kept = (tmp_path / "t5" / own).read_bytes()
      assert kept == (FOLDER / name / own).read_bytes()
  source = hf.open_folder(tmp_path / "t5")
  assert source.config == _loaded(name)[0]


@pytest.mark.parametrize("name", _MOST_SLOW)
def test_written_as_t5x_it_is_read_again_bit_for_bit(name, tmp_path, capsys):
  assert _import(name, tmp_path / "t5x", "--layout=t5x") == 0
  before = hf.open_folder(FOLDER / name)
  after = t5x.open_checkpoint(tmp_path / "t5x")
  assert set(after.shapes) == set(before.shapes)
  for own in before.shapes:
    found, wanted = after.read(own), before.read(own)
    assert found.dtype == wanted.dtype, own
    np.testing.assert_array_equal(found, wanted, own)
  told = {
    field.name: getattr(before.config, field.name)
    for field in dataclasses.fields(before.config)
    if field.name not in {*after.assumed, "scale_decoder_output"}
  }
  for field, value in told.items():
    assert getattr(after.config, field) == value, field
  # And back: what t5x does not tell is T5's own, or said.
  spoken = ",".join(before.config.mlp_activations)
  given = (f"--mlp_activations={spoken}",)
  options = ["import", "--from", str(tmp_path / "t5x"), *given]
  assert main.main([*options, "--to", str(tmp_path / "hf")]) == 0
  again = _arrays(tmp_path / "hf")
  for key, array in _arrays(FOLDER / name).items():
    np.testing.assert_array_equal(again[key], array, key)


def _largest(name):
  return float(np.abs(np.load(FOLDER / name / "expected.npz")["logits"]).max())


@pytest.mark.parametrize(
  "name", [max(_cases("expected.npz"), key=_largest, default="none")]
)
def test_a_check_passes_however_large_logits_are(
  name, tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr(logits, "has_transformers", lambda: False)
  assert _import(name, tmp_path / "t5", "--check") == 0, capsys.readouterr().err


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_what_to_do(name, tmp_path, capsys):
  assert _import(name, tmp_path / "t5") == 1
  error = capsys.readouterr().err
  assert "Traceback" not in error
  assert any(
    all(word in error for word in words) for words in _wrong(FOLDER / name)
  ), error
  assert not list(tmp_path.iterdir())


def _wrong(folder):
  """What a message may say, found in the folder by hand: words, all of some of them."""
  for file in sorted(folder.iterdir()):
    if file.read_bytes().startswith(b"version https://git-lfs"):
      return [(file.name, "Git LFS", "git lfs pull")]
  facts = json.loads((folder / "config.json").read_text())
  if facts["model_type"] not in ("t5", "mt5", "umt5"):
    return [("model_type", facts["model_type"])]
  if facts.get("quantization_config"):
    return [("quantized", "dequantize")]
  if not list(folder.glob("*.safetensors")):
    pickle = min(folder.glob("*.bin"))
    return [(pickle.name, "pickle", "safetensors", "from_pretrained")]
  for index in folder.glob("*.index.json"):
    listed = json.loads(index.read_text())["weight_map"].values()
    for file in sorted(set(listed)):
      if not (folder / file).is_file():
        return [(file, "is missing", "download it again")]
  arrays = _arrays(folder)
  if not any("decoder.block" in name for name in arrays):
    return [("encoder alone", "T5ForConditionalGeneration")]
  if any(array.dtype.kind in "iu" for array in arrays.values()):
    return [("is of type I8", "dequantize"), ("is of type U8", "dequantize")]
  counts = {
    (int((~np.isfinite(array.astype(np.float64))).sum()), array.size)
    for array in arrays.values()
  }
  found = [
    (f"has {wrong:,} of {size:,} values that are not finite", "the parameter")
    for wrong, size in counts
    if wrong
  ]
  assert found, f"{folder}: nothing is wrong with it"
  return found


def _arrays(folder):
  found = {}
  for file in sorted(folder.glob("*.safetensors")):
    found |= safetensors.numpy.load_file(file)
  return found


@pytest.mark.slow
@pytest.mark.parametrize("name", _cases("expected.npz"))
def test_transformers_finds_the_same_t5_before_and_after(name, tmp_path):
  pytest.importorskip("torch")
  transformers = pytest.importorskip("transformers")
  assert _import(name, tmp_path / "t5") == 0
  kind = transformers.AutoModelForSeq2SeqLM
  before, after = (
    kind.from_pretrained(folder, local_files_only=True)
    for folder in (FOLDER / name, tmp_path / "t5")
  )
  assert type(after) is type(before)
  wanted = before.state_dict()
  found = after.state_dict()
  assert found.keys() == wanted.keys()
  for key, tensor in wanted.items():
    assert found[key].dtype == tensor.dtype, key
    assert found[key].equal(tensor), key
  for of in ("config", "generation_config"):
    one, other = (getattr(model, of).to_dict() for model in (before, after))
    for key, value in one.items():
      if key not in WRITERS | {"_name_or_path", "tie_word_embeddings"}:
        assert other[key] == value, (of, key)
  expected = np.load(FOLDER / name / "expected.npz")
  target = hf.open_folder(tmp_path / "t5")
  drawn = expected["encoder_input_tokens"], expected["decoder_input_tokens"]
  theirs = logits.of_transformers(tmp_path / "t5", drawn)
  np.testing.assert_array_equal(
    theirs, logits.of_transformers(FOLDER / name, drawn)
  )
  assert logits.difference(logits.of_adapters(target, drawn)[0], theirs)[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", _cases("expected_ids.json"))
def test_transformers_finds_the_tokenizer_that_was_written(name, tmp_path):
  transformers = pytest.importorskip("transformers")
  config, _ = _loaded(name)
  own = vocabularies.beside(FOLDER / name, config.vocab_size)
  for file, content in vocabularies.written(own).items():
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / file).write_bytes(data)
  (tmp_path / "config.json").write_text('{"model_type": "t5"}')
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  for row in json.loads((FOLDER / name / "expected_ids.json").read_text()):
    assert theirs(row["text"]).input_ids == row["ids"], row["text"]
