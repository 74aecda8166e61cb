"""What is tried where contexts do not fit: fewer at a time, then parts of one."""

import dataclasses
import hashlib
import types

import jax
import numpy as np
import pytest

from hyperjax import adapters, sharding
from hyperjax.batch import Lengths
from hyperjax.memory.answer import Fitting, OutOfMemory
from hyperjax.serving.hypermodel import Hypermodel
from hyperjax.serving.writer import Writer
from tests import testing


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

  problem = types.SimpleNamespace(
    write=write, adapters=adapters.PrefixSpec(1), backbone=testing.CONFIG
  )
  return problem, tried


@pytest.mark.parametrize(
  "shape, tried",
  [
    ((5, 9), [(2, 9), (1, 9), (1, 4), (1, 2), (1, 1)]),
    ((2, 6, 3), [(1, 6, 3), (1, 3, 3), (1, 1, 3), (1, 1, 1)]),
  ],
)
def test_a_writer_tries_fewer_contexts_then_less_of_each(shape, tried):
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


@pytest.mark.parametrize("shape", [(16, 8), (16, 2, 8)])
def test_a_writer_says_how_many_contexts_fit_with_one_for_each_device(shape):
  problem, tried = _limited_writer(lambda contexts, *_: contexts <= 5)
  layout = _layout(2)
  with pytest.raises(OutOfMemory) as said:
    Writer(problem, layout)({}, layout.place(_tokens(*shape)))
  assert said.value.fitting() == Fitting(contexts=4)
  assert said.value.fitting().lengths == {}
  problem, tried = _limited_writer(lambda contexts, *_: contexts <= 1)
  with pytest.raises(OutOfMemory) as said:
    Writer(problem, layout)({}, layout.place(_tokens(*shape)))
  assert said.value.fitting() is None
  assert min(contexts for contexts, *_ in tried) == 2


def _hypermodel(fits):
  problem, tried = _limited_writer(fits)
  lengths = types.SimpleNamespace(are_separate=False, demonstrations=8)
  run = types.SimpleNamespace(problem=problem, lengths=lengths)
  hypermodel = Hypermodel(run, _layout())
  # Instead of restoring them.
  hypermodel.__dict__["params"] = {}
  return hypermodel, tried


def test_contexts_that_do_not_fit_together_are_written_in_parts():
  """Eleven, of which three have room: one pass of eleven, of five, then of two.

  The last, which is alone, is written beside a copy of itself.
  """
  hypermodel, tried = _hypermodel(lambda contexts, _: contexts <= 3)
  written = hypermodel.write([np.full(3, i, np.int32) for i in range(1, 12)])
  assert [int(one["a"][0, 0, 0]) for one in written] == [
    3 * i for i in range(1, 12)
  ]
  assert tried == [(16, 8), (8, 8), (2, 8)]


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


def test_a_hypermodel_is_known_by_its_step_shapes_and_small_arrays():
  """Written down: adapters that were saved name it."""
  hypermodel, _ = _hypermodel(lambda *_: True)
  hypermodel._run.step = 7
  arrays = {
    "a": np.arange(1 << 17, dtype=np.float32),
    "b": np.arange((1 << 17) + 1, dtype=np.float32),
    "c": {"d": np.asarray([[1, 2]], np.int32).T},
  }
  hypermodel.__dict__["params"] = {"hypermodel": arrays}
  digest = hashlib.sha256(b"step 7")
  digest.update(b" a float32 (131072,) " + arrays["a"].tobytes())
  # Of a larger one, its shape alone.
  digest.update(b" b float32 (131073,) ")
  digest.update(b" c/d int32 (2, 1) " + arrays["c"]["d"].tobytes())
  assert hypermodel.identity == digest.hexdigest()


@pytest.mark.parametrize(
  "rows, room", [(1, 3), (3, 3), (4, 4), (5, 8), (9, 16)]
)
def test_room_for_more_rows_than_in_training_is_a_power_of_two(rows, room):
  run = types.SimpleNamespace(problem=_limited_writer(None)[0])
  run.lengths = Lengths(8, 8, 4, 3)
  found = Hypermodel(run, _layout()).room(rows)
  assert found == Lengths(8, 8, 4, room)
  # Joined in one row, there is no more than in training.
  run.lengths = Lengths(8, 8, 4)
  assert Hypermodel(run, _layout()).room(rows) == run.lengths


def test_no_more_than_sixteen_contexts_are_written_in_one_pass():
  hypermodel, tried = _hypermodel(lambda *_: True)
  written = hypermodel.write([np.full(1, i, np.int32) for i in range(1, 36)])
  assert [int(one["a"][0, 0, 0]) for one in written] == list(range(1, 36))
  assert tried == [(16, 8)]  # the last three fill a pass of the same shape


def test_contexts_are_filled_up_with_the_padding_of_their_t5():
  hypermodel, _ = _hypermodel(lambda *_: True)
  problem = hypermodel._run.problem
  problem.backbone = dataclasses.replace(testing.CONFIG, pad_id=7)
  # Of an array of 1 to 2 ones in a row of 8 the sum is of the padding, too.
  written = hypermodel.write([_tokens(1), _tokens(2)])
  assert [int(one["a"][0, 0, 0]) for one in written] == [1 + 49, 2 + 42]
