"""What stands before every request: who may ask, how much, and how errors answer."""

import asyncio
import hmac
import ipaddress
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hyperjax.server import refusals
from hyperjax.server.metrics import Metrics
from hyperjax.server.refusals import Refusal

_log = logging.getLogger(__name__)
# What tells nothing of adapters: the page asks for the token itself.
OPEN = frozenset({"/", "/page.js", "/page.css", "/healthz"})
# What OpenAI's clients ask elsewhere, and what is meant here.
_OTHERS = dict.fromkeys(
  ("/v1/chat/completions", "/v1/responses"),
  "this model holds no conversations; ask /v1/completions, with a prompt",
)


class Gone(Exception):  # noqa: N818 - a state, not a fault
  """Whoever asked does not wait any more."""


def is_loopback(host: str) -> bool:
  """Whether an address, or a name for one, is of this machine alone."""
  if host.lower() == "localhost":
    return True
  try:
    return ipaddress.ip_address(host.strip("[]")).is_loopback
  except ValueError:
    return False


def refused(refusal: Refusal) -> JSONResponse:
  headers = {}
  if refusal.status == 401:
    headers["WWW-Authenticate"] = "Bearer"
  if refusal.status in (429, 503):
    headers["Retry-After"] = "1"
  if refusal.status in (408, 413):
    headers["Connection"] = "close"  # what is left of the body is not read
  return JSONResponse(refusal.body, refusal.status, headers)


class Guard:
  """Answers what may not pass; counts all."""

  def __init__(
    self,
    app: ASGIApp,
    metrics: Metrics,
    tokens: Collection[str],
    is_local: bool,
    most_at_once: int,
  ):
    """Describes a guard.

    Args:
      app: what stands behind it.
      metrics: hears of every request.
      tokens: of which a request must bring one; without any, all may ask.
      is_local: whether it is asked by names of this machine alone: a page of
        another site that is given this address by its own name is refused.
      most_at_once: requests.
    """
    self._app, self._metrics = app, metrics
    self._tokens = [token.encode() for token in tokens]
    self._is_local, self._most_at_once = is_local, most_at_once
    self.num_at_once = 0

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
      await self._app(scope, receive, send)
      return
    began, status = time.perf_counter(), 499  # as nginx has it: nobody waited

    async def noting(message: Message) -> None:
      nonlocal status
      if message["type"] == "http.response.start":
        status = message["status"]
      try:
        await send(message)
      except OSError as error:  # of the connection, and of nothing else
        raise Gone from error

    scope["app"] = (
      self  # or a router answers by itself what it has no route for
    )
    self.num_at_once += 1
    try:
      await self._pass(scope, receive, noting)
    except (ClientDisconnect, Gone):
      pass  # there is nobody to be answered
    finally:
      self.num_at_once -= 1
      route = scope.get("state", {}).get("route", "other")
      self._metrics.request(route, status, time.perf_counter() - began)

  async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
    has_begun = False

    async def beginning(message: Message) -> None:
      nonlocal has_begun
      has_begun = True
      await send(message)

    try:
      self._check(scope)
      await self._app(scope, receive, beginning)
    except (ClientDisconnect, Gone):
      raise
    except Exception as error:
      refusal = refusals.of(error)
      if isinstance(error, HTTPException):
        refusal = _no_route(scope, error)
      if refusal is not None and isinstance(error, OSError):
        _log.error("%s %s failed: %s", scope["method"], scope["path"], refusal)
      if refusal is None:
        _log.exception("%s %s failed", scope["method"], scope["path"])
        refusal = Refusal(
          500,
          f"the server has a fault: {type(error).__name__}; its log says more",
          code="fault",
        )
      if has_begun:
        raise
      await refused(refusal)(scope, receive, send)

  def _check(self, scope: Scope) -> None:
    if self.num_at_once > self._most_at_once and scope["path"] != "/healthz":
      raise Refusal(
        503,
        f"{self._most_at_once} requests are being answered, and no more are taken: "
        "try again later",
        code="too_many_requests",
      )
    headers = dict(scope["headers"])
    if self._is_local:
      self._check_host(headers)
    if self._tokens and scope["path"] not in OPEN:
      self._check_token(headers)
    if "\n" in scope["path"]:  # which a route would take without its last one
      raise Refusal(
        404, f"there is nothing at {scope['path']!r:.200}", code="no_route"
      )

  def _check_host(self, headers: Mapping[bytes, bytes]) -> None:
    named = headers.get(b"host", b"").decode("latin-1")
    host = named.rpartition(":")[0] if named[-1:] != "]" else named
    if not is_loopback(host or named):
      raise Refusal(
        403,
        f"this server answers as localhost alone, and was asked as {named!r:.100}",
        code="bad_host",
      )

  def _check_token(self, headers: Mapping[bytes, bytes]) -> None:
    kind, _, token = headers.get(b"authorization", b"").partition(b" ")
    given = token.strip()
    # All are compared, so that the time tells nothing.
    found = [hmac.compare_digest(given, own) for own in self._tokens]
    if kind.lower() != b"bearer" or not any(found):
      raise Refusal(
        401,
        "a token is needed: `Authorization: Bearer TOKEN`, with one of those in "
        "the server's --token_file",
        code="invalid_api_key",
      )


def _no_route(scope: Scope, error: HTTPException) -> Refusal:
  path, method = scope["path"], scope["method"]
  if error.status_code == 405:
    allowed = (error.headers or {}).get("Allow", "")
    return Refusal(
      405, f"{path:.200} takes {allowed}, not {method:.20}", code="bad_method"
    )
  if path in _OTHERS:
    return Refusal(
      404, f"there is nothing at {path}: {_OTHERS[path]}", code="no_route"
    )
  return Refusal(
    error.status_code, f"there is nothing at {path:.200}", code="no_route"
  )


async def body_of(request: Request, most: int, seconds: float) -> bytes:
  """A request's body of JSON, of at most so many bytes, within so many seconds.

  Raises:
    Refusal: it is larger, later, or of another type.
  """
  kind = request.headers.get("content-type", "")
  # A page of another site can send anything else without asking.
  if kind.partition(";")[0].strip().lower() != "application/json":
    raise Refusal(
      415,
      f"Content-Type must be application/json, got {kind!r:.100}",
      code="bad_content_type",
    )
  too_large = Refusal(
    413, f"a body has at most {most} bytes", code="body_too_large"
  )
  said = request.headers.get("content-length", "")
  if said.isdecimal() and int(said[:20]) > most:
    raise too_large

  async def read() -> bytes:
    parts, size = [], 0
    async for part in request.stream():
      size += len(part)
      if size > most:
        raise too_large
      parts.append(part)
    return b"".join(parts)

  try:
    return await asyncio.wait_for(read(), seconds)
  except TimeoutError as error:
    raise Refusal(
      408, f"the body has not come within {seconds:g} seconds", code="slow_body"
    ) from error


def named(request: Request, route: str) -> Any:
  """Says which route a request took, for whoever counts."""
  request.scope.setdefault("state", {})["route"] = route
