"""What asks nothing, or never ends its headers, keeps nobody from being answered."""

import contextlib
import json
import socket
import threading
import time

import pytest
import uvicorn
from starlette.responses import JSONResponse

from hyperjax.server import connections

GOOD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


async def _app(scope, receive, send):
  await JSONResponse({"path": scope["path"]})(scope, receive, send)


@contextlib.contextmanager
def listening(most=100):
  config = uvicorn.Config(
    _app,
    port=0,
    http=connections.Connection,
    limit_concurrency=most,
    log_level="error",
    lifespan="off",
  )
  server = uvicorn.Server(config)
  with socket.create_server(("127.0.0.1", 0)) as own:
    thread = threading.Thread(target=lambda: server.run([own]))
    thread.start()
    try:
      yield own.getsockname()
    finally:
      server.should_exit = True
      thread.join()


@pytest.fixture(scope="module")
def address():
  with listening() as address:
    yield address


def answered(address, *parts):
  """The status of an answer to what is sent, and its JSON; it is then closed."""
  with socket.create_connection(address, timeout=5) as own:
    with contextlib.suppress(ConnectionError):
      for part in parts:
        own.sendall(part)
    return read(own)


def read(own):
  content = b""
  with contextlib.suppress(ConnectionError):
    while part := own.recv(2**16):
      content += part
  if not content:
    return None, None
  head, _, body = content.partition(b"\r\n\r\n")
  return int(head.split()[1]), json.loads(body)


def test_who_asks_is_answered(address):
  end = b"Connection: close\r\n\r\n"
  assert answered(address, GOOD, end) == (200, {"path": "/"})
  largest = b"X: " + b"x" * (2**16 - 100) + b"\r\n"
  assert answered(address, GOOD, largest + end) == (200, {"path": "/"})


@pytest.mark.parametrize(
  "parts",
  [
    [GOOD, b"X: " + b"x" * 2**16],  # without an end
    [GOOD, *[b"X: " + b"x" * 2**12 + b"\r\n"] * 17],
    [GOOD + b"X: " + b"x" * 2**16 + b"\r\n\r\n"],
    [b"GET /" + b"x" * 2**16],
  ],
)
def test_large_headers_are_refused(address, parts):
  status, told = answered(address, *parts)
  assert status == 431 and told["error"]["code"] == "headers_too_large"
  assert "65536 bytes" in told["error"]["message"]


def test_what_is_no_http_is_refused_in_json(address):
  status, told = answered(address, b"\x16\x03\x01\x02\x00\x01")
  assert status == 400 and told["error"]["code"] == "bad_http"


def test_a_large_body_is_no_head(address):
  head = GOOD + b"Content-Length: 200000\r\nConnection: close\r\n\r\n"
  assert answered(address, head + b"x" * 10, b"x" * 199990)[0] == 200


def test_what_asks_nothing_is_closed_in_time(address, monkeypatch):
  monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
  own = [socket.create_connection(address, timeout=5) for _ in range(3)]
  own[1].sendall(GOOD)
  own[2].sendall(GOOD + b"\r\n")
  time.sleep(0.6)
  assert read(own[0]) == (None, None)
  assert read(own[1])[1]["error"]["code"] == "slow_headers"
  # Its headers have come: it may ask again, and has as long for the next ones.
  own[2].sendall(GOOD + b"Connection: close\r\n\r\n")
  with own[2].makefile("rb") as file:
    assert file.read().count(b"200 OK") == 2
  for one in own:
    one.close()


def test_no_more_connections_are_open_than_may_be():
  with listening(most=2) as address:
    own = [socket.create_connection(address, timeout=5) for _ in range(3)]
    status, told = read(own[2])
    assert (
      status == 503 and "2 connections are open" in told["error"]["message"]
    )
    own[0].sendall(GOOD + b"Connection: close\r\n\r\n")
    assert read(own[0])[0] == 200
    for one in own:
      one.close()


def test_idle_connections_take_no_places_of_requests():
  assert connections.most_connections(3) == 1024
  assert connections.most_connections(1024) == 4096
