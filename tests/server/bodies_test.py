"""Bodies of requests: what is taken, and in which words others are refused."""

import pytest

from hyperjax.server import bodies
from hyperjax.server.refusals import Refusal

GOOD = {"model": "m", "prompt": "x"}


def test_what_is_left_out_is_greedy_and_as_long_as_in_training():
  found = bodies.completion(GOOD)
  assert found.prompts == ["x"] and found.n == 1 and not found.stream
  assert found.temperature == 0 and found.max_tokens is None
  assert found.stop == [] and found.logprobs is None and found.seed is None


@pytest.mark.parametrize(
  ("changes", "name", "sentence"),
  [
    ({"model": None}, "model", "model is needed"),
    ({"model": 3}, "model", "model must be text; got 3"),
    ({"prompt": []}, "prompt", r"a list of 1 to 128 texts; got \[\]"),
    ({"prompt": ["x"] * 129}, "prompt", "a list of 1 to 128 texts"),
    ({"prompt": [1, 2]}, "prompt", r"a list of 1 to 128 texts; got \[1, 2\]"),
    ({"prompt": "\ud800"}, "prompt", "halves of surrogate pairs"),
    ({"max_tokens": 0}, "max_tokens", "a whole number from 1"),
    ({"max_tokens": True}, "max_tokens", "a whole number from 1"),
    ({"max_tokens": 2.0}, "max_tokens", "a whole number from 1"),
    ({"temperature": -1}, "temperature", "from 0 to 100; got -1"),
    ({"temperature": float("nan")}, "temperature", "a number from 0 to 100"),
    ({"temperature": 10**400}, "temperature", "a number from 0 to 100"),
    ({"top_p": 1.5}, "top_p", "from 0 to 1; got 1.5"),
    ({"n": 17}, "n", "from 1 to 16; got 17"),
    ({"n": 2}, "n", "be 1 at temperature 0"),
    ({"n": 2, "temperature": 1, "prompt": ["x"] * 65}, "n", "at most 128 ans"),
    ({"stop": [""]}, "stop", "not be empty"),
    ({"stop": ["a"] * 5}, "stop", "0 to 4 texts"),
    ({"logprobs": 6}, "logprobs", "from 0 to 5; got 6"),
    ({"stream": "yes"}, "stream", "true or false; got 'yes'"),
    ({"echo": True}, "echo", "be left out: it is not offered here"),
    ({"best_of": 2}, "best_of", "be left out"),
    ({"examples": [["x"]]}, r"examples[0]", "be {.* or .input, output., both"),
    ({"examples": [["x", 1]]}, r"examples[0]", r"be {.* text; got \['x', 1\]"),
    ({"examples": [["x", " "]]}, "examples[0]", "output that is not blank"),
    ({"temprature": 1}, "temprature", "did you mean 'temperature'"),
  ],
)
def test_each_field_is_refused_by_its_rule(changes, name, sentence):
  with pytest.raises(Refusal, match=sentence) as refusal:
    bodies.completion(GOOD | changes)
  assert refusal.value.status == 400 and refusal.value.param == name


def test_what_changes_nothing_is_taken():
  neutral = {"echo": False, "best_of": 1, "suffix": None, "logit_bias": {}}
  penalties = {"presence_penalty": 0.0, "frequency_penalty": 0, "user": "me"}
  assert bodies.completion(GOOD | neutral | penalties) == bodies.completion(
    GOOD
  )


def test_examples_are_pairs_or_objects():
  given = [["a", "b"], {"input": "c", "output": "d"}]
  found = bodies.new_adapter({"examples": given})
  assert found.examples == [("a", "b"), ("c", "d")]
  assert found.check and found.name is None and not found.overwrite


def test_an_instruction_can_stand_alone():
  assert bodies.new_adapter({"instruction": "do"}).examples == []
  with pytest.raises(Refusal, match="1 to 1000 examples"):
    bodies.new_adapter({"name": "x"})


@pytest.mark.parametrize(
  "content", [b"", b"[]", b"{", b"\xff", b"[" * 9000, b'{"a":' + b"9" * 9000]
)
def test_a_body_is_one_object_of_json(content):
  with pytest.raises(Refusal, match="the request's body"):
    bodies.parsed(content)
