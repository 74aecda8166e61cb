"""Rank classification: choices scored from one encoder pass."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import adapters
from hyperjax.batch import assemble
from hyperjax.data.store import store
from hyperjax.evaluation import questions
from hyperjax.evaluation.few_shot import Evaluator, FewShotEvaluation
from hyperjax.evaluation.rank import Rank
from hyperjax.models import t5
from hyperjax.scores import columns, results
from hyperjax.scores.ranking import Ranking
from hyperjax.tasks import records
from tests import testing
from tests.data import rows

VOCABULARY = records.vocabulary()
CONFIG = dataclasses.replace(testing.CONFIG, vocab_size=96)
LENGTHS = {"demonstrations": 24, "inputs": 6, "targets": 6}
# Two, three, four and one choice; one of several words; one that comes twice.
CHOICES = [
  ["red", "green"],
  ["paris", "rome and oslo", "vienna"],
  ["one", "two", "one", "three four five"],
  ["alice"],
]


def _row(text, target, choices):
  ids = {
    name: [*VOCABULARY.encode(value), VOCABULARY.eos_id]
    for name, value in (("inputs", text), ("targets", target))
  }
  return ids | {"record": {"references": [target], "choices": choices}}


def _task(name, shift, choices=CHOICES):
  words = records.VALUES["name"]
  rows = [
    _row(f"{words[shift + i]} red", own[-1], own)
    for i, own in enumerate(choices)
  ]
  held = store.in_memory(rows, ("inputs", "targets"))
  return store.Task(name, "test", held, vocabulary=VOCABULARY)


TARGETS = rows.Tasks((_task("a", 0), _task("b", 4)))
POOL = rows.Tasks((_task("a", 8), _task("b", 12)))


def _evaluation(decoder, **changes):
  options = {
    "name": "ranked",
    "targets": TARGETS,
    "demonstrations": POOL,
    "feature_lengths": LENGTHS,
    "instruction_readers": (),
    "num_demonstrations": 2,
    "rows_per_context": 3,
    "contexts_per_batch": 4,
    "metrics": ("equal",),
    "decoder": decoder,
  }
  return FewShotEvaluation(**(options | changes))


@pytest.fixture(scope="module")
def model():
  spec = adapters.PrefixSpec(3, key_stddev=4.0)
  of_trainer = testing.make_trainer(testing.hypertuning(spec, CONFIG))
  return of_trainer, of_trainer.init(0)


@jax.jit
def _logits(params, inputs, targets, written):
  return t5.T5(CONFIG).apply({"params": params}, inputs, targets, written)


def _brute_force(problem, state, evaluator, answer, control):
  """Log-likelihood of each choice, by a forward pass of its own."""
  asked = evaluator._questions
  task = ["a", "b"].index(answer.task)
  unit = questions.Unit(task, 1 - task, 0, np.asarray([answer.row]))
  context = asked.context(unit, control)
  context = dataclasses.replace(
    context, inputs=context.inputs[:1], targets=context.targets[:1]
  )
  batch = assemble([context], asked.lengths)
  written = t5.NO_ADAPTERS
  if control != columns.NONE:
    written = jax.jit(problem.write)(state.params, batch.demonstrations)
  sums = []
  for choice in answer.choices:
    ids = [*VOCABULARY.encode(choice), VOCABULARY.eos_id]
    logits = _logits(
      state.frozen["backbone"],
      batch.encoder_input_tokens,
      jnp.asarray([[0, *ids[:-1]]]),
      written,
    )
    log_p = jax.nn.log_softmax(logits[0])
    sums.append(float(sum(log_p[i, token] for i, token in enumerate(ids))))
  return sums


@pytest.mark.parametrize(
  "per_token", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_rankings_are_those_of_separate_forward_passes(model, per_token):
  of_trainer, state = model
  decoder = Rank(per_token)
  evaluator = Evaluator(
    _evaluation(decoder), of_trainer.problem, of_trainer.layout
  )
  answers = evaluator.run(state.params, state.frozen)
  assert [(x.task, x.row) for x in answers] == [
    (name, row) for name in "ab" for row in range(4)
  ]
  for answer in answers:
    assert answer.choices == CHOICES[answer.row]
    for control in ("right", "none", "other"):
      wanted = _brute_force(
        of_trainer.problem, state, evaluator, answer, control
      )
      ranking = answer.rankings[control]
      np.testing.assert_allclose(
        ranking["log_likelihoods"], wanted, rtol=1e-4, atol=1e-4
      )
      lengths = [len(choice.split()) + 1 for choice in answer.choices or []]
      assert ranking["num_tokens"] == lengths
      scores = np.asarray(wanted)
      if per_token:
        scores = scores / lengths
      best = answer.choices[int(scores.argmax())]
      assert answer.predictions[control] == best
  # The controls are not the same to this model.
  assert any(
    answer.rankings["right"] != answer.rankings["none"] for answer in answers
  )


def test_of_equal_choices_the_first_is_taken():
  ranking = Ranking([-2.0, -1.0, -1.0], [2, 1, 1])
  assert ranking.best(per_token=False) == 1
  assert ranking.best(per_token=True) == 0  # all have -1 per token


def test_choices_are_compared_as_texts():
  """They may repeat, and the right answer need not be among them."""

  def answer(references):
    return results.Answer(
      task="a",
      row=0,
      draw=0,
      input="",
      target=references[0],
      references=references,
      demonstrations=[],
      choices=["y", " x", "x"],
      rankings={
        "right": {"log_likelihoods": [-2.0, -1.0, -1.0], "num_tokens": [1] * 3}
      },
    )

  for references, right in ((["x"], 1.0), (["y"], 0.0), (["z"], 0.0)):
    found = results.rank_accuracy([answer(references)])
    assert found["right"] == {"by_sum": right, "per_token": right}


def test_sums_are_compared_unless_means_are_asked_for():
  """As T0 does; MetaICL's evaluation asks for means."""
  assert Rank().per_token is False and Rank().free_form is None


def test_length_decides_between_sum_and_mean():
  ranking = Ranking([-3.0, -4.0], [1, 4])
  assert ranking.best(per_token=False) == 0
  assert ranking.best(per_token=True) == 1


def test_a_row_without_choices_or_with_one_too_long_is_refused(model):
  of_trainer, state = model
  for choices, message in (
    ([], r"ranked.*b, row 1: it has no choices to rank"),
    (["red"] * 6, None),
    ([" ".join(["red"] * 6)], r"row 1: a choice has 7 tokens, .*targets'\] is"),
  ):
    odd = _task("b", 4, [["red"], choices or [""]])
    if not choices:
      held = odd.rows
      odd = dataclasses.replace(
        odd,
        rows=dataclasses.replace(held, records=[held.records[0], b"{}"]),
      )
    evaluation = _evaluation(
      Rank(), targets=rows.Tasks((_task("a", 0), odd)), max_tasks=None
    )
    evaluator = Evaluator(evaluation, of_trainer.problem, of_trainer.layout)
    if message is None:
      assert len(evaluator.run(state.params, state.frozen)) == 6
      continue
    with pytest.raises(ValueError, match=message):
      evaluator.run(state.params, state.frozen)


def test_accuracy_is_reported_by_sum_and_by_mean():
  def answer(row, sums, tokens, right):
    return results.Answer(
      task="a",
      row=row,
      draw=0,
      input="",
      target=right,
      references=[right],
      demonstrations=[],
      predictions={"right": "x"},
      choices=["x", "y"],
      rankings={"right": {"log_likelihoods": sums, "num_tokens": tokens}},
    )

  found = results.rank_accuracy(
    [
      answer(0, [-3.0, -4.0], [1, 4], "x"),  # right by sum alone
      answer(1, [-3.0, -4.0], [1, 4], "y"),  # right by mean alone
      answer(2, [-1.0, -4.0], [1, 1], "x"),  # by both
    ]
  )
  assert found == {"right": {"by_sum": 2 / 3, "per_token": 2 / 3}}
