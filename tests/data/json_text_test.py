"""JSON of files: what is refused, and how a message shows it."""

import json

import pytest

from hyperjax.data import json_text


def _nested(depth):
  return b'{"a": ' + b"[" * depth + b"]" * depth + b"}"


def test_what_is_nested_as_deep_as_allowed_is_read_and_deeper_is_refused():
  most = json_text.DEEPEST - 1  # the object is a level too
  found = json_text.parsed("f", _nested(most))
  for _ in range(most):
    (found,) = found.values() if isinstance(found, dict) else found
  assert found == []
  for depth in (most + 1, 900, 100_000):
    with pytest.raises(ValueError, match="f: nested deeper than 64 levels"):
      json_text.parsed("f", _nested(depth))


def test_many_values_beside_one_another_are_not_deep():
  content = json.dumps([[i] for i in range(1000)]).encode()
  assert len(json_text.parsed("f", content, list)) == 1000


def test_a_whole_number_of_too_many_digits_is_no_json():
  with pytest.raises(ValueError, match="f: not JSON"):
    json_text.parsed("f", b'{"a": ' + b"9" * 5000 + b"}")


def test_an_error_says_one_place_of_a_line_and_the_line_of_a_file():
  with pytest.raises(ValueError, match=r"f: not JSON: .* \(column 7\)$"):
    json_text.parsed("f", b'{"a": x}\n')
  with pytest.raises(ValueError, match=r" \(line 2, column 6\)$"):
    json_text.parsed("f", b'{\n"a": x}\n')


def test_a_value_of_another_kind_is_refused_with_its_beginning():
  with pytest.raises(ValueError, match=r"f: a JSON list is needed, got '\{\}'"):
    json_text.parsed("f", b"{}", list)


def test_a_message_shows_what_is_not_too_long_and_can_be_printed():
  assert json_text.shown([1, "a"]) == "[1, 'a']"
  assert json_text.shown("x" * 5000) == "'" + "x" * 199 + " ..."
  assert json_text.cut("a\ud800") == "a\\ud800"
