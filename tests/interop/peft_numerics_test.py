"""LoRA that peft wrote: the logits peft computes, and the folder written again."""

import json
import re

import jax
import numpy as np
import pytest
import safetensors.numpy

from hyperjax import adapters
from hyperjax.interop import hf, peft, weights
from hyperjax.models import decoding, t5
from tests import conftest, testing

FOLDER = conftest.MODELS / "t5_family" / "peft"
PROJECTIONS = {"q": "query", "k": "key", "v": "value", "o": "out"}
NAMES = [pytest.param("lora_qv", marks=pytest.mark.slow), "lora_all_linear"]


@pytest.fixture(scope="module")
def base():
  """A T5 whose decoder is deeper than its encoder, and what it computes."""
  source = hf.open_folder(FOLDER / "base")
  params = weights.load(source, source.config).params
  return source.config, params, dict(np.load(FOLDER / "base" / "expected.npz"))


def _assert_close(found, wanted):
  """Torch itself differs by half of this from one machine to another."""
  np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def _logits(base, written):
  config, params, expected = base
  tokens = expected["encoder_input_tokens"], expected["decoder_input_tokens"]
  run = testing.optimized(t5.T5(config).apply)
  return run({"params": params}, *tokens, written)


def _arrays(folder):
  return safetensors.numpy.load_file(folder / peft.ARRAYS)


def _lora(config, name):
  """peft's LoRA as our tree, whose `up` has the scale inside."""
  facts = json.loads((FOLDER / name / peft.CONFIG).read_text())
  scale = {"A": 1.0, "B": facts["lora_alpha"] / facts["r"]}
  modules = facts["target_modules"]
  spec = adapters.LoraSpec(
    facts["r"], projections=tuple(PROJECTIONS.get(x, x) for x in modules)
  )
  arrays = _arrays(FOLDER / name)
  hf_names = hf.array_names(config, "shared.weight")

  def fill(path, leaf):
    stack, *site, part = (step.name for step in path)
    matrix = {"down": "A", "up": "B"}[part]
    layers = []
    for i in range(len(leaf)):
      kernel = "/".join((stack, f"layers_{i}", *site, "kernel"))
      module = hf_names[kernel].removesuffix(".weight")
      array = arrays.pop(f"base_model.model.{module}.lora_{matrix}.weight")
      layers.append(scale[matrix] * array.T[None])
    return np.stack(layers)

  leaves = jax.tree.map(lambda x: np.zeros(x.shape), spec.abstract(config))
  written = jax.tree_util.tree_map_with_path(fill, leaves)
  assert not arrays
  return written


def test_the_t5_alone_computes_and_decodes_as_in_transformers(base):
  config, params, expected = base
  _assert_close(_logits(base, t5.NO_ADAPTERS), expected["logits"])
  decode = jax.jit(
    lambda params, inputs: decoding.generate(t5.T5(config), params, inputs, 10)
  )
  found = decode(params, expected["encoder_input_tokens"])
  np.testing.assert_array_equal(found.tokens, expected["greedy_10"][:, 1:])


@pytest.mark.parametrize("name", NAMES)
def test_a_t5_with_pefts_lora_computes_as_in_peft(base, name):
  wanted = np.load(FOLDER / name / "expected.npz")["logits"]
  assert np.abs(wanted - base[2]["logits"]).max() > 1
  _assert_close(_logits(base, _lora(base[0], name)), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_pefts_lora_written_again_is_the_same(base, tmp_path, name):
  """The same modules, each with the same product of its two matrices."""
  peft.write_folder(tmp_path, _lora(base[0], name), base[0], None)
  facts = [
    json.loads((folder / peft.CONFIG).read_text())
    for folder in (FOLDER / name, tmp_path)
  ]
  before, after = _arrays(FOLDER / name), _arrays(tmp_path)
  assert before.keys() == after.keys()
  scales = [own["lora_alpha"] / own["r"] for own in facts]
  for path in (x for x in before if ".lora_A." in x):
    module = re.fullmatch(r"base_model\.model\.(.*)\.lora_A\.weight", path)
    assert re.fullmatch(facts[1]["target_modules"], module[1])
    wanted, found = (
      scale * own[path.replace("lora_A", "lora_B")] @ own[path]
      for scale, own in zip(scales, (before, after), strict=True)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
