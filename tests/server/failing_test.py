"""A server that cannot become ready, or go on, says so and ends."""

import socket
import sys

import pytest
from starlette.testclient import TestClient

from hyperjax.server import app, listening
from hyperjax.server.engine import Engine
from hyperjax.server.jobs import Stopping
from hyperjax.server.options import Limits
from tests.server import server_example


def test_an_engine_that_ends_tells_and_takes_nothing_more():
  heard = []
  engine = Engine(None, None, Limits(), on_failed=heard.append)
  engine.start()
  engine.call(lambda: sys.exit("the end"))
  engine._thread.join(10)
  assert [str(error) for error in heard] == ["the end"]
  with pytest.raises(Stopping):
    engine.call(dict)


def test_an_engine_that_is_stopped_has_not_failed():
  heard = []
  engine = Engine(None, None, Limits(), on_failed=heard.append)
  engine.start()
  assert engine.call(lambda: 3).result(10) == 3
  engine.stop()
  assert heard == []


@pytest.mark.slow
def test_health_knows_of_an_engine_that_has_ended(served, tmp_path):
  service = server_example.make(served / "lora", tmp_path)
  service.engine.start()
  service.state = "ready"
  client = TestClient(app.make(service), "http://localhost")
  assert client.get("/healthz").status_code == 200
  service.engine.call(lambda: sys.exit("the end"))
  service.engine._thread.join(10)
  found = client.get("/healthz")
  assert found.status_code == 503
  assert "the end" in found.json()["status"]


@pytest.mark.slow
def test_a_server_that_cannot_become_ready_ends(served, tmp_path, monkeypatch):
  service = server_example.make(served / "lora", tmp_path)

  def compile_nothing(tell):
    raise RuntimeError("no such instruction")

  monkeypatch.setattr(service.programs, "compile", compile_nothing)
  with socket.create_server(("127.0.0.1", 0)) as own:
    listening.serve(service, own)
  assert service.failure == "it cannot become ready: no such instruction"
  assert not service.engine._thread.is_alive()
