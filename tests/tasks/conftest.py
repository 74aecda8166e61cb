"""Where fake files of the benchmarks lie."""

import pathlib

import pytest


@pytest.fixture
def data(tmp_path: pathlib.Path) -> pathlib.Path:
  """Of P3's subsets, for a provider whose data folder is `tmp_path`."""
  return tmp_path / "p3" / "data"
