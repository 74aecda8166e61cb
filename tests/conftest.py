"""Eight simulated devices for every test; where the real data lies."""

import gc
import importlib.metadata
import os
import tempfile

# Before jax is imported: meshes of up to eight devices on any machine, and
# programs that compile fast, since tests run them once or twice.
os.environ["XLA_FLAGS"] = " ".join(
  [
    os.environ.get("XLA_FLAGS", ""),
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    # Eight devices on few and busy cores: their threads may be late by more than
    # the 40 seconds after which XLA ends the process.
    "--xla_cpu_collective_call_terminate_timeout_seconds=600",
    # A quarter of the time to compile; later jaxlibs have no such choice.
    *(
      (
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
      )
      if importlib.metadata.version("jaxlib").startswith("0.10.")
      else ()
    ),
  ]
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Many tests run the same small programs: each is compiled once, whichever
# process meets it first, and also by the processes that tests start.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp())
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
# What is said of long compilations depends on how busy a machine is.
os.environ["HYPERJAX_WAITING"] = "off"

import pathlib
import shutil
import sys
from collections.abc import Callable, Collection, Iterator

import filelock
import hypothesis
import pytest

# The same examples in every run: a test that fails by chance belongs to nobody.
# `HYPOTHESIS_PROFILE=search` looks for new ones, and keeps those that fail.
hypothesis.settings.register_profile(
  "tests", derandomize=True, database=None, deadline=None, max_examples=25
)
hypothesis.settings.register_profile(
  "search", deadline=None, max_examples=1000, print_blob=True
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))

ROOT = pathlib.Path(__file__).parent.parent
# Tiny models of other programs (tests/data/README.md), and data sets of others.
MODELS = ROOT / "tests" / "data"
DATA = pathlib.Path(
  os.environ.get("HYPERJAX_TEST_DATA", ROOT.parent / "shared" / "data")
)


def pytest_collection_finish() -> None:
  """What has been imported is there to stay: it is not looked through for garbage.

  Nor is all the rest as often: traced programs are many small objects.
  """
  gc.collect()
  gc.freeze()
  gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
  """Real data in the data sets' own formats, which is not part of the project."""
  if not DATA.is_dir():
    pytest.skip(f"no real data in {DATA}; set HYPERJAX_TEST_DATA")
  return DATA


def forget_tasks(kept: Collection[str] = ()) -> None:
  """Empties seqio's registries but for `kept`, as in a new process."""
  import seqio

  for registry in (seqio.MixtureRegistry, seqio.TaskRegistry):
    for name in set(registry.names()) - set(kept):
      registry.remove(name)


@pytest.fixture(autouse=True)
def _fresh_registry() -> Iterator[None]:
  """A test's tasks are gone after it.

  seqio's registries are the process's, and refuse a name twice: which tests share
  a process is chance.
  """
  kept = set()
  if seqio := sys.modules.get("seqio"):
    for registry in (seqio.MixtureRegistry, seqio.TaskRegistry):
      kept |= set(registry.names())
  yield
  if "seqio" in sys.modules:
    forget_tasks(kept)


@pytest.fixture(autouse=True, scope="module")
def _fresh_programs(request: pytest.FixtureRequest) -> Iterator[None]:
  """What a test module keeps for its tests is forgotten after them.

  Each compiled program takes some mappings of memory, those for eight devices
  hundreds, and Linux gives a process 65,530 in all: XLA ends one that has no more.
  """
  yield
  for kept in list(vars(request.module).values()):
    if hasattr(kept, "cache_clear"):
      kept.cache_clear()
  if "jax" in sys.modules and _mappings() > 20_000:
    gc.collect()  # a second or two, so not after each
    if _mappings() > 20_000:
      sys.modules["jax"].clear_caches()
      gc.collect()


def _mappings() -> int:
  """Of memory, of this process; 0 where it does not say."""
  listed = pathlib.Path("/proc/self/maps")
  return listed.read_text().count("\n") if listed.exists() else 0


@pytest.fixture
def no_configuration() -> Iterator[None]:
  """gin's bindings, which are the process's, are none before and after."""
  import gin

  gin.clear_config(clear_constants=True)
  yield
  gin.clear_config(clear_constants=True)


def _made_once(
  factory: pytest.TempPathFactory,
  name: str,
  make: Callable[[pathlib.Path], None],
) -> pathlib.Path:
  """A folder that the first of several test processes fills, for all."""
  if "PYTEST_XDIST_WORKER" not in os.environ:
    folder = factory.mktemp(name)
    make(folder)
    return folder
  folder = factory.getbasetemp().parent / name
  made = folder.with_name(f"{name}.made")
  with filelock.FileLock(f"{folder}.lock"):
    if not made.exists():
      # In its place from the start: a run's record names folders.
      shutil.rmtree(folder, ignore_errors=True)
      folder.mkdir()
      make(folder)
      made.touch()
  return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """Stored tasks and a pretrained backbone, of `runs_example`."""
  from tests import runs_example  # imports jax

  def make(folder: pathlib.Path) -> None:
    runs_example.write_tasks(folder / "tokens")
    runs_example.write_tasks(folder / "tokens", "held_out", 10)
    runs_example.backbone(folder / "tokens", folder / "backbone").execute()

  return _made_once(tmp_path_factory, "world", make)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A backbone and a hypermodel of each kind, of `served_example`."""
  from tests import served_example  # imports jax

  return _made_once(tmp_path_factory, "served", served_example.make)


@pytest.fixture(scope="session")
def separate(
  served: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> pathlib.Path:
  """A hypermodel of each kind that encodes each demonstration by itself."""
  from tests import served_example  # imports jax

  def make(folder: pathlib.Path) -> None:
    for kind in served_example.SPECS:
      served_example.train(
        folder / kind,
        served / "tokens",
        kind,
        served / "backbone",
        lengths=served_example.SEPARATE,
      )

  return _made_once(tmp_path_factory, "separate", make)
