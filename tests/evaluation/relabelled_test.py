"""The controls of an evaluation under which labels are replaced."""

import dataclasses
import operator

import jax
import numpy as np
import pytest

from hyperjax import adapters
from hyperjax.batch import assemble, pad
from hyperjax.evaluation import questions, target_loss
from hyperjax.evaluation.few_shot import Evaluator, FewShotEvaluation
from hyperjax.models import decoding, problems, t5
from hyperjax.scores import columns, results
from tests import testing
from tests.data import rows

LENGTHS = {"demonstrations": 40, "inputs": 6, "targets": 5}
# Row i of a task has input [first + i] and one of its labels, in turn.
LABELS = {"pair": [(3,), (4,)], "three": [(5, 9), (6, 9), (7, 9)]}


def _tasks(first, count):
  labelled = [
    rows.task(name, [([first + i], own[i % len(own)]) for i in range(count)])
    for name, own in LABELS.items()
  ]
  free = rows.task("free", [([first + i], [first + i]) for i in range(count)])
  told = np.asarray([8], np.int32)
  found = [dataclasses.replace(x, instruction=told) for x in labelled]
  return rows.Tasks((*found, free))


def _evaluation(**changes):
  options = {
    "name": "few",
    "targets": _tasks(10, 12),
    "demonstrations": _tasks(22, 16),
    "feature_lengths": LENGTHS,
    "instruction_readers": ("hypermodel", "backbone"),
    "num_demonstrations": 5,
    "rows_per_context": 5,
    "contexts_per_batch": 4,
    "metrics": ("equal",),
    "controls": (
      "right",
      "relabelled",
      "relabelled_wrong",
      "relabelled_constant",
    ),
  }
  return FewShotEvaluation(**(options | changes))


PROBLEM = testing.hypertuning(adapters.PrefixSpec(3, key_stddev=4.0))


def _texts(asked, unit, control):
  """The label of each demonstration, and the output that is shown; targets' too."""
  name, context = asked.tasks[unit.task].name, asked.context(unit, control)
  ids, own = context.demonstrations, LABELS[name]
  ends = np.flatnonzero(ids == rows.EOS) + 1
  texts = [tuple(x[:-1].tolist()) for x in np.split(ids, ends)[:-1]]
  shown = [
    (own[(value - 22) % len(own)], output)
    for (value,), output in zip(texts[::2], texts[1::2], strict=True)
  ]
  right = [
    (own[(inputs[0] - 10) % len(own)], tuple(ids[:-1].tolist()))
    for inputs, ids in zip(context.inputs, context.targets, strict=True)
  ]
  return shown, right


def _labelled(asked):
  return [x for x in asked.units if asked.tasks[x.task].name in LABELS]


@pytest.mark.parametrize("seed", range(4))
def test_right_answers_have_the_labels_that_demonstrations_show(seed):
  asked = questions.Questions(_evaluation(seed=seed, draws=3), PROBLEM)
  replaced = [x for x in _labelled(asked) if len(asked.rows(x, "relabelled"))]
  assert len(replaced) > 3
  for unit in replaced:
    shown, right = _texts(asked, unit, columns.RELABELLED)
    assert set(right) <= set(shown)  # only what is shown is asked
    assert len(set(shown)) == len(dict(shown))  # a label has one output
    assert all(old != new for old, new in shown)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_demonstrations", (2, 5))
def test_wrong_labels_are_the_same_outputs_as_often(seed, num_demonstrations):
  """Of two demonstrations and three labels a task shows fewer than it has."""
  asked = questions.Questions(
    _evaluation(seed=seed, draws=6, num_demonstrations=num_demonstrations),
    PROBLEM,
  )
  found = 0
  for unit in _labelled(asked):
    if not len(asked.rows(unit, columns.RELABELLED)):
      continue
    shown, right = _texts(asked, unit, columns.RELABELLED)
    wrong, same = _texts(asked, unit, columns.RELABELLED_WRONG)
    assert same == right
    labels, outputs = zip(*shown, strict=True)
    again, others = zip(*wrong, strict=True)
    assert again == labels and sorted(others) == sorted(outputs)
    most = max(map(labels.count, labels))
    kept = sum(map(operator.eq, outputs, others))
    assert kept == max(0, 2 * most - len(labels))  # no fewer are possible
    found += 1
  assert found > 6


def test_where_demonstrations_show_one_label_none_is_replaced():
  asked = questions.Questions(
    _evaluation(draws=12, num_demonstrations=2), PROBLEM
  )
  seen = set()
  for unit in _labelled(asked):
    pool = asked._pools[unit.draw][unit.task].rows
    own = asked.demonstrations["right", unit.task, unit.draw]
    labels = {tuple(pool.row(row, "targets")) for row in own.tolist()}
    is_replaced = (unit.task, unit.draw) in asked._relabelled
    assert is_replaced == (len(labels) > 1)
    seen.add(is_replaced)
  assert seen == {True, False}


def test_no_instruction_is_read_with_other_labels():
  asked = questions.Questions(_evaluation(), PROBLEM)
  for unit in _labelled(asked):
    for control, is_read in (("right", True), ("relabelled", False)):
      context = asked.context(unit, control)
      assert (8 in context.demonstrations) == is_read
      assert all((8 in ids) == is_read for ids in context.inputs)


def test_tasks_without_labels_are_not_answered_with_others():
  asked = questions.Questions(_evaluation(), PROBLEM)
  for unit in asked.units:
    has_labels = asked.tasks[unit.task].name in LABELS
    assert bool(len(asked.rows(unit, "relabelled"))) == has_labels
    assert len(asked.rows(unit, "right")) == len(unit.rows)


def test_where_no_task_has_labels_nothing_is_asked_of_them(caplog):
  free = rows.Tasks((_tasks(10, 12).tasks[2],))
  pool = rows.Tasks((_tasks(22, 16).tasks[2],))
  asked = questions.Questions(
    _evaluation(targets=free, demonstrations=pool, instruction_readers=()),
    PROBLEM,
  )
  assert asked.controls == ["right"]
  assert "no task whose labels can be replaced" in caplog.text


def test_other_labels_make_another_evaluation():
  one, other, same = (
    questions.Questions(_evaluation(relabel_with=kinds), PROBLEM).digest()
    for kinds in (("permuted",), ("symbols",), ("permuted",))
  )
  assert one == same != other


def test_a_model_that_reads_nothing_is_right_by_other_labels_too():
  shared = problems.AdapterFineTuning(testing.CONFIG, testing.SPECS["prefix"])
  asked = questions.Questions(_evaluation(), shared)
  assert asked.controls == ["right", "relabelled"]


@pytest.fixture(scope="module")
def answered():
  """By any hypermodel whose adapters matter, with the losses of targets."""
  trainer = testing.make_trainer(PROBLEM)
  state = trainer.init(0)
  evaluator = Evaluator(_evaluation(), PROBLEM, trainer.layout)
  given = state.params, state.frozen
  return state, evaluator, evaluator.run(*given), given


@pytest.mark.slow
def test_answers_are_those_of_the_model_one_by_one(answered):
  state, evaluator, answers, _ = answered
  asked, found = evaluator._questions, 0
  write = jax.jit(PROBLEM.write)
  plain = jax.jit(
    lambda tokens, written: (
      decoding.generate(
        t5.T5(PROBLEM.backbone),
        state.frozen["backbone"],
        tokens,
        LENGTHS["targets"],
        decoding.Greedy,
        adapters=written,
      ).tokens
    )
  )
  names = [task.name for task in asked.tasks]
  units = {x.task: x for x in _labelled(asked)}.values()
  each = [
    write(state.params, pad([asked.shown(unit, "relabelled")], 40))
    for unit in units
  ]
  mean = jax.tree.map(lambda *leaves: sum(leaves) / len(LABELS), *each)
  for answer in answers[::5]:
    if answer.task not in LABELS:
      assert answer.predictions.keys() == {"right"}
      continue
    for control in (
      "relabelled",
      "relabelled_wrong",
      "relabelled_constant",
    ):
      unit = questions.Unit(
        names.index(answer.task), 0, 0, np.asarray([answer.row])
      )
      context = asked.context(unit, control)
      batch = assemble([context], asked.lengths)
      written = write(state.params, batch.demonstrations)
      if control == "relabelled_constant":
        written = mean
      ids = plain(pad(context.inputs, LENGTHS["inputs"]), written)[0]
      text = " ".join(str(i) for i in np.asarray(ids) if i)
      assert text == answer.predictions[control]
      target = " ".join(map(str, context.targets[0].tolist()))
      assert answer.relabelled == target
      found += 1
  assert found >= 9


def test_losses_are_held_against_the_right_ones_of_the_same_labels():
  """Only two of three tasks have labels."""
  means = {
    "right": {"pair": 1.0, "three": 2.0, "free": 3.0},
    "relabelled": {"pair": 4.0, "three": 5.0},
    "relabelled_wrong": {"pair": 6.0, "three": 8.0},
  }
  found = target_loss.describe(means)
  gains = {x: own["higher_than_right"]["mean"] for x, own in found.items()}
  assert gains == {"right": 0, "relabelled": 0, "relabelled_wrong": 2.5}
  assert found["relabelled"]["loss"]["mean"] == 4.5


def _answer(task, row, **predictions):
  return results.Answer(
    task=task,
    row=row,
    draw=0,
    input="in",
    target="yes",
    references=["yes"],
    demonstrations=[],
    relabelled="blue",
    predictions=predictions,
  )


def test_answers_are_right_by_the_labels_that_were_shown():
  """And what the right ones gain is over those by the same labels."""
  answers = [
    _answer("a", 0, right="yes", relabelled="blue", relabelled_wrong="red"),
    _answer("b", 0, right="blue", relabelled="blue", relabelled_wrong="blue"),
    _answer("c", 0, right="yes", relabelled="yes", relabelled_wrong="yes"),
  ]
  found = results.scored(answers, ["equal"])
  means = results.summarize(found)
  assert {x: own["equal"] for x, own in means.items()} == {
    "right": pytest.approx(2 / 3),
    "relabelled": pytest.approx(2 / 3),
    "relabelled_wrong": pytest.approx(1 / 3),
  }
  gains = results.with_intervals(found)["gains"]
  assert gains.keys() == {"relabelled_wrong"}
  assert gains["relabelled_wrong"]["equal"]["mean"] == pytest.approx(1 / 3)


def test_a_ranked_choice_is_right_in_the_words_of_the_task():
  answer = _answer("a", 0, relabelled="yes", relabelled_wrong="no")
  answer.rankings = {"relabelled": {}, "relabelled_wrong": {}}
  found = results.scored([answer], ["equal"])
  assert [one.values["equal"] for one in found] == [1, 0]
