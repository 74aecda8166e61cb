"""Eight simulated devices for every test; where the real data lies."""

import os

# Before jax is imported: meshes of up to eight devices on any machine, and
# programs that compile fast, since tests run them once or twice.
os.environ["XLA_FLAGS"] = " ".join(
  [
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
  ]
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
DATA = pathlib.Path(
  os.environ.get("HYPERJAX_TEST_DATA", ROOT.parent / "shared" / "data")
)


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
  """Real data in the data sets' own formats, which is not part of the project."""
  if not DATA.is_dir():
    pytest.skip(f"no real data in {DATA}; set HYPERJAX_TEST_DATA")
  return DATA
