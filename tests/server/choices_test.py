"""Text of answers: where it stops, and what of it can be told while it grows."""

import pytest

from hyperjax.server import choices
from hyperjax.server.jobs import Answered


class Letters:
  """Ids that are characters, but for one byte of a character of two."""

  def decode(self, ids):
    data = b"".join(b"\xc3" if i == 1000 else bytes([i]) for i in ids)
    return data.decode(errors="replace")


END = 0


def reader(*stop):
  return choices.Reader(Letters(), frozenset({END}), stop)


def answered(text, has_ended=False):
  tokens = [*text.encode(), *[END] * has_ended]
  values = [-0.25 * (i + 1) for i in range(len(tokens))]
  top = [[(tokens[i], values[i]), (END, -3.0)] for i in range(len(tokens))]
  return Answered(tokens, values, top, has_ended)


@pytest.mark.parametrize(
  ("stop", "text", "wanted"),
  [
    ((), "abc", ("abc", False)),
    (("x",), "abc", ("abc", False)),
    (("c", "b"), "abc", ("a", True)),
    (("abc",), "abc", ("", True)),
    (("cd",), "abcde", ("ab", True)),
  ],
)
def test_text_stops_before_the_first_of_the_stops(stop, text, wanted):
  assert reader(*stop).cut(text) == wanted


@pytest.mark.parametrize(
  ("stop", "text", "wanted"),
  [
    ((), "abc", "abc"),
    (("xyz",), "abx", "ab"),
    (("xyz",), "abxy", "ab"),
    (("xyz", "bq"), "ab", "a"),
    (("aab",), "aaa", "a"),
    (("xyz",), "x", ""),
    ((), "ab\ufffd", "ab"),
  ],
)
def test_what_may_still_change_is_not_told(stop, text, wanted):
  assert reader(*stop).safe(text) == wanted


@pytest.mark.parametrize("stop", [(), ("lo w",), ("o",), ("ld",), ("zzz",)])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_pieces_are_the_whole_answer(stop, size):
  text, own = "hello world", reader(*stop)
  follower, told = choices.Follower(own, 1), ""
  for end in range(size, len(text), size):
    piece, is_over = follower.more(0, answered(text[:end]))
    told += piece
    if is_over:
      break
  whole = own.choice(0, answered(text, True), None)
  assert told + follower.rest(0, whole["text"]) == whole["text"]
  assert whole["text"] == text.partition(stop[0])[0] if stop else text
  assert whole["finish_reason"] == "stop"


def test_a_character_of_two_bytes_is_told_whole():
  follower = choices.Follower(reader(), 1)
  half = Answered([97, 1000], [0.0, 0.0], None, False)
  assert follower.more(0, half) == ("a", False)
  whole = Answered([97, 1000, 0xA9], [0.0] * 3, None, False)
  assert follower.more(0, whole) == ("é", False)


def test_log_probabilities_are_of_the_tokens_that_are_told():
  told = reader("c").choice(2, answered("abcd", True), 2)
  assert told["index"] == 2
  assert told["logprobs"] == {
    "tokens": ["a", "b"],
    "token_logprobs": [-0.25, -0.5],
    "top_logprobs": [{"a": -0.25, "</s>": -3.0}, {"b": -0.5, "</s>": -3.0}],
    "text_offset": [0, 1],
  }


def test_an_answer_that_was_cut_says_so():
  told = reader().choice(0, answered("ab"), 0)
  assert told["finish_reason"] == "length"
  assert told["logprobs"]["top_logprobs"] is None
