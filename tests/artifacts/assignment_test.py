"""Parameters that begin as those of another name in another run."""

import dataclasses

import jax
import numpy as np
import pytest

from hyperjax import checkpoints, runs, trees
from hyperjax.artifacts import assignment, run_file
from tests import runs_example

PATHS = {
  "hypermodel/encoder/layers/wi": None,
  "hypermodel/encoder/norm": None,
  "hypermodel/head/out": None,
}


def test_the_first_rule_that_matches_says_where_a_parameter_comes_from():
  rules = [
    (r"hypermodel/encoder/(.*)/(.*)", r"backbone/\2/x/\1"),
    (r"hypermodel/head/.*", None),
    (r"hypermodel/encoder/.*", "one"),
  ]
  assert assignment.assigned(rules, PATHS) == {
    "hypermodel/encoder/layers/wi": "backbone/wi/x/layers",
    "hypermodel/encoder/norm": "one",
    "hypermodel/head/out": None,
  }
  assert assignment.assigned([], PATHS) == {path: path for path in PATHS}


def test_a_rule_that_matches_nothing_is_refused():
  """Nor one that comes after others which match all that it would."""
  rules = [
    (r"hypermodel/.*", "a"),
    (r"hypermodel/head/.*", None),
    ("head", "b"),
  ]
  with pytest.raises(
    ValueError, match=r"match no parameter.*\n.*head/.*\n.*head"
  ):
    assignment.assigned(rules, PATHS)


@pytest.mark.parametrize(
  "rules, message",
  [
    ("x", "must be a list of"),
    ([("a",)], r"must be a list of \(pattern, path or None\), got \('a',\)"),
    (["ab"], "got 'ab'"),
    ([("a(", None)], "'a\\('.*unterminated"),
    ([(3, None)], r"\(3, None\)"),
    ([("a", r"\1")], "invalid group reference"),
    ([("a", 3)], r"\('a', 3\)"),
  ],
  ids=str,
)
def test_rules_that_are_none_are_refused(rules, message):
  with pytest.raises(ValueError, match=r"^Train.assignment_map.*" + message):
    assignment.check(rules, "/initial")


def test_rules_without_a_run_to_take_from_are_refused():
  with pytest.raises(ValueError, match="INITIAL_CHECKPOINT_PATH is None"):
    assignment.check([("a", None)], None)
  assignment.check(None, None)
  assignment.check([("a(.)", r"\1")], "/initial")


def _params(folder, step):
  saver = checkpoints.Checkpoints(folder / "checkpoints", read_only=True)
  shapes = saver.shapes(step)
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  abstract = {
    path: jax.ShapeDtypeStruct(shape, np.float32, sharding=place)
    for path, shape in shapes.items()
  }
  found = saver.restore_params(step, trees.unflatten(abstract))
  saver.close()
  return trees.flatten(found)


@pytest.mark.slow
def test_a_hypermodel_begins_with_parts_of_another_one(world, tmp_path):
  """Its decoder as another's encoder would be refused: they have other arrays."""
  first = tmp_path / "first"
  one = runs_example.multitask(
    world / "tokens", first, world / "backbone", steps=2
  )
  one.execute()
  before = _params(first, 2)

  def begun(folder, rules):
    run = dataclasses.replace(
      one,
      model_dir=str(folder),
      initial_checkpoint=str(first),
      assignment_map=rules,
      steps=1,
      seed=5,
      optimizer=dataclasses.replace(
        one.optimizer, learning_rate=runs.optimizers.Constant(1e-30)
      ),
    )
    run.execute()
    return _params(folder, 1)

  swapped = [
    (r"(hypermodel/.*)/mlp/wi_0/kernel", r"\1/mlp/wi_1/kernel"),
    (r"hypermodel/decoder/.*", None),
  ]
  after = begun(tmp_path / "second", swapped)
  record = run_file.read(tmp_path / "second", 1)
  assert record.assignment_map == tuple(swapped)
  seen = set()
  for path, array in after.items():
    source = path.replace("wi_0", "wi_1")
    if "/decoder/" in path and "wi_0" not in path:
      continue
    seen.add(path)
    np.testing.assert_array_equal(array, before[source], err_msg=path)
  assert any("wi_0" in path for path in seen)
  drawn = [path for path in after.keys() - seen if "kernel" in path]
  assert drawn
  for path in drawn:
    assert not np.array_equal(after[path], before[path]), path
  with pytest.raises(
    ValueError,
    match=r"does not have what Train.assignment_map takes.*\n.*missing: nowhere",
  ):
    begun(tmp_path / "third", [(r"hypermodel/encoder/.*", "nowhere")])
  assert not (tmp_path / "third").exists()
