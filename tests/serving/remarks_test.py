"""What is said about examples, by their lines."""

import pytest

from hyperjax.serving import remarks
from hyperjax.serving.examples import Example
from tests.serving import answering_t5_test


@pytest.mark.parametrize(
  "numbers, wanted",
  [
    ([], ""),
    ([0, 0], ""),  # not of a file
    ([3], "line 3"),
    ([7, 6, 3, 6], "lines 3, 6-7"),
    (range(6, 101), "lines 6-100"),
    (range(1, 30, 2), "lines 1, 3, 5, 7, 9, 11, 13, 15 and others"),
  ],
)
def test_lines_are_named_in_few_words(numbers, wanted):
  assert remarks.lines(numbers) == wanted


def test_each_oddity_is_one_remark_with_its_lines():
  t5 = answering_t5_test._t5()
  words = " ".join(["red"] * 40)
  given = [
    Example("red", "blue", 1),
    Example("red", "blue", 2),
    Example("red", "paris", 3),
    Example(words, "blue", 4),
    Example("alice", words, 5),
    Example(" ", "blue", 6),
  ]
  found = remarks.of(t5, given)
  most = t5.lengths.targets
  assert found == [
    "1 character of whitespace is lost in the model's tokenizer: line breaks, "
    "tabs, or spaces at an end or beside others (line 6)",
    "1 input is blank (line 6)",
    "1 example is given twice (line 2)",
    "1 input has several outputs (lines 1-3)",
    "1 input is cut to the 24 tokens that the T5 reads (line 4)",
    f"1 output is longer than the {most} tokens of an answer, so the T5 cannot "
    "give them (line 5)",
  ]
  assert remarks.of(t5, given[:2])[1:] == ["all outputs are the same"]
  assert remarks.of(t5, given[:1]) == []


def test_what_the_tokenizer_cannot_write_is_counted():
  t5 = answering_t5_test._t5()
  given = [Example("red", "blue", 1), Example("red ", "zebra", 2)]
  found = remarks.of(t5, given)
  assert found[0] == "1 token is unknown to the model's tokenizer (line 2)"
  assert found[1].startswith("1 character of whitespace is lost in the model's")
  assert found[1].endswith("(line 2)")
  # One in each of two lines, which are both named.
  found = remarks.of(t5, [*given, Example(" red", "lion", 3)])
  assert found[0] == "2 tokens are unknown to the model's tokenizer (lines 2-3)"
  assert found[1].startswith("2 characters of whitespace are lost in the model")
  assert found[1].endswith("(lines 2-3)")
