"""The routes, and what each does."""

import asyncio
import contextlib
import json
import pathlib
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent import futures
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, Router

from hyperjax.server import bodies, choices, guard, refusals
from hyperjax.server.adapters_api import AdaptersApi
from hyperjax.server.guard import Guard
from hyperjax.server.jobs import Answered, Job
from hyperjax.server.service import Service

_PAGE = pathlib.Path(__file__).parent / "page"
_FILES = {
  "/": ("index.html", "text/html"),
  "/page.js": ("page.js", "text/javascript"),
  "/page.css": ("page.css", "text/css"),
}
# Nothing of others is loaded, run, or told.
_SAFE = {
  "Content-Security-Policy": "default-src 'self'; img-src data:; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cache-Control": "no-cache",
}
_LOOK = 0.5  # seconds between looks whether whoever asked still waits


def make(service: Service) -> Guard:
  """The ASGI application; its lifespan is the engine's."""
  api = _Api(service)
  adapters = AdaptersApi(service)
  routes = [
    Route(path, _page(*file), methods=["GET"]) for path, file in _FILES.items()
  ]
  for path, method, handler in (
    ("/healthz", "GET", api.health),
    ("/metrics", "GET", api.metrics),
    ("/v1/models", "GET", api.models),
    ("/v1/models/{name:path}", "GET", api.model),
    ("/v1/completions", "POST", api.complete),
    *adapters.routes,
  ):
    route = _counted(path, handler)
    routes.append(Route(path, route, methods=[method]))

  @contextlib.asynccontextmanager
  async def lifespan(_: Any) -> AsyncIterator[None]:
    service.start()
    try:
      yield
    finally:
      await asyncio.to_thread(service.stop)

  # Not a whole Starlette: what that makes of errors are no sentences in JSON.
  inner = Router(routes, redirect_slashes=False, lifespan=lifespan)
  options = service.options
  return Guard(
    inner,
    service.metrics,
    options.tokens,
    options.is_local,
    options.most_at_once,
  )


def _counted(
  path: str, handler: Callable[[Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
  async def counting(request: Request) -> Response:
    guard.named(request, path)
    return await handler(request)

  return counting


def _page(file: str, kind: str) -> Any:
  content = (_PAGE / file).read_bytes()

  async def page(request: Request) -> Response:
    guard.named(request, "page")
    return Response(content, media_type=kind, headers=_SAFE)

  return page


class _Api:
  """Answers, and what is to be known of the server."""

  def __init__(self, service: Service):
    self._service = service

  async def health(self, request: Request) -> Response:
    del request
    state = self._service.state
    return JSONResponse({"status": state}, 200 if state == "ready" else 503)

  async def metrics(self, request: Request) -> Response:
    del request
    content = await asyncio.to_thread(self._service.metrics.text)
    return Response(content, media_type="text/plain; version=0.0.4")

  async def models(self, request: Request) -> Response:
    del request
    names = await asyncio.to_thread(self._service.store.names)
    own = [self._service.described(self._service.t5_name, self._service.began)]
    own += [self._service.described(name, at) for name, at in names.items()]
    return JSONResponse({"object": "list", "data": own})

  async def model(self, request: Request) -> Response:
    name = request.path_params["name"]
    if name == self._service.t5_name:
      return JSONResponse(self._service.described(name, self._service.began))
    stored = await self._service.find(name)
    return JSONResponse(self._service.described(name, stored.created))

  async def complete(self, request: Request) -> Response:
    service = self._service
    service.check_ready()
    options = service.options
    content = await guard.body_of(
      request, options.most_bytes, options.body_seconds
    )
    asked = bodies.completion(bodies.parsed(content))
    rows, num_read = await service.rows(asked)
    answer = _Completion(service, asked, num_read)
    if asked.stream:
      return StreamingResponse(
        answer.events(rows),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache"},
      )
    job = Job(rows, answer.watch if asked.stop else None)
    found = await waited(request, service.engine.submit(job))
    return JSONResponse(answer.whole(found))


async def waited(request: Request, future: "futures.Future[Any]") -> Any:
  """What a future gives, which is cancelled once nobody waits for it."""
  wrapped = asyncio.wrap_future(future)
  try:
    while not (await asyncio.wait({wrapped}, timeout=_LOOK))[0]:
      if await request.is_disconnected():
        raise guard.Gone
    return wrapped.result()
  finally:
    future.cancel()


class _Completion:
  """The shape of one answer."""

  def __init__(self, service: Service, asked: bodies.Completion, num_read: int):
    self._asked, self._num_read = asked, num_read
    self._head = {
      "id": f"cmpl-{uuid.uuid4().hex}",
      "object": "text_completion",
      "created": int(time.time()),
      "model": asked.model,
    }
    self._engine = service.engine
    self._reader = choices.Reader(
      service.model.vocabulary,
      frozenset(service.model.backbone.config.eos_ids),
      asked.stop,
    )

  def watch(self, row: int, answered: Answered) -> bool:
    """Whether a stop has come."""
    del row
    return self._reader.cut(self._reader.text(answered.tokens))[1]

  def whole(self, found: list[Answered]) -> dict[str, Any]:
    every = [
      self._reader.choice(i, one, self._asked.logprobs)
      for i, one in enumerate(found)
    ]
    return {**self._head, "choices": every, "usage": self._usage(found)}

  def _usage(self, found: list[Answered]) -> dict[str, int]:
    written = sum(len(one.tokens) for one in found)
    return {
      "prompt_tokens": self._num_read,
      "completion_tokens": written,
      "total_tokens": self._num_read + written,
    }

  def events(self, rows: list[Any]) -> AsyncIterator[bytes]:
    """Pieces as they come, each answer's end, and that all is told.

    Raises:
      Full, Oversized, Stopping: it is not taken; nothing has been told yet.
    """
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    follower = choices.Follower(self._reader, len(rows))

    def watch(row: int, answered: Answered) -> bool:
      text, is_over = follower.more(row, answered)
      if text and self._asked.logprobs is None:
        loop.call_soon_threadsafe(pieces.put_nowait, _piece(row, text))
      return is_over

    future = self._engine.submit(Job(rows, watch))
    future.add_done_callback(
      lambda _: loop.call_soon_threadsafe(pieces.put_nowait, None)
    )
    return self._told(future, pieces, follower)

  async def _told(
    self,
    future: "futures.Future[list[Answered]]",
    pieces: "asyncio.Queue[dict[str, Any] | None]",
    follower: choices.Follower,
  ) -> AsyncIterator[bytes]:
    try:
      while (piece := await pieces.get()) is not None:
        yield self._event([piece])
      found = future.result()
      for row, one in enumerate(found):
        last = self._reader.choice(row, one, self._asked.logprobs)
        if self._asked.logprobs is None:
          last["text"] = follower.rest(row, last["text"])
        yield self._event([last])
      if self._asked.include_usage:
        yield self._event([], usage=self._usage(found))
    except Exception as error:
      # The status is sent: what is wrong can only be told as an event.
      refusal = refusals.of(error)
      if refusal is None:
        raise
      yield f"data: {json.dumps(refusal.body)}\n\n".encode()
    finally:
      future.cancel()
    yield b"data: [DONE]\n\n"

  def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
    content = json.dumps({**self._head, "choices": choices, **more})
    return f"data: {content}\n\n".encode()


def _piece(row: int, text: str) -> dict[str, Any]:
  return {"index": row, "text": text, "logprobs": None, "finish_reason": None}
