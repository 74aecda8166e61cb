"""Whatever is asked, the answer is an error with a sentence, and the server goes on."""

import asyncio
import json

import hypothesis
import pytest
from hypothesis import strategies as st

from hyperjax.server import app
from tests import served_example

pytestmark = pytest.mark.slow  # programs are compiled

PROMPT = served_example.questions()[0]
GOOD = {"model": "one", "prompt": PROMPT}
PAIRS = [list(pair) for pair in served_example.pairs(served_example.RULES[0])]
GOOD_ADAPTER = {"examples": PAIRS, "check": False}
NAMES = st.one_of(
  st.sampled_from(
    [
      "",
      ".",
      "..",
      "../one",
      "one/../other",
      "/etc/passwd",
      "one\0",
      "one\n",
      "%2e%2e%2fone",
      "nobody",
      "draft-0",
      "ONE",
      "a" * 101,
      "одна",
      "\ud800",
    ]
  ),
  st.text(max_size=8),
)
VALUES = st.recursive(
  st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=12),
    st.just("x" * 5000),
    st.just("\ud800"),
  ),
  lambda inner: st.one_of(
    st.lists(inner, max_size=4),
    st.dictionaries(st.text(max_size=6), inner, max_size=3),
  ),
  max_leaves=6,
)
FIELDS = st.sampled_from(
  [
    "model",
    "prompt",
    "max_tokens",
    "temperature",
    "top_p",
    "n",
    "stop",
    "logprobs",
    "stream",
    "seed",
    "echo",
    "best_of",
    "suffix",
    "examples",
    "stream_options",
    "nothing",
  ]
)
OF_ADAPTERS = st.sampled_from(
  "examples instruction name check metric overwrite nothing".split()  # noqa: SIM905
)
RAW = st.one_of(
  st.binary(max_size=60),
  st.sampled_from(
    [
      b"",
      b"{",
      b"null",
      b"[]",
      b'"x"',
      b"\xff\xfe",
      b"[" * 5000,
      b'{"a":' * 5000,
      b'{"n":' + b"9" * 6000 + b"}",
      b"\xef\xbb\xbf{}",
      b"{}" + b" " * 2**17,
    ]
  ),
)


@st.composite
def requests(draw):
  """Method, path, headers and body, of which one thing at least is odd."""
  path = draw(st.sampled_from(["/v1/completions", "/v1/adapters", "name"]))
  if path == "name":
    method = draw(st.sampled_from(["GET", "DELETE", "POST", "PUT", "PATCH"]))
    kind = draw(
      st.sampled_from(
        [
          "models/{}",
          "adapters/{}",
          "adapters/{}/keep",
          "adapters/{}/download",
          "{}",
        ]
      )
    )
    name = draw(NAMES.filter(lambda x: x not in ("one", "other", "t5")))
    name = name.encode(errors="replace").hex("%") if name else ""
    name = "".join(f"%{name[i : i + 2]}" for i in range(0, len(name), 3))
    return (
      method,
      "/v1/" + kind.format(name or "%20"),
      b"application/json",
      b"{}",
    )
  if draw(st.booleans()):
    kind = draw(st.sampled_from([b"application/json", b"text/plain", b""]))
    return "POST", path, kind, draw(RAW)
  is_adapter = path.endswith("adapters")
  fields = OF_ADAPTERS if is_adapter else FIELDS
  changed = draw(st.dictionaries(fields, VALUES, min_size=1, max_size=3))
  if is_adapter:
    return (
      "POST",
      path,
      b"application/json",
      json.dumps(GOOD_ADAPTER | changed).encode(),
    )
  if draw(st.booleans()):
    changed["model"] = draw(NAMES)
  changed = {"stream": False} | changed
  if changed["stream"] is True:
    changed["stream"] = None
  body = json.dumps(GOOD | changed).encode()
  return "POST", path, b"application/json", body


def is_refused(answer) -> None:
  told = answer.json()["error"]
  assert len(told["message"].split()) > 3, told
  assert told["type"] and set(told) == {"message", "type", "param", "code"}
  assert answer.status_code < 500, told


@hypothesis.settings(max_examples=300)
@hypothesis.given(request=requests())
def test_odd_requests_are_refused_in_a_sentence(client, named, request):
  method, path, kind, body = request
  headers = {"content-type": kind} if kind else {}
  answer = client.request(method, path, content=body, headers=headers)
  if answer.status_code not in (200, 201):
    is_refused(answer)
    return
  # What was odd may be allowed, such as another temperature.
  found = answer.json()
  assert "choices" in found or "check" in found
  if found.get("is_kept"):
    client.delete(f"/v1/adapters/{found['id']}")


def test_the_server_goes_on_after_all_that(client, service, named):
  assert client.post("/v1/completions", json=GOOD).status_code == 200
  assert service.state == "ready" and service.engine.num_waiting == 0
  assert {x.name for x in service.store.folder.iterdir()} == set(named)


@hypothesis.settings(max_examples=20)
@hypothesis.given(
  cut=st.integers(0, 60), wait=st.sampled_from([0, 0.001, 0.01])
)
def test_clients_that_leave_are_forgotten(client, service, named, cut, wait):
  """In the middle of a body, of a wait, of a stream."""
  guard = app.make(service)
  body = json.dumps(GOOD | {"stream": cut % 2 == 0}).encode()
  scope = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "method": "POST",
    "path": "/v1/completions",
    "raw_path": b"/v1/completions",
    "query_string": b"",
    "headers": [
      (b"content-type", b"application/json"),
      (b"host", b"localhost"),
    ],
  }
  is_whole = cut >= 30
  messages = [
    {
      "type": "http.request",
      "body": body if is_whole else body[:cut],
      "more_body": not is_whole,
    },
    {"type": "http.disconnect"},
  ]

  async def receive():
    if len(messages) > 1:
      return messages.pop(0)
    await asyncio.sleep(wait)
    return messages[0]

  async def send(message):
    raise OSError("gone")

  asyncio.run(guard(scope, receive, send))
  assert guard.num_at_once == 0
  assert client.post("/v1/completions", json=GOOD).status_code == 200
