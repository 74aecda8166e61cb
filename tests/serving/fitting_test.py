"""What is tried where a batch does not fit: parts of it, each half as large."""

import jax
import numpy as np
import pytest

from hyperjax import adapters, sharding
from hyperjax.memory.answer import Fitting, OutOfMemory
from hyperjax.memory.program import Program
from hyperjax.models import forward, t5
from hyperjax.serving import answering_t5, fitting
from hyperjax.serving.predictor import Predictor
from tests import testing

SPEC = adapters.PrefixSpec(3, sites=("encoder.attention",))


def _layout(devices=1):
  return sharding.MeshSpec().build(jax.devices()[:devices])


def _shape(x):
  leaves = jax.tree.leaves(x)
  return leaves[0].shape if leaves else ()


class _Limited:
  """A program with room for what `fits`; `tried` has the shapes it was made for."""

  def __init__(self, fits=lambda rows, inputs, targets: False):
    self.tried, self._fits = [], fits
    static = ("max_length", "decoder")
    self.program = Program(self._answer, "answering", static)

  def _answer(
    self,
    setting,
    targets_BT=None,
    other=None,
    numbers_B=None,
    key_data=None,
    decoder=None,
    max_length=None,
  ):
    given = setting.adapters, other, numbers_B, targets_BT
    shapes = [setting.tokens.shape, *map(_shape, given)]
    assert _shape(key_data) == (() if key_data is None else (2,))
    self.tried.append((*shapes, max_length))
    rows, inputs = setting.tokens.shape
    targets = max_length or targets_BT.shape[1]
    if not self._fits(rows, inputs, targets):
      raise OutOfMemory("answering", 2, 1)
    return setting.tokens.sum()


def _tokens(*shape):
  return np.ones(shape, np.int32)


def _written(contexts):
  abstract = SPEC.abstract(testing.CONFIG, contexts)
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract)


def _setting(tokens, own=t5.NO_ADAPTERS):
  return forward.Setting({"w": np.ones(3)}, tokens, own)


def test_rows_are_halved_then_their_inputs_then_their_targets():
  limited, own = _Limited(), _written(1)
  asked = fitting.Asked(
    {"setting": _setting(_tokens(8, 70), own), "numbers_B": _tokens(8)},
    {"key_data": np.zeros(2, np.uint32), "decoder": "greedy"},
    max_length=5,
  )
  assert asked.num_rows == 8
  assert fitting.find(limited.program, asked, _layout()) is None
  one = _shape(own)
  assert limited.tried == [
    ((rows, inputs), one, (), (rows,), (), length)
    for rows, inputs, length in (
      *((4, 70, 5), (2, 70, 5), (1, 70, 5)),
      *((1, 35, 5), (1, 17, 5), (1, 16, 5)),
      *((1, 16, 2), (1, 16, 1)),
    )
  ]


def test_an_adapters_own_rows_go_before_they_are_halved():
  """Three rows of each of four contexts, two choices of each row."""
  limited, own = _Limited(), _written(4)
  setting = _setting(_tokens(12, 16), own)
  other = _written(1)
  asked = fitting.Asked(
    {"setting": setting, "other": other, "targets_BT": _tokens(24, 4)}
  )
  assert fitting.find(limited.program, asked, _layout()) is None
  layers, rest = _shape(own)[:1], _shape(own)[2:]
  assert limited.tried == [
    (
      (rows, 16),
      (*layers, contexts, *rest),
      _shape(other),
      (),
      (2 * rows, targets),
      None,
    )
    for contexts, rows, targets in (
      *((2, 6, 4), (1, 3, 4), (1, 1, 4)),
      *((1, 1, 2), (1, 1, 1)),
    )
  ]


def test_there_are_never_fewer_contexts_than_parts_of_the_mesh():
  limited, layout = _Limited(), _layout(2)
  tokens = layout.place(_tokens(8, 16))
  asked = fitting.Asked({"setting": _setting(tokens)}, {}, 1)
  assert fitting.find(limited.program, asked, layout) is None
  assert [x[0] for x in limited.tried] == [(4, 16), (2, 16)]


@pytest.mark.parametrize(
  "fits, found",
  [
    (lambda rows, *_: rows <= 2, Fitting(2)),
    (lambda rows, inputs, _: rows * inputs <= 16, Fitting(1, 16)),
    (lambda rows, *lengths: sum(lengths) <= 18, Fitting(1, 16, 2)),
    (lambda *_: True, Fitting(4)),
  ],
)
def test_what_had_to_be_shortened_is_said(fits, found):
  limited = _Limited(fits)
  asked = fitting.Asked({"setting": _setting(_tokens(8, 64))}, {}, 4)
  assert fitting.find(limited.program, asked, _layout()) == found


@pytest.mark.parametrize("is_placed", [False, True])
def test_what_was_found_is_compiled_for_those_who_then_ask_for_it(is_placed):
  layout = _layout(2)
  limited = _Limited(lambda rows, *_: rows <= 4)

  def asked(rows):
    tokens = _tokens(rows, 16)
    # Numbers on a device that they are not bound to may go to any.
    numbers = jax.numpy.asarray(_tokens(rows))
    tokens = layout.place(tokens) if is_placed else tokens
    batch = {"setting": _setting(tokens), "numbers_B": numbers}
    return fitting.Asked(batch, {}, 4)

  assert fitting.find(limited.program, asked(8), layout) == Fitting(4)
  smaller = asked(4)
  with layout.activate():
    assert limited.program(**smaller.named) == 64
  assert limited.program.num_compiled == 1


def test_a_predictor_says_what_would_fit(monkeypatch):
  """Of eight rows of a T5 that has room for two."""
  limited = _Limited(lambda rows, *_: rows <= 2)
  monkeypatch.setattr(
    forward, "log_likelihood", lambda _, **x: limited._answer(**x)
  )
  predictor = Predictor(testing.CONFIG, _layout(), 40)
  with pytest.raises(OutOfMemory, match=r"^scoring 8 rows takes") as said:
    predictor.log_likelihood(_setting(_tokens(8, 16)), _tokens(8, 4))
  assert said.value.fitting() == Fitting(2)


def test_answers_that_do_not_fit_say_which_options_to_set():
  def said(found):
    with pytest.raises(OutOfMemory) as raised, answering_t5._advising(6):
      error = OutOfMemory("decoding 8 rows", 2**31, 2**30)
      error.fitting = lambda: found
      raise error
    return str(raised.value).partition(" for it: ")[2]

  assert said(Fitting(4)) == "set --batch_size to 4"
  # No more than were asked.
  assert (
    said(Fitting(8, 16)) == "set --batch_size to 6 and --input_length to 16"
  )
  assert (
    said(Fitting(targets=2)) == "set --batch_size to 6 and --max_length to 2"
  )
  assert said(None).startswith("no shorter input fits")
