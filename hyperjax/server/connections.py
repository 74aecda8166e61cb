"""One connection: what asks nothing, or heads without an end, is closed."""

import asyncio
import http
import json

from uvicorn.protocols.http import httptools_impl

from hyperjax.server.refusals import Refusal

HEAD_SECONDS = 10.0  # from its first byte, or the connection's begin
MOST_HEAD = 2**16  # bytes of a request's line and headers
# Of those that ask nothing, too: more than there are places for requests, so that
# idle ones take none from them.
LEAST_CONNECTIONS, CONNECTIONS_A_REQUEST = 1024, 4


def most_connections(most_at_once: int) -> int:
  """How many may be open where so many requests are answered at once."""
  return max(LEAST_CONNECTIONS, CONNECTIONS_A_REQUEST * most_at_once)


class _LargeHead(Exception):  # noqa: N818 - a state, not a fault
  """Stops the parser."""


class Connection(httptools_impl.HttpToolsProtocol):
  """Bounds what comes before it is known who asks.

  `limit_concurrency` of uvicorn's configuration is of connections here: how many
  requests are answered at once is the guard's.
  """

  _deadline: asyncio.TimerHandle | None = None  # of the next head
  _is_head = False  # whether one has begun and not ended
  _head_size = 0

  def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
    super().connection_made(transport)
    most, self.limit_concurrency = self.limit_concurrency, None
    if most is not None and len(self.connections) > most:
      self._refuse(
        503,
        f"{most} connections are open, and no more are taken: try again later",
        "too_many_connections",
      )
    else:
      self._await_head()

  def connection_lost(self, exc: Exception | None) -> None:
    self._stop_waiting()
    super().connection_lost(exc)

  def data_received(self, data: bytes) -> None:
    if self.transport.is_closing():
      return
    if self._deadline is None and not self._is_answering:
      self._await_head()
    super().data_received(data)
    if self._is_head and not self.transport.is_closing():
      self._head_size += len(data)
      if self._head_size > MOST_HEAD:
        self._refuse_large()

  def on_message_begin(self) -> None:
    self._is_head, self._head_size = True, 0
    super().on_message_begin()

  def on_headers_complete(self) -> None:
    # Several reads are counted above; this is of a head that came in one.
    pairs = sum(len(name) + len(value) for name, value in self.headers)
    self._head_size = max(self._head_size, len(self.url) + pairs)
    if self._head_size > MOST_HEAD:
      raise _LargeHead
    self._is_head = False
    self._stop_waiting()
    super().on_headers_complete()

  def send_400_response(self, msg: str) -> None:
    """What uvicorn says of what it cannot read, as an error of this server."""
    del msg
    if self._is_head and self._head_size > MOST_HEAD:
      self._refuse_large()
    else:
      self._refuse(400, "this is no request of HTTP/1.1", "bad_http")

  @property
  def _is_answering(self) -> bool:
    return self.cycle is not None and not self.cycle.response_complete

  def _await_head(self) -> None:
    self._deadline = self.loop.call_later(HEAD_SECONDS, self._late)

  def _stop_waiting(self) -> None:
    if self._deadline is not None:
      self._deadline.cancel()
      self._deadline = None

  def _late(self) -> None:
    if self._is_head:
      self._refuse(
        408,
        f"the headers have not come within {HEAD_SECONDS:g} seconds",
        "slow_headers",
      )
    else:
      self.transport.close()

  def _refuse_large(self) -> None:
    self._refuse(
      431,
      f"a request's line and headers have at most {MOST_HEAD} bytes",
      "headers_too_large",
    )

  def _refuse(self, status: int, message: str, code: str) -> None:
    """Answers, unless within another answer, and closes."""
    if not self._is_answering:
      body = json.dumps(Refusal(status, message, code=code).body).encode()
      self.transport.write(
        b"HTTP/1.1 %d %s\r\n"
        b"content-type: application/json\r\n"
        b"content-length: %d\r\n"
        b"connection: close\r\n\r\n%s"
        % (status, http.HTTPStatus(status).phrase.encode(), len(body), body)
      )
    self.transport.close()
