"""Which examples are read where not all fit."""

import jax
import numpy as np
import pytest

from hyperjax import adapters, serving
from hyperjax.serving import average, selection
from hyperjax.serving.examples import Example
from tests import served_example

# Three of ten tokens have room, of these and of whatever is as long.
PAIRS = served_example.pairs(7, 8)


@pytest.fixture(scope="module")
def model(served):
  return serving.load(str(served / "lora"))


def _offers(model, pairs):
  return selection.all_of([model.pool(pairs)])


def test_the_first_are_read_where_nobody_chooses(model):
  [[found]] = selection.choose(model, _offers(model, PAIRS))
  assert found.rows == model.fit(PAIRS).rows == (0, 1, 2)
  assert len(found.dropped) == 5


def test_copies_take_no_room(model):
  rows = [PAIRS[i] for i in (0, 1, 0, 0, 2, 3)]
  found = model.fit(rows)
  assert [(x.input, x.output) for x in found.kept] == PAIRS[:3]
  assert [(x.input, x.output) for x, _, _ in found.dropped] == [PAIRS[3]]


def test_diverse_examples_have_all_labels_and_unlike_inputs(model):
  """Four of nine tokens fit."""
  pairs = [
    ("alice bruno carla david elena felix", "red"),
    ("alice bruno carla david elena greta", "red"),
    ("alice bruno carla henri irene jonas", "blue"),
    ("paris london berlin madrid rome vienna", "blue"),
    ("one two three four five six", "red"),
    ("paris london berlin madrid rome oslo", "blue"),
  ]
  [[found]] = selection.choose(model, _offers(model, pairs), "diverse")
  # The first; of the other label what is least like it; of both labels, taken once
  # each, what is like neither; then a label that was taken once again.
  assert found.rows == (0, 3, 4, 2)
  assert [x.input for x, _, _ in found.dropped] == [pairs[1][0], pairs[5][0]]


@pytest.mark.slow
def test_the_best_is_one_of_the_choices_and_always_the_same(model):
  [[found]] = selection.choose(model, _offers(model, PAIRS), "best")
  assert len(found.rows) == 3 and len(found.dropped) == 5
  assert {x.input for x in found.kept} <= {x for x, _ in PAIRS}
  [[again]] = selection.choose(model, _offers(model, PAIRS), "best")
  assert again.rows == found.rows


def test_an_average_is_of_groups_that_read_all_examples_once(model):
  [groups] = selection.choose(model, _offers(model, PAIRS), "average")
  assert [x.rows for x in groups] == [(0, 1, 2), (3, 4, 5), (6, 7)]
  [found] = selection.write(model, [groups])
  parts = [
    model.adapt(PAIRS[0:3]),
    model.adapt(PAIRS[3:6]),
    model.adapt(PAIRS[6:]),
  ]
  wanted = average.average(parts, [3, 3, 2])
  wanted, left_out = average.truncate(wanted, parts[0].info.spec)
  for one, other in zip(
    jax.tree.leaves(found.arrays), jax.tree.leaves(wanted.arrays), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
  origin = found.info.origin
  assert origin["demonstrations"]["count"] == 8
  assert origin["demonstrations"]["dropped"] == 0
  assert origin["groups"]["counts"] == [3, 3, 2]
  assert origin["groups"]["left_out"] == pytest.approx(left_out, rel=1e-3)
  assert found.info.spec == parts[0].info.spec


@pytest.mark.parametrize("select", selection.WAYS)
def test_where_all_fit_all_are_read(model, select):
  [[found]] = selection.choose(model, _offers(model, PAIRS[:3]), select)
  assert found.rows == (0, 1, 2) and not found.dropped


def test_what_is_read_twice_is_written_once(model):
  one, other = (model.fit(PAIRS[:2]), model.fit(PAIRS[2:4]))
  found = selection.write(model, [[one], [other], [one]])
  assert found[0] is found[2]
  assert adapters.distance(found[0].arrays, found[1].arrays) > 0


def test_an_unknown_way_is_refused(model):
  with pytest.raises(
    ValueError, match="select must be one of first, diverse, "
  ):
    selection.choose(model, _offers(model, PAIRS), "worst")
  with pytest.raises(ValueError, match="none of 1 examples fits"):
    selection.choose(model, _offers(model, [Example("red " * 40, "x")]))
