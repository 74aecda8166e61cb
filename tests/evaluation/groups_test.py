"""Answers do not depend on what is answered together, nor on a kill."""

import dataclasses
import json

import jax
import pytest

from hyperjax import adapters, sharding
from hyperjax.evaluation import answered, answering, timing
from hyperjax.evaluation.few_shot import Evaluator
from hyperjax.evaluation.progress import Progress
from hyperjax.models import decoding
from tests import testing
from tests.data import rows
from tests.evaluation.few_shot_test import _evaluation

LENGTHS = {"demonstrations": 24, "inputs": 9, "targets": 3}
# Inputs of two to nine tokens, their end counted; task t answers with 3 + t.
TARGETS = rows.Tasks(
  tuple(
    rows.task(
      f"task{t}",
      [
        ([10 + i, *[20 + t] * (i % 8)], [3 + t] * (1 + i % 2)) for i in range(9)
      ],
    )
    for t in range(3)
  )
)
# Demonstrations of five, seven and nine tokens.
POOL = rows.Tasks(
  tuple(
    rows.task(f"task{t}", [([35] * (1 + 2 * t), [3 + t]), ([36], [3 + t])])
    for t in range(3)
  )
)


def _asked(**changes):
  options = {
    "targets": TARGETS,
    "demonstrations": POOL,
    "feature_lengths": LENGTHS,
    "num_demonstrations": 2,
    "in_order": True,
    "rows_per_context": None,
    "controls": ("right", "in_input"),
    "least_length": 32,
  }
  return _evaluation(**(options | changes))


@pytest.fixture(scope="module")
def model():
  """Any hypermodel whose adapters matter, and its parameters."""
  problem = testing.hypertuning(adapters.PrefixSpec(3, key_stddev=4.0))
  state = testing.make_trainer(problem).init(0)
  return problem, *jax.device_get((state.params, state.frozen))


def _evaluator(model, devices=1, **changes):
  """An evaluator on a mesh, and what it answers with."""
  problem, *weights = model
  layout = sharding.MeshSpec().build(jax.devices()[:devices])
  placed = jax.device_put(weights, layout.replicated)
  return Evaluator(_asked(**changes), problem, layout), *placed


def _observed(monkeypatch):
  """What is decoded and what is written from then on: shapes of token ids."""
  decoded, written = [], []
  decode = answering.Answering.decode
  write = answering.Writer.__call__

  def note_decoded(own, setting, *rest):
    decoded.append(setting.tokens.shape)
    return decode(own, setting, *rest)

  def note_written(own, params, demonstrations):
    written.append(demonstrations.shape)
    return write(own, params, demonstrations)

  monkeypatch.setattr(answering.Answering, "decode", note_decoded)
  monkeypatch.setattr(answering.Writer, "__call__", note_written)
  return decoded, written


@pytest.fixture(scope="module")
def whole(model):
  """Answers and losses of all rows together, padded to one length."""
  evaluator, *weights = _evaluator(model)
  return evaluator.run(*weights), evaluator.target_losses(*weights)


def _predictions(answers, control):
  return [answer.predictions[control] for answer in answers]


def test_answers_do_not_depend_on_what_is_answered_together(
  model, whole, monkeypatch
):
  """Short rows do not pay for long ones; adapters are written once for all."""
  evaluator, *weights = _evaluator(
    model,
    controls=("right",),
    tokens_per_batch=63,
    contexts_per_batch=2,
    least_length=8,
  )
  decoded, written = _observed(monkeypatch)
  found = _predictions(evaluator.run(*weights), "right")
  assert found == _predictions(whole[0], "right")
  assert len(set(found)) > 1
  assert found != _predictions(whole[0], "in_input")
  # Those of two tasks, then of one. Task t's demonstrations take 8 + 2 * t tokens.
  assert written == [(2, 16), (1, 16)]
  # Five rows of 9 + 3 tokens are two blocks of two. Of each task's five blocks
  # one begins with its row of 9 tokens; all others have 8 at most.
  two_tasks = [(4, 9), (4, 8), (4, 8), (4, 8), (4, 8)]
  assert decoded == [*two_tasks, (4, 9), (4, 8), (2, 8)]


@pytest.mark.slow
def test_beams_and_a_memory_count_as_tokens_of_each_row(monkeypatch):
  """Of 9 + 2 * 3 tokens and 24 memories two rows are answered at once, not five."""
  problem = testing.hypertuning(adapters.MemorySpec(24))
  weights = testing.make_trainer(problem).init(0)
  model = problem, *jax.device_get((weights.params, weights.frozen))
  asked = {
    "controls": ("right",),
    "decoder": decoding.Beam(num_beams=2),
    "max_tasks": 1,
  }
  evaluator, *weights = _evaluator(model, **asked)
  wanted = _predictions(evaluator.run(*weights), "right")
  evaluator, *weights = _evaluator(model, **asked, tokens_per_batch=80)
  decoded, _ = _observed(monkeypatch)
  assert _predictions(evaluator.run(*weights), "right") == wanted
  assert decoded == [(2, 9)] * 4 + [(1, 9)]


@pytest.mark.parametrize(
  "devices, changes",
  [
    pytest.param(2, {"tokens_per_batch": 100}, marks=pytest.mark.slow),
    (8, {"rows_per_context": 2}),
  ],
)
def test_answers_do_not_depend_on_the_mesh(model, whole, devices, changes):
  evaluator, *weights = _evaluator(model, devices, **changes)
  assert evaluator.run(*weights) == whole[0]


@pytest.mark.slow
def test_losses_do_not_depend_on_what_is_answered_together(model, whole):
  evaluator, *weights = _evaluator(model, 2, rows_per_context=4)
  found = evaluator.target_losses(*weights)
  for control, by_task in whole[1].items():
    for task, loss in by_task.items():
      assert found[control][task] == pytest.approx(loss, rel=1e-5)
  assert found["right"] != found["in_input"]


def _kept(path, evaluator, **changes):
  settings = evaluator.settings() | changes
  return answered.Answered(path, settings, [x.name for x in evaluator.tasks])


class _StoppedError(Exception):
  """From outside, as a signal would come."""


@pytest.mark.parametrize("asks_losses", [False, True])
def test_an_evaluation_that_is_stopped_goes_on_where_it_was(
  model, tmp_path, monkeypatch, capsys, asks_losses
):
  """Groups of one task each; it is stopped in the third."""
  changes = {"tokens_per_batch": 12, "draws": 2, "contexts_per_batch": 2}
  # Of a task one block of rows is answered at a time.
  evaluator, *weights = _evaluator(model, controls=("right",), **changes)
  method = Evaluator.target_losses if asks_losses else Evaluator.run
  path = tmp_path / "out" / "answered.jsonl"
  wanted = method(evaluator, *weights)
  add, counts = Progress.add, []

  def stop(progress, answers, tasks=0):
    counts.append(tasks)
    add(progress, answers, tasks)
    if sum(counts) == 2 and not tasks:
      raise _StoppedError

  monkeypatch.setattr(Progress, "add", stop)
  with pytest.raises(_StoppedError):
    method(evaluator, *weights, _kept(path, evaluator))
  monkeypatch.setattr(Progress, "add", add)
  assert [json.loads(x).get("task") for x in path.read_text().splitlines()] == [
    None,
    "task0",
    "task1",
  ]
  with open(path, "ab") as file:
    file.write(b'{"task": "task2", "fou')  # killed while it wrote
  capsys.readouterr()
  kept = _kept(path, evaluator)
  said = "answered.jsonl goes on: 2 of 3 tasks are answered\n"
  assert capsys.readouterr().out == said
  progress = Progress("x", 3, 54, is_shown=False)
  evaluator._groups.run(
    *weights, kept, progress, timing.Stopwatch(), asks_losses
  )
  assert progress._answers == 18  # of the one task that lacked
  assert method(evaluator, *weights, _kept(path, evaluator)) == wanted
  kept.remove()
  assert not path.exists()


def test_tasks_that_are_answered_again_are_counted_once(model, tmp_path):
  """Two of three that a larger batch answers together were done before."""
  evaluator, *weights = _evaluator(model, controls=("none",))
  path = tmp_path / "answered.jsonl"
  whole = evaluator.run(*weights, _kept(path, evaluator))
  lines = path.read_bytes().splitlines(keepends=True)
  path.write_bytes(b"".join(lines[:3]))
  count = len(whole)
  progress = Progress("x", 3, count, 2, count * 2 // 3, is_shown=False)
  evaluator._groups.run(
    *weights, _kept(path, evaluator), progress, timing.Stopwatch()
  )
  assert progress._answers == count


def test_what_decides_the_answers_is_known(model):
  """Other data, lengths and demonstrations; not what is answered together."""
  base = _evaluator(model)[0].settings()
  for changes in (
    {"tokens_per_batch": 7},
    {"contexts_per_batch": 8},
    {"least_length": 2},
    {"rows_per_context": 1},
  ):
    assert _evaluator(model, **changes)[0].settings() == base, changes
  first = TARGETS.tasks[0]
  other = rows.task("task0", [([10], [4])] * 9)
  told = dataclasses.replace(
    first,
    rows=dataclasses.replace(first.rows, records=[b'{"category": "x"}'] * 9),
  )
  for changes in (
    {"seed": 1},
    {"num_demonstrations": 1},
    {"controls": ("right",)},
    {"feature_lengths": LENGTHS | {"inputs": 8}},
    {"targets": rows.Tasks((other, *TARGETS.tasks[1:]))},
    {"targets": rows.Tasks((told, *TARGETS.tasks[1:]))},
    {"demonstrations": rows.Tasks((*POOL.tasks[:2], other_pool()))},
  ):
    assert _evaluator(model, **changes)[0].settings() != base, changes


def other_pool():
  """The last task's, with another answer in the demonstration."""
  return rows.task("task2", [([35] * 5, [4]), ([36], [5])])
