"""A small server: its model answers badly, and differently under each adapter."""

import contextlib
import pathlib
import time
from collections.abc import Iterator

import jax
from starlette.testclient import TestClient

from hyperjax import serving, sharding
from hyperjax.server import app, service
from hyperjax.server.options import Limits, Options

JSON = {"content-type": "application/json"}
OPTIONS = {
  "batch_size": 4,
  "in_memory": 8,
  "on_disk": 12,
  "most_bytes": 2**16,
  "limits": Limits(queue=32, writes=4, wait=0.001, timeout=20.0),
}


def make(run: pathlib.Path, folder: pathlib.Path, **changes) -> service.Service:
  one_device = sharding.MeshSpec().build(jax.devices()[:1])
  model = serving.load(str(run), layout=one_device)
  options = Options(**(OPTIONS | changes))
  return service.Service(model, folder, options)


@contextlib.contextmanager
def running(served: service.Service) -> Iterator[TestClient]:
  """What asks it, once it is ready."""
  with TestClient(app.make(served), "http://localhost") as client:
    await_ready(client)
    yield client


def await_ready(client) -> None:
  until = time.monotonic() + 300
  while client.get("/healthz").status_code != 200:
    assert time.monotonic() < until, client.get("/healthz").text
    time.sleep(0.05)
