"""Learning curves of tasks side by side."""

import json

import jax
import pytest

from hyperjax import metrics
from hyperjax.data import sources
from hyperjax.evaluation import answering, curves
from hyperjax.models import problems
from tests import testing
from tests.data import rows

LENGTHS = {"inputs": 4, "targets": 4}


def _pairs(first, count):
  return [([first + i], [first - 10, 12]) for i in range(count)]


TRAINED = rows.Tasks(
  (rows.task("a", _pairs(13, 4)), rows.task("b", _pairs(13, 4)))
)
# The first two rows of b are trained on; a has seven rows, b then three.
HELD_OUT = rows.Tasks(
  (rows.task("b", _pairs(15, 5)), rows.task("a", _pairs(20, 7))),
  split="held_out",
)
DATA = sources.TasksSideBySide(TRAINED, LENGTHS, 2, 4)


def _curves(**changes):
  return curves.TaskCurves("own", DATA, HELD_OUT, **changes)


@pytest.fixture(scope="module")
def trained():
  problem = problems.AdapterFineTuning(
    testing.CONFIG, testing.SPECS["prefix"], 2
  )
  trainer = testing.make_trainer(problem)
  return trainer, trainer.init(0)


def test_every_held_out_row_counts_once_whatever_the_batch(trained):
  trainer, state = trained
  whole = _curves(rows_per_task=7).prepare(trainer).run(state)
  parts = _curves(rows_per_task=2, tokens_per_batch=9).prepare(trainer)
  parts = parts.run(state)
  assert (
    whole.keys()
    == parts.keys()
    == {
      f"own/{metric}{task}"
      for metric in ("loss", "equal")
      for task in ("", "/a", "/b")
    }
  )
  for name, value in whole.items():
    assert parts[name] == pytest.approx(value, rel=1e-5), name
  mean = (whole["own/loss/a"] + whole["own/loss/b"]) / 2
  assert whole["own/loss"] == pytest.approx(mean)
  assert whole["own/loss/a"] != whole["own/loss/b"]


def test_tasks_are_answered_in_batches_that_fit_each_by_its_own_adapter(
  trained, monkeypatch
):
  """Two rows of 2 + 4 tokens at once, of ten; one task's adapter is another."""
  trainer, state = trained
  params = jax.tree.map(lambda x: x.at[:, 1].multiply(-3.0), state.params)
  both = jax.tree.map(lambda x: x.at[:, 0].set(x[:, 1]), params)
  shapes, decode = [], answering.Answering.decode

  def noted(own, setting, *rest):
    shapes.append(setting.tokens.shape)
    return decode(own, setting, *rest)

  monkeypatch.setattr(answering.Answering, "decode", noted)
  prepared = _curves(tokens_per_batch=13, least_length=2).prepare(trainer)
  same, own, other = (
    prepared.run(state.replace(params=each))
    for each in (state.params, params, both)
  )
  assert shapes == 3 * 5 * [(2, 2)]
  assert own["own/loss/a"] == same["own/loss/a"] != other["own/loss/a"]
  assert own["own/loss/b"] == other["own/loss/b"] != same["own/loss/b"]


def test_rows_that_are_trained_on_are_not_scored(trained, caplog):
  trainer, _ = trained
  prepared = _curves().prepare(trainer)
  assert [task.name for task in prepared._tasks] == ["a", "b"]
  assert prepared._rows == [[0, 1, 2, 3, 4, 5, 6], [2, 3, 4]]
  assert "task b: 2 of 5 rows are trained on, and not scored" in caplog.text
  assert _curves(max_rows=2).prepare(trainer)._rows == [[0, 1], [2, 3]]
  same = curves.TaskCurves("own", DATA, TRAINED)
  with pytest.raises(ValueError, match=r"'a': every input .* is trained on"):
    same.prepare(trainer)
  lacking = rows.Tasks(HELD_OUT.tasks[:1], split="held_out")
  with pytest.raises(ValueError, match=r"held_out', lacks task 'a' \(and 0"):
    curves.TaskCurves("own", DATA, lacking).prepare(trainer)
  with pytest.raises(ValueError, match=r"metrics must be .*, got \('bleu',\)"):
    _curves(metrics=("bleu",))


def test_curves_are_read_from_a_runs_lines(tmp_path):
  lines = [
    {"step": 0, "own/loss": 3.0, "own/loss/a": 4.0, "own/loss/b": 2.0},
    {"step": 2, "loss": 1.5, "learning_rate": 0.1},
    {"step": 2, "own/loss": 1.5, "own/loss/a": 2.5, "own/loss/b": 0.5},
    {"step": 4, "own/loss/a": 2.0, "own/loss/b": 0.7, "own/equal/a": 1.0},
  ]
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (tmp_path / metrics.METRICS).write_text(text)
  found = curves.read(tmp_path, "own")
  assert found == {
    "a": curves.Curve([0, 2, 4], [4.0, 2.5, 2.0]),
    "b": curves.Curve([0, 2, 4], [2.0, 0.5, 0.7]),
  }
  assert curves.read(tmp_path, "own", "equal") == {
    "a": curves.Curve([4], [1.0])
  }
  assert not curves.read(tmp_path / "nowhere", "own")
