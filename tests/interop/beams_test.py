"""Beam search finds what transformers' finds, under every setting."""

import collections
import functools
import json

import jax
import numpy as np
import pytest

from hyperjax.interop import hf, weights
from hyperjax.models import decoding, t5
from tests import conftest

FOLDER = conftest.MODELS / "t5_beams"


@functools.cache
def _models():
  """Four T5 of one shape by their names, and that shape."""
  sources = {name: hf.open_folder(FOLDER / name) for name in "0123"}
  (config,) = {source.config for source in sources.values()}
  loaded = {k: weights.load(x, config).params for k, x in sources.items()}
  return config, loaded


@functools.cache
def _lines():
  """Of `expected.jsonl`, by what is compiled into a program."""
  lines = map(json.loads, (FOLDER / "expected.jsonl").read_text().splitlines())
  found = collections.defaultdict(list)
  for line in lines:
    found[line["num_beams"], line["early_stopping"]].append(line)
  assert sum(map(len, found.values())) == 120
  return found


@pytest.mark.parametrize("is_early", [True, False], ids=["early", "late"])
@pytest.mark.parametrize("num_beams", [2, 3, 4])
def test_sequences_and_scores_are_those_of_transformers(num_beams, is_early):
  """160 rows in each case: four T5, five length penalties, eight inputs."""
  config, loaded = _models()

  @jax.jit
  def run(params, inputs, length_penalty):
    decoder = decoding.Beam(num_beams, early_stopping=is_early)
    # Traced, so that one program is for all of them: no number to be checked yet.
    object.__setattr__(decoder, "length_penalty", length_penalty)
    return decoding.generate(t5.T5(config), params, inputs, 10, decoder)

  num_rows = 0
  for line in _lines()[num_beams, is_early]:
    inputs = np.array(line["input_ids"], np.int32)
    found = run(loaded[line["model"]], inputs, line["length_penalty"])
    case = f"model {line['model']}, penalty {line['length_penalty']}"
    wanted = np.array(line["sequences"])
    # transformers goes on with end tokens, we with padding.
    has_ended = np.cumsum(wanted == 1, axis=1) > 1
    wanted[has_ended] = 0
    np.testing.assert_array_equal(found.tokens, wanted, case)
    np.testing.assert_allclose(
      found.scores, line["sequences_scores"], 1e-4, 1e-4, err_msg=case
    )
    num_rows += len(wanted)
  assert num_rows == 160
