"""What is no number is answered to nobody: the row is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import adapters, sharding
from hyperjax.models import decoding, forward
from hyperjax.serving import broken_rows
from hyperjax.serving.predictor import Predictor
from tests import testing

TOKENS = np.arange(1, 13, dtype=np.int32).reshape(4, 3)
TARGETS = np.arange(1, 9, dtype=np.int32).reshape(4, 2)


@pytest.fixture(scope="module")
def predictor():
  layout = sharding.MeshSpec().build(jax.devices()[:1])
  return Predictor(testing.CONFIG, layout, 40)


def _setting(broken_row=None, params_are_broken=False):
  """Rows with an adapter each, one of which holds what is no number."""
  params = testing.t5_params(testing.CONFIG)
  if params_are_broken:
    kernel = params["decoder"]["logits_dense"]["kernel"]
    params["decoder"]["logits_dense"]["kernel"] = kernel.at[3, 5].set(jnp.nan)
  abstract = testing.SPECS["lora"].abstract(testing.CONFIG)
  one = testing.draw(abstract)
  broken = jax.tree.map(lambda x: x * np.nan, one)
  rows = [broken if row == broken_row else one for row in range(4)]
  return forward.Setting(params, TOKENS, adapters.stack(rows))


@pytest.mark.parametrize(
  "decoder",
  [decoding.Greedy, decoding.Sampling(0.7, top_k=3), decoding.Beam(2)],
  ids=str,
)
def test_a_row_without_numbers_has_no_answer(predictor, decoder):
  key_data = jax.random.key_data(jax.random.key(0))
  found = predictor.decode(_setting(), 3, decoder, key_data)
  assert found.shape == (4, 3)
  with pytest.raises(
    broken_rows.NotFinite,
    match=r"^decoding: the log-probabilities of row 2 of 4 \(counted from 0\)",
  ):
    predictor.decode(_setting(2), 3, decoder, key_data)


def test_a_row_without_numbers_has_no_score(predictor):
  with pytest.raises(broken_rows.NotFinite) as refused:
    predictor.log_likelihood(_setting(1), TARGETS)
  assert refused.value.rows == [1]
  # Of several choices of a row, and of those that it lacks.
  choices = [[[4, 1], [5, 1]], [[6, 1], [7, 1]], [[4, 1]], [[9, 1], [8, 1]]]
  assert [len(own) for own in predictor.score(_setting(), choices)] == [
    2,
    2,
    1,
    2,
  ]
  with pytest.raises(broken_rows.NotFinite) as refused:
    predictor.score(_setting(2), choices)
  assert refused.value.rows == [2]


def test_a_t5_with_one_broken_weight_answers_nothing(predictor):
  setting = _setting(params_are_broken=True)
  for answer in (
    lambda: predictor.decode(setting, 3),
    lambda: predictor.log_likelihood(setting, TARGETS),
  ):
    with pytest.raises(broken_rows.NotFinite) as refused:
      answer()
    assert refused.value.rows == [0, 1, 2, 3]


def test_rows_that_have_names_are_told_by_them():
  error = broken_rows.NotFinite("scoring", [1, 3], 4)
  assert str(error.of(["line 7", "line 9"])).startswith(
    "scoring: the log-probabilities of line 9 are not finite: its logits"
  )
  assert error.of(["line 7"]) is error  # only what fills the batch up is broken
