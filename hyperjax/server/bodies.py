"""The bodies of requests, checked field by field."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hyperjax.data import json_text, nearest
from hyperjax.models.row_decoding import TOP
from hyperjax.server.refusals import Refusal

MOST_PROMPTS, MOST_ANSWERS, MOST_STOPS = 128, 16, 4
MOST_EXAMPLES = 1000
_MOST_STOP = 200  # characters
# Of OpenAI's shape, with what leaves answers as they are; nothing else is taken.
_NEUTRAL: Mapping[str, Collection[Any]] = {
  "best_of": (None, 1),
  "echo": (None, False),
  "frequency_penalty": (None, 0),
  "presence_penalty": (None, 0),
  "logit_bias": (None, {}),
  "suffix": (None, ""),
}
_COMPLETION = [
  "model",
  "prompt",
  "max_tokens",
  "temperature",
  "top_p",
  "n",
  "stop",
  "logprobs",
  "stream",
  "stream_options",
  "seed",
  "user",
  "examples",
  "instruction",
]
_ADAPTER = ["name", "examples", "instruction", "check", "metric", "overwrite"]


@dataclasses.dataclass(frozen=True)
class Completion:
  """What `POST /v1/completions` asks."""

  model: str
  prompts: list[str]
  is_one: bool  # whether one prompt was given, by itself
  max_tokens: int | None
  temperature: float
  top_p: float
  n: int
  stop: list[str]
  logprobs: int | None
  stream: bool
  include_usage: bool
  seed: int | None
  examples: list[tuple[str, str]]  # that are put before each prompt


@dataclasses.dataclass(frozen=True)
class NewAdapter:
  """What `POST /v1/adapters` asks."""

  name: str | None
  examples: list[tuple[str, str]]
  instruction: str | None
  check: bool
  metric: str | None
  overwrite: bool


def parsed(content: bytes) -> dict[str, Any]:
  """A body that is one JSON object.

  Raises:
    Refusal: it is none.
  """
  try:
    found = json_text.parsed("the request's body", content)
  except ValueError as error:
    raise Refusal(400, str(error), code="bad_json") from error
  return found


def completion(body: Mapping[str, Any]) -> Completion:
  """Checks a request for answers.

  Raises:
    Refusal: names the field, its rule and what came.
  """
  _check_known(body, [*_COMPLETION, *_NEUTRAL])
  for name, allowed in _NEUTRAL.items():
    value = body.get(name)
    if value not in allowed:
      raise _wrong(body, name, "be left out: it is not offered here")
  prompt = _needed(body, "prompt")
  prompts = [prompt] if isinstance(prompt, str) else prompt
  _texts(body, "prompt", prompts, 1, MOST_PROMPTS)
  stop = body.get("stop")
  stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
  _texts(body, "stop", stops, 0, MOST_STOPS, _MOST_STOP)
  if "" in stops:
    raise _wrong(body, "stop", "not be empty")
  stream = _flag(body, "stream", False)
  options = body.get("stream_options") or {}
  if not isinstance(options, dict):
    raise _wrong(body, "stream_options", "be an object")
  logprobs = body.get("logprobs")
  if logprobs is False:
    logprobs = None
  found = Completion(
    model=_text(body, "model"),
    prompts=list(prompts),
    is_one=isinstance(prompt, str),
    max_tokens=_whole(body, "max_tokens", 1, 2**31 - 1),
    temperature=_number(body, "temperature", 0.0, 0, 100),
    top_p=_number(body, "top_p", 1.0, 0, 1),
    n=_whole(body, "n", 1, MOST_ANSWERS) or 1,
    stop=list(stops),
    logprobs=None if logprobs is None else _whole(body, "logprobs", 0, TOP),
    stream=stream,
    include_usage=_flag(options, "include_usage", False),
    seed=_whole(body, "seed", -(2**63), 2**63 - 1),
    examples=_examples(body, least=0),
  )
  if found.n * len(found.prompts) > MOST_PROMPTS:
    raise _wrong(
      body, "n", f"times the prompts be at most {MOST_PROMPTS} answers"
    )
  if found.n > 1 and not found.temperature:
    raise _wrong(
      body, "n", "be 1 at temperature 0, where all answers are the same"
    )
  return found


def new_adapter(body: Mapping[str, Any]) -> NewAdapter:
  """Checks a request for an adapter; of its metric nobody here knows.

  Raises:
    Refusal: as for `completion`.
  """
  _check_known(body, _ADAPTER)
  optional = {}
  for name in ("name", "instruction", "metric"):
    optional[name] = None if body.get(name) is None else _text(body, name)
  return NewAdapter(
    examples=_examples(body, least=0 if optional["instruction"] else 1),
    check=_flag(body, "check", True),
    overwrite=_flag(body, "overwrite", False),
    **optional,
  )


def kept_name(body: Mapping[str, Any]) -> tuple[str, bool]:
  """Under which name a draft is to be kept, and whether in place of another."""
  _check_known(body, ["name", "overwrite"])
  return _text(body, "name"), _flag(body, "overwrite", False)


def _examples(body: Mapping[str, Any], least: int) -> list[tuple[str, str]]:
  given = body.get("examples")
  given = [] if given is None else given
  pair = '{"input": text, "output": text} or [input, output], both text'
  rule = f"be a list of {least} to {MOST_EXAMPLES} examples, each {pair}"
  if not isinstance(given, list) or not least <= len(given) <= MOST_EXAMPLES:
    raise _wrong(body, "examples", rule)
  found = []
  for number, one in enumerate(given):
    if isinstance(one, dict) and one.keys() == {"input", "output"}:
      one = [one["input"], one["output"]]
    where = f"examples[{number}]"
    is_pair = isinstance(one, list) and len(one) == 2
    if not is_pair or not all(isinstance(text, str) for text in one):
      raise _wrong({where: one}, where, f"be {pair}")
    _texts({where: one}, where, one, 2, 2)
    if not one[1].strip():
      raise _wrong({where: one}, where, "have an output that is not blank")
    found.append((one[0], one[1]))
  return found


def _check_known(body: Mapping[str, Any], known: Sequence[str]) -> None:
  for name in body:
    if name not in known:
      hint = nearest.name(name, known, 0.6)
      raise Refusal(
        400,
        f"{name!r:.100} is no field of this request: there are "
        f"{', '.join(sorted(known))}{hint}",
        name[:100],
        "unknown_field",
      )


def _needed(body: Mapping[str, Any], name: str) -> Any:
  if body.get(name) is None:
    raise Refusal(
      400, f"{name} is needed: the request has none", name, "missing_field"
    )
  return body[name]


def _text(body: Mapping[str, Any], name: str) -> str:
  _texts(body, name, [_needed(body, name)], 1, 1)
  return body[name]


def _texts(
  body: Mapping[str, Any],
  name: str,
  given: Any,
  least: int,
  most: int,
  longest: int | None = None,
) -> None:
  """Refuses what is no list of so many texts that can be encoded."""
  bound = "" if longest is None else f" of at most {longest} characters"
  rule = f"be text, or a list of {least} to {most} texts{bound}"
  if least == most == 1:
    rule = "be text"
  if not isinstance(given, list) or not least <= len(given) <= most:
    raise _wrong(body, name, rule)
  for text in given:
    if not isinstance(text, str) or (longest and len(text) > longest):
      raise _wrong(body, name, rule)
    try:
      text.encode()
    except UnicodeEncodeError as error:
      raise _wrong(body, name, "hold no halves of surrogate pairs") from error


def _flag(body: Mapping[str, Any], name: str, default: bool) -> bool:
  value = body.get(name)
  if value is None:
    return default
  if not isinstance(value, bool):
    raise _wrong(body, name, "be true or false")
  return value


def _whole(
  body: Mapping[str, Any], name: str, least: int, most: int
) -> int | None:
  value = body.get(name)
  if value is None:
    return None
  is_whole = isinstance(value, int) and not isinstance(value, bool)
  if not is_whole or not least <= value <= most:
    raise _wrong(body, name, f"be a whole number from {least} to {most}")
  return value


def _number(
  body: Mapping[str, Any], name: str, default: float, least: float, most: float
) -> float:
  value = body.get(name)
  if value is None:
    return default
  is_number = isinstance(value, int | float) and not isinstance(value, bool)
  if not is_number or not least <= value <= most:
    raise _wrong(body, name, f"be a number from {least} to {most}")
  return float(value)


def _wrong(body: Mapping[str, Any], name: str, rule: str) -> Refusal:
  shown = json_text.shown(body.get(name))
  return Refusal(
    400, f"{name} must {rule}; got {shown:.200}", name, "bad_value"
  )
