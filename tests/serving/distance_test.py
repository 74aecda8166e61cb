"""How answers of two adapters are compared, by numbers known beforehand."""

import pytest

from hyperjax.memory.answer import Fitting, OutOfMemory
from hyperjax.serving import answering_t5, distance

SAID = {
  "again": ["a b", "c", "d e f", "g", "h"],
  "update": ["a b", "x", "d e f", "y", "h"],
}


class _Answering:
  """A T5 with fixed answers that has room for so many inputs at once."""

  def __init__(self, room, fitting=None):
    self.room, self.sizes = room, []
    self.fitting = fitting or Fitting(rows=room)

  def answer(self, inputs, own, options):
    self.sizes.append((len(inputs), options.batch_size))
    if options.batch_size > self.room:
      error = OutOfMemory("a batch", 2, 1)
      error.fitting = lambda: self.fitting
      raise error
    texts = [SAID[own[0]][int(text)] for text in inputs]
    tokens = [text.split() for text in texts]
    return answering_t5.Answers(texts, tokens, 0)

  def divergence(self, inputs, one, other, answers, batch_size):
    assert (one, other) == ("again", "update") and batch_size <= self.room
    # Of the tokens that all examples at once answer with.
    assert answers == [SAID["again"][int(text)].split() for text in inputs]
    return sum(map(len, answers)) / 4 + 1


def _of_answers(t5, batch_size):
  inputs = ["0", "1", "2", "3", "4"]
  return distance.of_answers(t5, "again", "update", inputs, batch_size)


@pytest.mark.parametrize(
  "batch_size, batches, sizes", [(8, 1, [5]), (2, 3, [2, 2, 1])]
)
def test_shares_are_of_inputs_and_divergence_is_by_token(
  batch_size, batches, sizes
):
  t5 = _Answering(8)
  found = _of_answers(t5, batch_size)
  # Eight tokens at 1/4, and 1 for each batch.
  assert found == distance.Answers(5, 3 / 5, (8 / 4 + batches) / 8)
  assert t5.sizes == [(size, batch_size) for size in sizes for _ in range(2)]


def test_answers_without_a_token_diverge_by_what_was_found():
  class Silent(_Answering):
    def answer(self, inputs, own, options):
      return answering_t5.Answers([""] * len(inputs), [[]] * len(inputs), 0)

    def divergence(self, inputs, one, other, answers, batch_size):
      return 0.5

  assert _of_answers(Silent(8), 8) == distance.Answers(5, 1.0, 0.5)


def test_what_does_not_fit_together_is_answered_in_smaller_batches():
  t5 = _Answering(2)
  assert _of_answers(t5, 4).equal == 3 / 5
  assert t5.sizes[0] == (4, 4)
  assert {size for _, size in t5.sizes[1:]} == {2}


@pytest.mark.parametrize(
  "fitting",
  [Fitting(rows=4), Fitting(rows=2, inputs=16), Fitting(inputs=16), Fitting()],
  ids=str,
)
def test_where_fewer_inputs_do_not_help_it_is_said(fitting):
  t5 = _Answering(2, fitting)
  with pytest.raises(OutOfMemory):
    _of_answers(t5, 4)
  assert len(t5.sizes) == 1


def test_where_nothing_fits_it_is_said():
  t5 = _Answering(2)
  t5.fitting = None
  with pytest.raises(OutOfMemory):
    _of_answers(t5, 4)
