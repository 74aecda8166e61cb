"""How orbax is asked to write and read checkpoints."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from hyperjax import paths
from hyperjax.checkpoints import facts, failures, manifest, matching

ITEMS = PARAMS, OPT_STATE, FACTS = "params", "opt_state", facts.ITEM
PARTIAL = ".orbax-checkpoint-tmp"  # after a step, until all is written


def manager(
  folder: pathlib.Path,
  read_only: bool,
  preserved: Callable[[Sequence[int]], list[int]],
  before_name: Callable[[], None],
) -> ocp.CheckpointManager:
  """What writes and reads the checkpoints in a folder, which it makes.

  Args:
    folder: of the run.
    read_only: nothing is made, and nothing that a save cut short left removed.
    preserved: which of these steps are kept, once a further one is saved.
    before_name: called, in a thread, when all of a save is written and it is yet
      to get its name.
  """
  failures.quiet()
  return ocp.CheckpointManager(
    str(folder),
    options=ocp.CheckpointManagerOptions(
      preservation_policy=_Policy(preserved),
      create=not read_only,
      cleanup_tmp_directories=not read_only,
      async_options=ocp.AsyncOptions(post_finalization_callback=before_name),
    ),
    item_handlers={
      PARAMS: ocp.StandardCheckpointHandler(),
      OPT_STATE: ocp.StandardCheckpointHandler(),
      FACTS: ocp.JsonCheckpointHandler(),
    },
  )


@contextlib.contextmanager
def named(
  folder: pathlib.Path, item: str, *passed: type[Exception]
) -> Iterator[None]:
  """Says which checkpoint is concerned where orbax meets a damaged file.

  It takes its files for whole: what comes of others is any exception, and of
  an array that cannot be read `Exception` itself. Those of `passed` say more as
  they are.
  """
  try:
    yield
  except (
    FileNotFoundError,
    MemoryError,
    paths.StoreFailed,
    jax.errors.JaxRuntimeError,
    manifest.Damaged,
    *passed,
  ):
    raise
  except Exception as error:
    raise ValueError(
      f"{folder} ({item}) is damaged: {type(error).__name__}: {error}"
    ) from error


class _Policy(checkpoint_managers.PreservationPolicy):
  """What `Kept` says, as orbax asks for it."""

  def __init__(self, kept: Callable[[Sequence[int]], list[int]]):
    self._kept = kept

  def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
    del context
    found = [info.step for info in checkpoints]
    kept = set(self._kept(sorted(found)))
    return [step in kept for step in found]


def shapes(folder: Any) -> dict[str, tuple[int, ...]]:
  """The shape of each array of an item; none of one that is not there.

  Args:
    folder: of the item, a path of orbax's own.
  """
  if not folder.is_dir():
    return {}
  # Not the manager's, which opens all items.
  handler = ocp.StandardCheckpointHandler()
  try:
    return matching.shapes(handler.metadata(folder).tree)
  finally:
    handler.close()


def check_database(folder: pathlib.Path) -> None:
  """Raises where what lists an item's arrays is damaged.

  Orbax reads arrays side by side, and where all of them fail at once its threads
  may end the process.
  """
  import tensorstore

  if (folder / "manifest.ocdbt").is_file():
    base: Any = {"driver": "file", "path": f"{folder}/"}
    if paths.is_bucket(folder):
      base = f"{folder}/"
    spec = {"driver": "ocdbt", "base": base}
    tensorstore.KvStore.open(spec).result().list().result()
