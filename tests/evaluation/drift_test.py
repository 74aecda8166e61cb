"""How far adapters move the T5 on other text, as an evaluation tells it."""

import jax
import numpy as np
import pytest

from hyperjax.batch import pad
from hyperjax.data import sources
from hyperjax.evaluation.few_shot import Evaluator
from hyperjax.models import t5
from tests import testing
from tests.data import rows
from tests.evaluation import relabelled_test


def test_the_drift_of_adapters_that_nobody_asks_for_is_refused():
  text = rows.Tasks((rows.task("text", [([5], [6])]),))
  unrelated = sources.TextPairs(text, {"inputs": 4, "targets": 4})
  with pytest.raises(ValueError, match=r"controls must name; got .'none'"):
    relabelled_test._evaluation(controls=("none",), unrelated=unrelated)


@pytest.mark.slow
def test_the_drift_of_an_answer_is_that_of_the_adapter_it_was_given_with():
  """A mean over the tokens of all windows, which are of different lengths."""
  problem = relabelled_test.PROBLEM
  trainer = testing.make_trainer(problem)
  state = trainer.init(0)
  pairs = [([5 + i], [6 + i, 7 + i][: 1 + i % 2]) for i in range(9)]
  text = rows.Tasks((rows.task("text", pairs),))
  unrelated = sources.TextPairs(text, {"inputs": 4, "targets": 4})
  evaluation = relabelled_test._evaluation(
    controls=("right",),
    instruction_readers=(),
    unrelated=unrelated,
    num_unrelated=7,
    contexts_per_batch=3,
  )
  evaluator = Evaluator(evaluation, problem, trainer.layout)
  answers = evaluator.run(state.params, state.frozen)
  found = {(x.task, x.row): x.drift for x in answers}

  source, asked = unrelated.open(0), evaluator._questions
  inputs = pad([source[i].inputs[0] for i in range(7)], 4)
  targets = pad([source[i].targets[0] for i in range(7)], 4)
  begun = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
  backbone = {"params": state.frozen["backbone"]}

  @jax.jit
  def log_probabilities(written):
    logits = t5.T5(problem.backbone).apply(backbone, inputs, begun, written)
    return jax.nn.log_softmax(logits)

  write = jax.jit(problem.write)
  plain = np.asarray(log_probabilities(t5.NO_ADAPTERS), np.float64)
  is_token = targets > 0
  for unit in asked.units:
    written = write(state.params, pad([asked.shown(unit, "right")], 40))
    own = np.asarray(log_probabilities(written), np.float64)
    each = (np.exp(plain) * (plain - own)).sum(-1)
    mean = (each * is_token).sum() / is_token.sum()
    assert mean > 1e-3
    for row in unit.rows.tolist():
      drift = found[asked.tasks[unit.task].name, row]
      assert drift == pytest.approx(mean, rel=1e-4)
