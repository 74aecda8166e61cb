"""What is tried where contexts do not fit: fewer at a time, then parts of one."""

import types

import jax
import numpy as np
import pytest

from hyperjax import sharding
from hyperjax.batch import Lengths
from hyperjax.memory.answer import Fitting, OutOfMemory
from hyperjax.serving.hypermodel import Hypermodel
from hyperjax.serving.writer import Writer


def _layout(devices=1):
  return sharding.MeshSpec().build(jax.devices()[:devices])


def _tokens(*shape):
  return np.ones(shape, np.int32)


def _limited_writer(fits):
  """Of contexts with an array for each, and the shapes it was made for."""
  tried = []

  def write(params, demonstrations):
    tried.append(demonstrations.shape)
    if not fits(*demonstrations.shape):
      raise OutOfMemory("writing adapters", 2, 1)
    sums = demonstrations.reshape(len(demonstrations), -1).sum(1)
    return {"a": sums[None, :, None]}

  return types.SimpleNamespace(write=write), tried


@pytest.mark.parametrize(
  "shape, tried",
  [
    ((2, 9), [(2, 4), (2, 2), (2, 1)]),
    ((2, 6, 3), [(2, 3, 3), (2, 1, 3), (2, 1, 1)]),
  ],
)
def test_a_writer_tries_fewer_demonstrations_then_shorter_ones(shape, tried):
  problem, found = _limited_writer(lambda *_: False)
  with pytest.raises(OutOfMemory) as said:
    Writer(problem, _layout())({}, _layout().place(_tokens(*shape)))
  assert found.pop(0) == shape
  assert said.value.fitting() is None
  assert found == tried


@pytest.mark.parametrize(
  "shape, fits, found",
  [
    ((1, 8), lambda _, s: s <= 2, Fitting(demonstrations=2)),
    ((1, 8, 4), lambda _, n, s: n <= 2, Fitting(num_demonstrations=2)),
    (
      (1, 8, 4),
      lambda _, n, s: n * s <= 2,
      Fitting(demonstrations=2, num_demonstrations=1),
    ),
  ],
)
def test_a_writer_says_what_would_fit_of_a_context(shape, fits, found):
  problem, tried = _limited_writer(fits)
  layout = _layout(2)
  writer = Writer(problem, layout)
  with pytest.raises(OutOfMemory) as said:
    writer({}, layout.place(np.repeat(_tokens(*shape), 2, axis=0)))
  assert said.value.fitting() == found
  # That is compiled, in the place that it will be asked for.
  count = len(tried)
  writer({}, layout.place(_tokens(*tried[-1])))
  assert len(tried) == count


def _hypermodel(fits):
  problem, tried = _limited_writer(fits)
  lengths = types.SimpleNamespace(are_separate=False, demonstrations=8)
  run = types.SimpleNamespace(problem=problem, lengths=lengths)
  hypermodel = Hypermodel(run, _layout())
  # Instead of restoring them.
  hypermodel.__dict__["params"] = {}
  return hypermodel, tried


def test_contexts_that_do_not_fit_together_are_written_in_parts():
  """Eleven, of which three have room: one pass of eleven, of five, then of two."""
  hypermodel, tried = _hypermodel(lambda contexts, _: contexts <= 3)
  written = hypermodel.write([np.full(3, i, np.int32) for i in range(1, 12)])
  assert [int(one["a"][0, 0, 0]) for one in written] == [
    3 * i for i in range(1, 12)
  ]
  assert tried == [(16, 8), (8, 8), (2, 8), (1, 8)]


@pytest.mark.parametrize(
  "fits, advice",
  [
    (lambda *_: False, "no shorter example fits"),
    (lambda _, s: s <= 2, r"TASK_FEATURE_LENGTHS\['demonstrations'\] 2$"),
  ],
)
def test_where_not_one_context_fits_it_is_said_what_would(fits, advice):
  hypermodel, _ = _hypermodel(fits)
  with pytest.raises(OutOfMemory, match=advice):
    hypermodel.write([np.ones(3, np.int32)] * 2)


def test_fewer_examples_are_advised_where_they_are_encoded_one_by_one():
  problem, _ = _limited_writer(lambda _, n, s: n <= 2)
  run = types.SimpleNamespace(problem=problem, lengths=Lengths(8, 8, 4, 8))
  hypermodel = Hypermodel(run, _layout())
  hypermodel.__dict__["params"] = {}
  with pytest.raises(OutOfMemory, match="give 2 examples at most"):
    hypermodel.write([[np.ones(3, np.int32)] * 7])
