"""Who may ask, and how much: no model is needed to refuse."""

import asyncio
import errno
import json
import os

import pytest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from hyperjax.server import guard
from hyperjax.server.metrics import Metrics


async def _app(scope, receive, send):
  from starlette.requests import Request

  content = b""
  if scope["method"] == "POST":
    content = await guard.body_of(Request(scope, receive), 10, 0.05)
  await JSONResponse({"read": len(content)})(scope, receive, send)


def client(address="http://localhost:8000", most_at_once=4, **changes):
  options = {"tokens": (), "is_local": True} | changes
  own = guard.Guard(_app, Metrics(), most_at_once=most_at_once, **options)
  return TestClient(own, address)


@pytest.mark.parametrize(
  ("authorization", "status"),
  [
    (None, 401),
    ("Bearer", 401),
    ("Bearer wrong", 401),
    ("Basic second", 401),
    ("bearer second", 200),
    ("Bearer first", 200),
  ],
)
def test_one_of_the_tokens_is_needed(authorization, status):
  headers = {} if authorization is None else {"Authorization": authorization}
  asked = client(tokens=("first", "second"), is_local=False)
  answer = asked.get("/v1/models", headers=headers)
  assert answer.status_code == status
  if status == 401:
    assert "--token_file" in answer.json()["error"]["message"]
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_the_page_and_its_health_need_no_token():
  asked = client(tokens=("first",), is_local=False)
  assert asked.get("/").status_code == asked.get("/healthz").status_code == 200
  assert asked.get("/metrics").status_code == 401


@pytest.mark.parametrize(
  ("address", "status"),
  [
    ("http://localhost:8000", 200),
    ("http://127.0.0.1:8000", 200),
    ("http://[::1]:8000", 200),
    ("http://localhost", 200),
    ("http://evil.example:8000", 403),
    ("http://localhost.evil.example", 403),
    ("http://10.0.0.1", 403),
  ],
)
def test_another_sites_name_for_this_machine_is_refused(address, status):
  assert client(address).get("/v1/models").status_code == status


@pytest.mark.parametrize(
  ("content", "kind", "status"),
  [
    (b"{}", "application/json", 200),
    (b"{}", "application/json; charset=utf-8", 200),
    (b"{}", "text/plain", 415),
    (b"x" * 10, "application/json", 200),
    (b"x" * 11, "application/json", 413),
  ],
)
def test_bodies_are_bounded_json(content, kind, status):
  headers = {"content-type": kind}
  answer = client().post("/", content=content, headers=headers)
  assert answer.status_code == status


def test_a_body_without_a_length_is_bounded_too():
  def parts():
    yield b"x" * 6
    yield b"x" * 6

  headers = {"content-type": "application/json"}
  answer = client().post("/", content=parts(), headers=headers)
  assert answer.status_code == 413


def test_a_body_that_does_not_come_is_not_waited_for():
  own = guard.Guard(_app, Metrics(), (), True, 4)
  scope = {
    "type": "http",
    "method": "POST",
    "path": "/",
    "headers": [
      (b"host", b"localhost"),
      (b"content-type", b"application/json"),
    ],
  }
  sent = []

  async def ask():
    async def receive():
      await asyncio.sleep(30)

    async def send(message):
      sent.append(message)

    await own(scope, receive, send)

  asyncio.run(ask())
  assert sent[0]["status"] == 408


def test_more_requests_than_may_be_at_once_are_told_to_come_again():
  answer = client(most_at_once=0).get("/v1/models")
  assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"


def _asked(app):
  """What a guard sends of an application, and how its metrics count it."""
  metrics = Metrics()
  own = guard.Guard(app, metrics, (), True, 4)
  scope = {
    "type": "http",
    "method": "GET",
    "path": "/",
    "headers": [(b"host", b"localhost")],
  }
  sent = []

  async def send(message):
    sent.append(message)

  asyncio.run(own(scope, None, send))
  return sent, metrics.text().decode()


@pytest.mark.parametrize(
  ("number", "status", "code"),
  [
    (errno.EIO, 500, "disk_error"),
    (errno.ENOSPC, 507, "disk_full"),
    (errno.EDQUOT, 507, "disk_full"),
  ],
)
def test_an_error_of_the_disk_is_answered_and_logged(
  number, status, code, caplog
):
  async def app(scope, receive, send):
    raise OSError(number, os.strerror(number), "/the/folder")

  sent, metrics = _asked(app)
  assert sent[0]["status"] == status
  told = json.loads(sent[1]["body"])["error"]
  assert told["code"] == code and "/the/folder" in told["message"]
  assert "/the/folder" in caplog.text
  assert f'status="{status}"' in metrics and 'status="499"' not in metrics


def test_whoever_is_gone_is_not_answered():
  async def app(scope, receive, send):
    raise guard.Gone

  sent, metrics = _asked(app)
  assert sent == [] and 'status="499"' in metrics


def test_a_connection_that_breaks_is_no_error_of_the_disk(caplog):
  own = guard.Guard(_app, Metrics(), (), True, 4)
  scope = {
    "type": "http",
    "method": "GET",
    "path": "/",
    "headers": [(b"host", b"localhost")],
  }

  async def send(message):
    raise BrokenPipeError(errno.EPIPE, "broken")

  asyncio.run(own(scope, None, send))
  assert own.num_at_once == 0 and not caplog.text


def test_a_host_is_known_whatever_its_case():
  headers = {"Host": "LOCALHOST:8765"}
  assert client().get("/v1/models", headers=headers).status_code == 200


def test_a_path_is_not_what_it_would_be_without_its_last_line_end():
  answer = client().get("/v1/models/one%0A")
  assert answer.status_code == 404
  assert "/v1/models/one\\n" in answer.json()["error"]["message"]
  assert client().get("/v1/models/one").status_code == 200


def test_chat_is_told_where_completions_are():
  async def app(scope, receive, send):
    raise HTTPException(404)

  own = guard.Guard(app, Metrics(), (), True, 4)
  asked = TestClient(own, "http://localhost")
  for path, is_told in (("/v1/chat/completions", True), ("/v1/other", False)):
    answer = asked.post(path, json={})
    assert answer.status_code == 404
    message = answer.json()["error"]["message"]
    assert path in message and ("ask /v1/completions" in message) == is_told
