"""Adapters over HTTP: written from examples, checked, kept, fetched, removed."""

import asyncio
import io
import pathlib
import tempfile
import zipfile
from collections.abc import Callable
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hyperjax import checks
from hyperjax.interop import peft
from hyperjax.server import bodies, guard
from hyperjax.server.adapter_store import DRAFT, Stored
from hyperjax.server.bodies import NewAdapter
from hyperjax.server.refusals import Refusal
from hyperjax.server.service import Service
from hyperjax.serving import verdict
from hyperjax.serving.examples import Fitted

_CHECKS = 4  # that are made at once
_PAGE = 1000  # adapters that are listed at most
_FORMS = ("hyperjax", "peft")


class AdaptersApi:
  """Routes below /v1/adapters."""

  def __init__(self, service: Service):
    self._service = service
    self._checkers = anyio.CapacityLimiter(_CHECKS)

  @property
  def routes(self) -> list[tuple[str, str, Callable[[Request], Any]]]:
    path = "/v1/adapters"
    return [
      (path, "POST", self.create),
      (path, "GET", self.listing),
      (path + "/{name:path}/keep", "POST", self.keep),
      (path + "/{name:path}/download", "GET", self.download),
      (path + "/{name:path}", "GET", self.get),
      (path + "/{name:path}", "DELETE", self.delete),
    ]

  async def create(self, request: Request) -> Response:
    """Examples in, an adapter and its check out; kept if it has a name."""
    service = self._service
    service.check_ready()
    asked = bodies.new_adapter(bodies.parsed(await self._body(request)))
    if asked.name is not None:
      await asyncio.to_thread(
        service.store.check_free, asked.name, asked.overwrite
      )
    if asked.metric is not None:
      fault = checks.rule_of(verdict.Metric).fault("metric", asked.metric)
      if fault is not None:
        raise Refusal(400, fault, "metric", "bad_value")
    fitted = await asyncio.to_thread(self._fit, asked)
    adapter = await asyncio.wrap_future(service.engine.write(fitted))
    service.metrics.written.inc()
    facts: dict[str, Any] = {"examples": _read_of(fitted), "answers": []}
    if asked.check and asked.examples:
      check, facts["answers"] = await anyio.to_thread.run_sync(
        service.check,
        asked.examples,
        asked.instruction,
        asked.metric,
        limiter=self._checkers,
      )
      adapter = verdict.with_check(adapter, check)
    held = await asyncio.to_thread(
      service.programs.prepared, adapter, "the new adapter"
    )
    if asked.name is None:
      name = service.store.draft(held, facts)
      stored = service.store.get(name)
    else:
      name = asked.name
      stored = await asyncio.to_thread(
        service.store.keep, name, held, facts, asked.overwrite
      )
    return JSONResponse(self._described(name, stored), 201)

  async def listing(self, request: Request) -> Response:
    """Names in their order, at most a thousand behind `after`."""
    after = request.query_params.get("after", "")
    names = await asyncio.to_thread(self._service.store.names)
    some = [name for name in names if name > after]
    return JSONResponse(
      {
        "object": "list",
        "data": [{"id": x, "created": names[x]} for x in some[:_PAGE]],
        "has_more": len(some) > _PAGE,
      }
    )

  async def get(self, request: Request) -> Response:
    name = request.path_params["name"]
    return JSONResponse(self._described(name, await self._service.find(name)))

  async def delete(self, request: Request) -> Response:
    name = request.path_params["name"]
    await asyncio.to_thread(self._service.store.delete, name)
    return JSONResponse({"id": name, "object": "adapter", "deleted": True})

  async def keep(self, request: Request) -> Response:
    """Gives a draft a name in the folder."""
    store = self._service.store
    draft = request.path_params["name"]
    body = bodies.parsed(await self._body(request))
    name, overwrite = bodies.kept_name(body)
    if not draft.startswith(DRAFT):
      raise Refusal(400, f"{draft!r:.120} is no draft, and is kept already")
    stored = await self._service.find(draft)
    kept = await asyncio.to_thread(
      store.keep, name, stored.held, stored.facts, overwrite
    )
    store.forget(draft)  # it may have been pushed out meanwhile
    return JSONResponse(self._described(name, kept), 201)

  async def download(self, request: Request) -> Response:
    """A zip file of the adapter's folder, or of PEFT's."""
    form = request.query_params.get("form", _FORMS[0])
    if form not in _FORMS:
      raise Refusal(
        400,
        f"form must be one of {', '.join(_FORMS)}; got {form!r:.80}",
        "form",
      )
    name = request.path_params["name"]
    stored = await self._service.find(name)
    content = await asyncio.to_thread(_zipped, name, stored, form)
    file = f"{name}.zip" if form == "hyperjax" else f"{name}-{form}.zip"
    return Response(
      content,
      media_type="application/zip",
      headers={"Content-Disposition": f'attachment; filename="{file}"'},
    )

  async def _body(self, request: Request) -> bytes:
    options = self._service.options
    return await guard.body_of(
      request, options.most_bytes, options.body_seconds
    )

  def _described(self, name: str, stored: Stored) -> dict[str, Any]:
    info = stored.held.info
    facts = stored.facts or {
      "examples": {"read": info.origin.get("demonstrations", {}).get("count")},
    }
    return {
      "id": name,
      "object": "adapter",
      "created": stored.created,
      "t5": self._service.t5_name,
      "is_kept": not name.startswith(DRAFT),
      "kind": info.spec.label,
      "forms": [x for x in _FORMS if x not in info.spec.not_exported],
      "check": info.check,
      **facts,
    }

  def _fit(self, asked: NewAdapter) -> Fitted:
    try:
      return self._service.model.fit(asked.examples, asked.instruction)
    except ValueError as error:
      raise Refusal(400, str(error), "examples", "bad_value") from error


def _read_of(fitted: Fitted) -> dict[str, Any]:
  """Which examples the hypermodel has read, and which had no room."""
  return {
    "read": len(fitted.kept),
    "dropped": [
      {"input": example.input, "output": example.output, "tokens": tokens}
      for example, tokens, _ in fitted.dropped
    ],
  }


def _zipped(name: str, stored: Stored, form: str) -> bytes:
  """A folder in a zip file; its arrays would hardly shrink.

  Raises:
    Refusal: adapters of its kind have no such form.
  """
  info = stored.held.info
  if form in info.spec.not_exported:
    raise Refusal(
      409,
      f"{info.spec.label} cannot be had as {form}: {info.spec.not_exported[form]}",
      "form",
      "no_such_form",
    )
  with tempfile.TemporaryDirectory(prefix="hyperjax-") as scratch:
    folder = pathlib.Path(scratch) / name
    if form == "peft":
      folder.mkdir()
      arrays = stored.held.adapter.arrays
      peft.write_folder(folder, arrays, info.config, None)
    else:
      stored.held.adapter.save(folder)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
      for path in sorted(folder.rglob("*")):
        file.write(path, f"{name}/{path.relative_to(folder)}")
    return content.getvalue()
