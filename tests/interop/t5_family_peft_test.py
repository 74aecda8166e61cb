"""Adapters of the peft library: what it computes with them, HyperJAX does.

Walks `peft/` of a folder laid out as tests/data/t5_family (its README.md says how):
HYPERJAX_T5_FAMILY, where that is set. An adapter whose settings HyperJAX can hold has
the logits of its `expected.npz`, and comes out again as it went in; without that
file it is damaged, and refused. What cannot be held is refused by its name.
"""

import contextlib
import functools
import json
import os
import pathlib
import re
import tempfile

import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors

from hyperjax import adapters
from hyperjax.artifacts import adapter_folder
from hyperjax.interop import hf, weights
from hyperjax.models import forward
from hyperjax.serving import export, importing
from tests import testing

_HERE = pathlib.Path(__file__).parent.parent / "data" / "t5_family"
_FOLDER = pathlib.Path(os.environ.get("HYPERJAX_T5_FAMILY", _HERE)) / "peft"
_BASE = _FOLDER / "base"
_CASES = sorted(
  path.name
  for path in _FOLDER.iterdir()
  if path.name != "base" and path.is_dir()
)
# Settings that change what is computed, and that no adapter here has.
_REFUSED = (
  "alora_invocation_tokens",
  "arrow_config",
  "kasa_config",
  "layer_replication",
  "lora_bias",
  "modules_to_save",
  "target_parameters",
  "trainable_token_indices",
  "use_bdlora",
  "use_bora",
  "use_dora",
  "use_qalora",
)
_PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")


def _facts(case):
  [file] = [
    *(_FOLDER / case).glob("adapter_config.json"),
    *(_FOLDER / case).glob("*/adapter_config.json"),
  ]
  return json.loads(file.read_text()), file.parent


def _refusal(facts, folder):
  """A word that a refusal must have; None where there is nothing to refuse."""
  if facts["peft_type"] not in ("LORA", "IA3"):
    return facts["peft_type"]
  for name in _REFUSED:
    if facts.get(name):
      return name
  if facts.get("bias", "none") != "none":
    return "bias"
  if facts.get("init_lora_weights") not in _PLAIN_STARTS:
    return "init_lora_weights"
  file = folder / "adapter_model.safetensors"
  if not file.exists():
    return "adapter_model"
  names = safetensors.load_file(file) if _is_whole(file) else {}
  for part in ("lm_head", "lora_embedding"):
    if any(part in name for name in names):
      return {"lora_embedding": "embedding"}.get(part, part)
  for name in names:
    is_input = names[name].shape[0] == 1
    sides = (
      ".wi.",
      ".wi_0.",
      *((".q.", ".k.", ".v.", ".wi_1.") if is_input else (".o.", ".wo.")),
    )
    if "ia3_l" in name and any(side in name for side in sides):
      return "scales what this module"
  return None


def _plain(name):
  """An array's name without the adapter's own, if that is in it."""
  name = re.sub(r"(\.lora_[AB])\.[^.]+\.weight$", r"\1.weight", name)
  name = re.sub(r"(\.ia3_l)\.[^.]+$", r"\1", name)
  return "base_model.model." + re.sub(r"^(base_model\.model\.)*", "", name)


def _is_whole(file):
  try:
    safetensors.load_file(file)
  except Exception:  # whatever the library says of a broken file
    return False
  return True


def _imported(case, out):
  importing.from_peft(_FOLDER / case, str(_BASE), out)
  return adapter_folder.read(out)


@functools.cache
def _logits():
  """Of every case that can be read, and how far roundings of weights move them.

  All in one batch, each adapter with rows of its own, as `hyperjax predict` has
  them.
  """
  read = {}
  with tempfile.TemporaryDirectory() as scratch:
    for case in _CASES:
      with contextlib.suppress(ValueError):
        read[case] = _imported(case, pathlib.Path(scratch) / case).arrays
  source = hf.open_folder(_BASE)
  params = weights.load(source, source.config).params
  given = np.load(_BASE / "expected.npz")
  tokens = [
    np.concatenate([given[name]] * len(read))
    for name in ("encoder_input_tokens", "decoder_input_tokens")
  ]
  apply = jax.jit(functools.partial(forward.logits, source.config))
  whole = adapters.stack(list(read.values()))

  def logits(params):
    with jax.default_matmul_precision("highest"):
      found = apply(forward.Setting(params, tokens[0], whole), tokens[1])
    return dict(zip(read, np.split(np.asarray(found), len(read)), strict=True))

  found, moved = logits(params), testing.moved_by_rounding(logits, params)
  return {x: (found[x], moved[x]) for x in read}


@pytest.mark.parametrize("case", _CASES)
def test_an_adapter_of_peft_does_what_it_does_there_or_is_refused(
  case, tmp_path
):
  facts, folder = _facts(case)
  out, expected = tmp_path / "adapter", _FOLDER / case / "expected.npz"
  word = _refusal(facts, folder)
  if word is not None or not expected.exists():
    with pytest.raises(ValueError, match=word or "") as caught:
      _imported(case, out)
    assert case in str(caught.value)
    assert not out.exists()
    return
  _imported(case, out)  # says why it cannot be, if so
  wanted = np.load(expected)["logits"]
  found, moved = _logits()[case]
  apart, largest = np.abs(found - wanted).max(), max(1, np.abs(wanted).max())
  # Where the weights' neighbours move them farther, float32 is at its end, and peft's
  # own logits are as far from those of more bits.
  assert apart <= max(5e-5 * largest, 2 * moved)

  export.export(out, "peft", tmp_path / "again", verified=False)
  again = tmp_path / "again"
  assert json.loads((again / "adapter_config.json").read_text()) == facts
  tensors = {
    _plain(name): tensor
    for name, tensor in safetensors.load_file(
      folder / "adapter_model.safetensors"
    ).items()
  }
  kept = safetensors.load_file(again / "adapter_model.safetensors")
  assert kept.keys() == tensors.keys()
  for name, tensor in tensors.items():
    assert kept[name].dtype == tensor.dtype
    assert kept[name].tobytes() == tensor.tobytes(), name
