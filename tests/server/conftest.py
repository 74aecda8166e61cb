"""One small server for the tests of a process."""

from collections.abc import Iterator

import pytest

from tests import served_example


@pytest.fixture(scope="session")
def service(served, tmp_path_factory) -> Iterator:
  from tests.server import server_example  # imports jax

  own = server_example.make(
    served / "lora", tmp_path_factory.mktemp("adapters")
  )
  yield own
  own.stop()


@pytest.fixture(scope="session")
def client(service) -> Iterator:
  from tests.server import server_example

  with server_example.running(service) as client:
    yield client


@pytest.fixture(scope="session")
def named(client) -> list[str]:
  """Adapters of both rules, kept by these names."""
  for name, rule in zip(("one", "other"), served_example.RULES, strict=True):
    body = {
      "name": name,
      "check": False,
      "examples": [list(pair) for pair in served_example.pairs(rule)],
    }
    assert client.post("/v1/adapters", json=body).status_code == 201
  return ["one", "other"]
