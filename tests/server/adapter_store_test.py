"""Names, the folder and what is in memory: no T5 is needed for either."""


import pytest

from hyperjax.server import programs
from hyperjax.server.adapter_store import AdapterStore
from tests import adapter_example


@pytest.fixture
def adapter():
  return adapter_example.adapter()


def held(adapter, where="here"):
  if adapter.info.origin.get("broken"):
    raise ValueError(f"{where} does not fit")
  return programs.Held(adapter.info, adapter.arrays, adapter)


@pytest.fixture
def store(tmp_path):
  return AdapterStore(tmp_path / "adapters", held, 2, 4, "t5")
