"""Evaluation from demonstrations, and its controls."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from hyperjax import adapters, optimizers
from hyperjax.batch import Lengths, assemble, pad
from hyperjax.data.store import store
from hyperjax.evaluation import answering, questions
from hyperjax.evaluation.few_shot import Evaluator, FewShotEvaluation
from hyperjax.models import decoding, problems, t5
from hyperjax.scores import columns, results
from hyperjax.train_state import TrainState
from hyperjax.trainer import Trainer
from tests import testing
from tests.data import rows

LENGTHS = {"demonstrations": 20, "inputs": 4, "targets": 5}
NUM_TASKS, NUM_ROWS = 5, 12


def _pairs(task, count):
  """Rows whose inputs all tasks share; task t answers with id 3 + t."""
  return [([20 + i], [3 + task, 3 + task]) for i in range(count)]


TARGETS = rows.Tasks(
  tuple(rows.task(f"task{i}", _pairs(i, NUM_ROWS)) for i in range(NUM_TASKS))
)
# The pool of demonstrations repeats the targets' inputs and has six more.
POOL = rows.Tasks(
  tuple(rows.task(f"task{i}", _pairs(i, 18)) for i in range(NUM_TASKS))
)


def _evaluation(**changes):
  options = {
    "name": "few",
    "targets": TARGETS,
    "demonstrations": POOL,
    "feature_lengths": LENGTHS,
    "instruction_readers": (),
    "num_demonstrations": 3,
    "rows_per_context": 5,
    "contexts_per_batch": 4,
    "metrics": ("equal",),
  }
  return FewShotEvaluation(**(options | changes))


@pytest.fixture(scope="module")
def trained():
  """Any hypermodel whose adapters matter."""
  problem = testing.hypertuning(adapters.PrefixSpec(3, key_stddev=4.0))
  of_trainer = Trainer(
    problem,
    optimizers.AdamW(optimizers.Constant(0.0)),
    testing.make_trainer(problem).layout,
  )
  return of_trainer, of_trainer.init(0)


@pytest.fixture(scope="module")
def answers(trained):
  of_trainer, state = trained
  evaluator = Evaluator(_evaluation(), of_trainer.problem, of_trainer.layout)
  return evaluator.run(state.params, state.frozen)


def test_every_target_is_answered_once_under_every_control(answers):
  found = [(answer.task, answer.row) for answer in answers]
  assert found == [
    (f"task{t}", row) for t in range(NUM_TASKS) for row in range(NUM_ROWS)
  ]
  for answer in answers:
    assert answer.predictions.keys() == set(answering.ORDINARY)


def test_demonstrations_are_of_the_task_and_never_a_target(answers):
  for answer in answers:
    inputs = [shown for shown, _ in answer.demonstrations]
    assert len(inputs) == 3
    # Ids 20..31 are asked; only the pool's six further rows remain.
    assert {int(text.split()[0]) for text in inputs} <= set(range(32, 38))
    own = 3 + int(answer.task.removeprefix("task"))
    for _, output in answer.demonstrations:
      assert output == f"{own} {own} 1"


def test_the_other_task_is_another_one_and_each_is_lent_once(answers):
  lent = {answer.task: answer.other_task for answer in answers}
  assert all(task != other for task, other in lent.items())
  assert sorted(lent.values()) == sorted(lent)
  for answer in answers:
    other = 3 + int(answer.other_task.removeprefix("task"))
    assert answer.other_references == [f"{other} {other} 1"]


def test_predictions_are_those_of_the_models_one_by_one(trained, answers):
  """With each control's adapters, decoded alone without the evaluator."""
  of_trainer, state = trained
  problem = of_trainer.problem
  evaluation = _evaluation()
  evaluator = Evaluator(evaluation, problem, of_trainer.layout)
  lengths = Lengths.from_features(LENGTHS)
  write = jax.jit(problem.write)
  plain = jax.jit(
    lambda tokens, written: (
      decoding.generate(
        t5.T5(problem.backbone),
        state.frozen["backbone"],
        tokens,
        LENGTHS["targets"],
        decoding.Greedy,
        adapters=written,
      ).tokens
    )
  )
  # The mean over tasks of what is written for each, by hand.
  written = [
    write(
      state.params,
      pad([evaluator._questions.context(unit, "right").demonstrations], 20),
    )
    for unit in {x.task: x for x in evaluator._questions.units}.values()
  ]
  assert len(written) == NUM_TASKS
  constant = jax.tree.map(lambda *leaves: sum(leaves) / NUM_TASKS, *written)
  differ = 0
  for answer in answers[:: len(answers) // 6]:
    task = int(answer.task.removeprefix("task"))
    unit = questions.Unit(
      task,
      int(answer.other_task.removeprefix("task")),
      0,
      np.asarray([answer.row]),
    )
    for control in answering.ORDINARY:
      context = evaluator._questions.context(unit, control)
      context = dataclasses.replace(
        context, inputs=context.inputs[:1], targets=context.targets[:1]
      )
      batch = assemble([context], lengths)
      if control == columns.CONSTANT:
        ids = plain(batch.encoder_input_tokens, constant)[0]
      elif control == columns.IN_INPUT:
        read = np.concatenate([context.demonstrations, context.inputs[0]])
        ids = plain(pad([read], 24), t5.NO_ADAPTERS)[0]
      else:
        own = t5.NO_ADAPTERS
        if control != columns.NONE:
          own = write(state.params, batch.demonstrations)
        ids = plain(batch.encoder_input_tokens, own)[0]
      text = " ".join(map(str, np.trim_zeros(np.asarray(ids), "b")))
      assert text == answer.predictions[control], (answer.task, control)
    differ += len(set(answer.predictions.values())) >= 3
  assert differ  # the controls are not all the same to this model


def test_the_constant_adapter_is_the_mean_over_all_tasks_and_draws(trained):
  """Batches of four, four and two contexts; and of three, filled up to four."""
  of_trainer, state = trained
  problem, frozen = of_trainer.problem, state.frozen
  write = jax.jit(problem.write)
  for changes in ({"draws": 2}, {"max_tasks": 3}):
    evaluator = Evaluator(
      _evaluation(controls=("constant",), **changes), problem, of_trainer.layout
    )
    asked = evaluator._questions
    contexts = {(x.task, x.draw): x for x in asked.units}.values()
    written = [
      write(
        state.params, pad([asked.context(unit, "right").demonstrations], 20)
      )
      for unit in contexts
    ]
    assert len(written) in (10, 3)
    own = evaluator._groups._by_control(state.params, frozen)["constant"]
    jax.tree.map(
      lambda found, *leaves: np.testing.assert_allclose(
        found, np.mean(leaves, axis=0), rtol=1e-4, atol=1e-5
      ),
      own.write(None),
      *written,
    )


def test_losses_are_means_over_all_target_tokens_of_a_task(trained):
  """Of twelve rows in contexts of five, five and two; by the T5 alone."""
  of_trainer, state = trained
  some = rows.Tasks(
    tuple(
      rows.task(
        f"task{t}", [([20 + i], [3 + t] * (1 + i % 3)) for i in range(12)]
      )
      for t in range(3)
    )
  )
  evaluation = _evaluation(targets=some, controls=("right", "none"))
  evaluator = Evaluator(evaluation, of_trainer.problem, of_trainer.layout)
  found = evaluator.target_losses(state.params, state.frozen)
  assert found.keys() == {"right", "none"}
  inputs = pad([[20 + i, 1] for i in range(12)] * 3, 4)
  targets = pad(
    [[3 + t] * (1 + i % 3) + [1] for t in range(3) for i in range(12)], 5
  )
  logits = jax.jit(t5.T5(testing.CONFIG).apply)(
    {"params": state.frozen["backbone"]},
    inputs,
    np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
  )
  log_probs = np.asarray(jax.nn.log_softmax(logits), np.float64)
  losses = -np.take_along_axis(log_probs, targets[..., None], 2)[..., 0]
  losses = np.where(targets > 0, losses, 0).reshape(3, -1).sum(1)
  wanted = losses / (targets > 0).reshape(3, -1).sum(1)
  for task in range(3):
    assert found["none"][f"task{task}"] == pytest.approx(wanted[task], rel=1e-4)
    assert found["right"][f"task{task}"] != found["none"][f"task{task}"]


def test_an_answer_has_what_is_recorded_of_its_row(trained):
  told = {
    "references": ["x", "y"],
    "category": "kind",
    "task_type": "classification",
    "choices": ["x", "z"],
    "is_correct": [True, False],
    "weight": 0.5,
    "inputs_pretokenized": "asked",
    "targets_pretokenized": "x",
  }
  held = store.in_memory(
    [
      {"inputs": [20, 1], "targets": [5, 1], "record": told},
      {"inputs": [21, 1], "targets": [6, 1], "record": {"choices": []}},
    ],
    ("inputs", "targets"),
  )
  some = rows.Tasks((store.Task("task0", "test", held),))
  asked = questions.Questions(
    _evaluation(targets=some, num_demonstrations=1, in_order=True),
    trained[0].problem,
  )
  full, bare = (asked.answer(asked.units[0], row) for row in (0, 1))
  wanted = {
    "task": "task0",
    "draw": 0,
    "demonstrations": [["22 1", "3 3 1"]],
    "instruction": None,
    "other_task": None,
    "predictions": {},
  }
  own = {name: told[name] for name in list(told)[:6]}
  own |= {"row": 0, "input": "asked", "target": "x"}
  found = dataclasses.asdict(full)
  assert {name: found[name] for name in wanted | own} == wanted | own
  own = dict.fromkeys(("category", "task_type", "choices", "is_correct"))
  own |= {"row": 1, "input": "21 1", "target": "6 1", "references": ["6 1"]}
  own |= {"weight": 1.0}
  found = dataclasses.asdict(bare)
  assert {name: found[name] for name in wanted | own} == wanted | own


def test_rotated_outputs_are_all_of_other_demonstrations(trained):
  """Inputs stay in their places; each output is moved on by one."""
  numbered = [([20 + i], [40 + i]) for i in range(18)]
  some = rows.Tasks(
    tuple(rows.task(f"task{i}", numbered) for i in range(NUM_TASKS))
  )
  evaluation = _evaluation(targets=some, demonstrations=some, max_targets=4)
  asked = questions.Questions(evaluation, trained[0].problem)
  for unit in asked.units[::2]:
    right = np.asarray(asked.context(unit, columns.RIGHT).demonstrations)
    moved = np.asarray(asked.context(unit, columns.ROTATED).demonstrations)
    # Input, end, output, end: four ids each.
    np.testing.assert_array_equal(moved[::4], right[::4])
    np.testing.assert_array_equal(moved[2::4], np.roll(right[2::4], 1))
    assert (moved[2::4] != moved[::4] + 20).all()


def test_one_demonstration_has_no_outputs_to_rotate(trained, caplog):
  asked = questions.Questions(
    _evaluation(num_demonstrations=1), trained[0].problem
  )
  assert columns.ROTATED not in asked.controls
  assert "no outputs to rotate" in caplog.text


def test_evaluating_again_gives_the_same_answers(trained, answers):
  of_trainer, state = trained
  evaluator = Evaluator(
    _evaluation(contexts_per_batch=7), of_trainer.problem, of_trainer.layout
  )
  assert evaluator.run(state.params, state.frozen) == answers


def test_given_demonstrations_are_taken_in_their_order(trained):
  of_trainer, _ = trained
  evaluator = Evaluator(
    _evaluation(in_order=True, num_demonstrations=2, max_targets=4),
    of_trainer.problem,
    of_trainer.layout,
  )
  # Rows 0 to 3 are targets; what comes first after them is shown.
  for task in range(NUM_TASKS):
    chosen = evaluator._questions.demonstrations[columns.RIGHT, task, 0]
    assert chosen.tolist() == [4, 5]


def test_lent_demonstrations_are_drawn_anew(trained):
  """Else a hypermodel that memorised texts would look the same as one that reads."""
  of_trainer, _ = trained
  evaluator = Evaluator(_evaluation(), of_trainer.problem, of_trainer.layout)
  drawn = evaluator._questions.demonstrations
  assert any(
    drawn[columns.RIGHT, task, 0].tolist()
    != drawn[columns.OTHER, task, 0].tolist()
    for task in range(NUM_TASKS)
  )


def test_only_controls_that_can_matter_are_answered():
  """One shared adapter, or the T5 itself, reads no demonstrations."""
  spec = testing.SPECS["prefix"]
  for problem, wanted in (
    (problems.AdapterFineTuning(testing.CONFIG, spec), ["right", "none"]),
    (problems.FullFineTuning(testing.CONFIG), ["right"]),
    (
      problems.FullFineTuning(testing.CONFIG, True),
      ["right", "none", "rotated", "other"],
    ),
    (problems.LanguageModel(testing.CONFIG), ["right"]),
  ):
    asked = questions.Questions(_evaluation(), problem)
    assert asked.controls == wanted
    told = answering.conditions(problem)
    assert [x for x in told if x in answering.ORDINARY] == wanted
  with pytest.raises(ValueError, match=r"LanguageModel answers alike .*right"):
    questions.Questions(
      _evaluation(controls=("none",)), problems.LanguageModel(testing.CONFIG)
    )


def test_adapters_of_several_tasks_have_curves_instead(trained):
  problem = problems.AdapterFineTuning(
    testing.CONFIG, testing.SPECS["prefix"], 2
  )
  with pytest.raises(ValueError, match=r"2 tasks with an adapter each are"):
    Evaluator(_evaluation(), problem, trained[0].layout)


def test_a_hook_reports_by_name_control_and_metric(trained):
  of_trainer, state = trained
  hook = _evaluation(max_tasks=2, max_targets=5).prepare(of_trainer)
  assert isinstance(state, TrainState)
  found = hook.run(state)
  assert found.keys() == {
    f"few/{column}/equal"
    for column in (*answering.ORDINARY, columns.AGAINST_OTHER)
  }
  assert all(0 <= value <= 1 for value in found.values())


def test_one_task_has_no_other_and_says_so(trained, caplog):
  of_trainer, _ = trained
  evaluator = Evaluator(
    _evaluation(max_tasks=1), of_trainer.problem, of_trainer.layout
  )
  assert columns.OTHER not in evaluator._questions.controls
  assert "no other task" in caplog.text


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"demonstrations": rows.Tasks(())}, r"no demonstrations for task 'task0'"),
    (
      {"feature_lengths": LENGTHS | {"demonstrations": 4}},
      r"none of 3 demonstrations fits in 4 tokens",
    ),
    ({"metrics": ("bleu",)}, r"metrics must be .*got \('bleu',\)"),
    (
      {"controls": "right"},
      r"controls must be .* of right, none, rotated, .*, got 'right'",
    ),
    (
      {"controls": ("right", "shuffled")},
      r"controls names 'shuffled', .* called 'rotated'",
    ),
  ],
)
def test_what_cannot_be_evaluated_is_refused(trained, changes, message):
  of_trainer, _ = trained
  with pytest.raises(ValueError, match=message):
    Evaluator(_evaluation(**changes), of_trainer.problem, of_trainer.layout)


def _answer(task, right, other, references, other_references, row=0):
  return results.Answer(
    task=task,
    row=row,
    draw=0,
    input="in",
    target=references[0],
    references=references,
    demonstrations=[],
    other_task="b",
    other_references=other_references,
    predictions={"right": right, "none": "", "other": other},
  )


def test_scores_are_means_over_the_targets_that_count():
  """Four answers by hand; where both tasks agree, "other" shows nothing."""
  answers = [
    _answer("a", "x", "y", ["x"], ["y"]),  # read the other's demonstrations
    _answer("a", "x", "x", ["x"], ["y"], 1),  # ignored them
    _answer("a", "z", "x", ["x", "z"], ["z"], 2),  # both tasks agree
    _answer("a", "n", "n", ["x"], None, 3),  # the other has no such input
  ]
  found = results.summarize(results.scored(answers, ["equal"]))
  assert found == {
    "right": {"targets": 4, "equal": 3 / 4},
    "none": {"targets": 4, "equal": 0.0},
    "other": {"targets": 3, "equal": 1 / 3},
    "other_against_other": {"targets": 2, "equal": 1 / 2},
  }


def test_gains_are_over_the_same_targets_draw_by_draw():
  """Of two tasks with two draws of two targets; "b" is worse by half."""
  answers = [
    dataclasses.replace(
      _answer(task, right, other, ["x"], ["y"], row), draw=draw
    )
    for task, right, other in (("a", "x", "y"), ("b", "x", "x"))
    for draw in (0, 1)
    for row in (0, 1)
  ]
  answers[7].predictions["right"] = "wrong"
  found = results.with_intervals(results.scored(answers, ["equal"]))
  right = found["intervals"]["right"]["equal"]
  # "a" has 1 and 1, "b" 1 and 1/2: the mean of 1 and 3/4.
  assert right["mean"] == pytest.approx(7 / 8)
  assert (right["tasks"], right["draws"]) == (2, 2)
  gain = found["gains"]["other"]["equal"]
  # "a" gains 1 in both draws, "b" nothing and -1/2. Twice "b" has 1/4; then four
  # bad draws, -1/2, have 1/64, less than 2.5%; three, -3/8, have four times that.
  assert gain["mean"] == pytest.approx(3 / 8)
  assert gain["low"] == pytest.approx(-3 / 8) and gain["high"] == 1.0
  assert found["gains"].keys() == {"none", "other"}


def test_predictions_and_results_are_written_and_read_back(tmp_path):
  answers = [
    _answer("a", "x", "y", ["x"], ["y"]),
    _answer("b", "no", "y", ["wörter"], ["y"], 1),
  ]
  tasks = [rows.task(name, [([5], [6])] * 2) for name in ("a", "b")]
  conditions = {"right": "its own demonstrations", "none": "nothing"}
  facts = {"checkpoint": "run", "step": 7, "conditions": conditions}
  found = results.write(tmp_path, "few", ["equal"], answers, tasks, facts)
  read = json.loads((tmp_path / "few-results.json").read_text())
  assert read == found
  assert read["num_tasks"] == 2 and read["step"] == 7
  assert read["tasks"]["a"]["right"]["equal"] == 1.0
  assert read["tasks"]["b"]["right"]["equal"] == 0.0
  lines = (tmp_path / "few-predictions.jsonl").read_text().splitlines()
  assert [results.Answer(**json.loads(line)) for line in lines] == answers
  table = results.table(found)
  assert "few: 2 tasks, step 7" in table
  assert "its own demonstrations" in table and "50.0" in table


def test_the_metrics_of_a_seqio_task_are_reported_for_its_answers():
  class Scoring:
    def score(self, predictions, targets, records):
      del records
      pairs = zip(predictions, targets, strict=True)
      return {"share": sum(a == b for a, b in pairs) / len(predictions)}

  task = dataclasses.replace(rows.task("a", [([5], [6])]), scoring=Scoring())
  found = results.score_by_seqio(
    [_answer("a", "x", "y", ["x"], ["y"])], {"a": task}
  )
  assert found == {
    "a": {
      "right": {"share": 1.0},
      "none": {"share": 0.0},
      "other": {"share": 0.0},
    }
  }


def test_several_sets_of_demonstrations_are_a_draw_each(trained):
  """As MetaICL's seeds: draw d takes its demonstrations from set d."""
  of_trainer, _ = trained
  sets = tuple(
    rows.Tasks(
      tuple(
        rows.task(f"task{i}", [([35 + draw], [3 + i])] * 2)
        for i in range(NUM_TASKS)
      )
    )
    for draw in range(3)
  )
  evaluator = Evaluator(
    _evaluation(demonstrations=sets, num_demonstrations=1, in_order=True),
    of_trainer.problem,
    of_trainer.layout,
  )
  asked = evaluator._questions
  assert {unit.draw for unit in asked.units} == {0, 1, 2}
  for unit in asked.units:
    context = asked.context(unit, columns.RIGHT)
    assert context.demonstrations[0] == 35 + unit.draw
    assert asked.answer(unit, 0).demonstrations[0][0] == f"{35 + unit.draw} 1"
  with pytest.raises(ValueError, match="draws is 2; with several sets"):
    _evaluation(demonstrations=sets, draws=2)


def _told(tasks):
  """The tasks, with instructions: ids 60 and 70 + number of the task."""
  return rows.Tasks(
    tuple(
      dataclasses.replace(task, instruction=np.asarray([60, 70 + i], np.int32))
      for i, task in enumerate(tasks.tasks)
    )
  )


@pytest.mark.parametrize("count", [0, 2])
def test_instructions_go_to_those_that_read_them(trained, count):
  """With another task's demonstrations the hypermodel reads that task's."""
  of_trainer, _ = trained
  evaluation = _evaluation(
    targets=_told(TARGETS),
    demonstrations=_told(POOL),
    num_demonstrations=count,
    instruction_readers=("hypermodel", "backbone"),
  )
  asked = questions.Questions(evaluation, of_trainer.problem)
  for unit in asked.units[::3]:
    for control, task in (
      (columns.RIGHT, unit.task),
      (columns.OTHER, unit.other),
    ):
      context = asked.context(unit, control)
      read = context.demonstrations
      assert read[:3].tolist() == [60, 70 + task, 1]
      # A demonstration is an input of one id and an output of two, closed.
      assert len(read) == 3 + 5 * count
      assert set(read[5::5].tolist()) <= {3 + task}
      for row, inputs in zip(unit.rows, context.inputs, strict=True):
        assert inputs.tolist() == [60, 70 + unit.task, 20 + row, 1]
  answer = asked.answer(asked.units[0], 0)
  assert answer.instruction == "60 70" and len(answer.demonstrations) == count


def test_no_demonstrations_and_no_instruction_are_refused():
  with pytest.raises(ValueError, match="num_demonstrations must be a whole"):
    _evaluation(num_demonstrations=0)
  with pytest.raises(
    ValueError, match="instruction_readers must be a list of some of"
  ):
    _evaluation(instruction_readers=("both",))


def test_an_earlier_versions_columns_are_read_by_their_new_names():
  content = {
    "conditions": {"shuffled": "its own, outputs shuffled"},
    "scores": {"shuffled": {"equal": 1.0}, "right": {"equal": 0.5}},
    "name": "shuffled",
  }
  assert columns.renamed(content) == {
    "conditions": {"rotated": "its own, outputs rotated"},
    "scores": {"rotated": {"equal": 1.0}, "right": {"equal": 0.5}},
    "name": "shuffled",
  }
