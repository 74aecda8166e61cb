"""Orbax checkpoints of what is trained, with the position in the data.

A checkpoint holds `params`, `opt_state` and a few numbers. What they are of, and
where the frozen weights are, is in the run's record. Restoring is strict.
"""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from hyperjax import sharding, trees
from hyperjax.memory.program import refuse_held
from hyperjax.train_state import TrainState

_PARAMS, _OPT_STATE, _FACTS = "params", "opt_state", "facts"


@dataclasses.dataclass(frozen=True)
class Facts:
  """What a checkpoint says besides arrays; JSON values."""

  position: int  # contexts trained on
  pending: Mapping[str, Any]  # metrics of steps since the last line was written
  key: Sequence[int]  # of the state: raw key data


class Checkpoints:
  """The checkpoints of one run, newest last."""

  def __init__(
    self,
    folder: pathlib.Path,
    max_to_keep: int | None = 3,
    read_only: bool = False,
  ):
    """Describes the checkpoints in `folder`; nothing is made before a save.

    Args:
      folder: of one run.
      max_to_keep: how many are kept, the last ones; None for all.
      read_only: of another run, which may be going on.
    """
    self._folder = folder.absolute()
    self._max_to_keep, self._read_only = max_to_keep, read_only

  @functools.cached_property
  def _manager(self) -> ocp.CheckpointManager:
    """Makes the folder: a run refused before its first step leaves none.

    What saves cut short have left in it is removed.
    """
    return ocp.CheckpointManager(
      self._folder,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=None if self._read_only else self._max_to_keep,
        create=not self._read_only,
        cleanup_tmp_directories=not self._read_only,
      ),
      item_handlers={
        _PARAMS: ocp.StandardCheckpointHandler(),
        _OPT_STATE: ocp.StandardCheckpointHandler(),
        _FACTS: ocp.JsonCheckpointHandler(),
      },
    )

  def latest(self) -> int | None:
    """The step of the last whole checkpoint."""
    if not self._folder.is_dir():
      return None
    return self._manager.latest_step()

  def save(self, state: TrainState, facts: Facts) -> None:
    """Begins to save; what is not yet whole when the process dies is ignored."""
    items = {
      _PARAMS: ocp.args.StandardSave(state.params),
      _FACTS: ocp.args.JsonSave(dataclasses.asdict(facts)),
    }
    # Weights that no optimizer here has made have none; orbax saves no empty
    # tree.
    if jax.tree.leaves(state.opt_state):
      items[_OPT_STATE] = ocp.args.StandardSave(state.opt_state)
    self._manager.save(int(state.step), args=ocp.args.Composite(**items))

  def facts(self, step: int) -> Facts:
    """What the checkpoint of `step` says of itself.

    Raises:
      ValueError: it is another program's checkpoint.
    """
    try:
      with self._named(step, _FACTS, KeyError):
        restored = self._manager.restore(
          step, args=ocp.args.Composite(**{_FACTS: ocp.args.JsonRestore()})
        )
      found = restored[_FACTS]
      # An earlier version's say more, which is in the run's record now.
      facts = Facts(found["position"], found["pending"], found["key"])
    except (KeyError, TypeError, FileNotFoundError) as error:
      raise ValueError(
        f"{self._folder / str(step)} is not a checkpoint of HyperJAX: {error}"
      ) from error
    _check_facts(facts, f"{self._folder / str(step)} ({_FACTS})")
    return facts

  def steps(self) -> list[int]:
    """The steps that are kept."""
    return sorted(self._manager.all_steps()) if self._folder.is_dir() else []

  def restore_params(self, step: int, abstract: Any) -> Any:
    """Parameters alone, on the shardings of `abstract`.

    Raises:
      ValueError: parameters are missing, left over, or of another shape; all
        are listed.
    """
    self._check(step, _PARAMS, abstract)
    self._check_memory(abstract)
    return self._restored(step, _PARAMS, abstract)

  def restore_part(self, step: int, abstract: Any) -> Any:
    """Some of the parameters, by their first names; the others stay unread.

    Raises:
      ValueError: as for `restore_params`, of these.
    """
    self._check(step, _PARAMS, abstract, tuple(abstract))
    self._check_memory(abstract)
    reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    try:
      with self._named(step, _PARAMS):
        return reader.restore(
          self._folder / str(step) / _PARAMS,
          args=ocp.args.PyTreeRestore(
            item=abstract,
            restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
            partial_restore=True,
          ),
        )
    finally:
      reader.close()

  def restore(self, step: int, abstract: TrainState, frozen: Any) -> TrainState:
    """The state at `step`; `frozen` comes from its own source.

    Raises:
      ValueError: as for `restore_params`, for the optimizer's state too.
    """
    params = self.restore_params(step, abstract.params)
    self._check(step, _OPT_STATE, abstract.opt_state)
    opt_state = self._restored(step, _OPT_STATE, abstract.opt_state)
    key_data = np.asarray(self.facts(step).key, np.uint32)
    own = jax.eval_shape(jax.random.key_data, abstract.key).shape
    if key_data.shape != own:
      raise ValueError(
        f"{self._folder / str(step)} ({_FACTS}): key has {key_data.size} "
        f"numbers, this run's {own}"
      )
    place = jax.jit(
      lambda: (
        jnp.int32(step),
        jax.random.wrap_key_data(jnp.asarray(key_data)),
      ),
      out_shardings=(abstract.step.sharding, abstract.key.sharding),
    )
    on_devices, key = place()
    return TrainState(
      step=on_devices,
      params=params,
      frozen=frozen,
      opt_state=opt_state,
      key=key,
    )

  def wait(self) -> None:
    """Returns once everything begun is saved."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    if "_manager" in vars(self):
      self._manager.close()

  def _restored(self, step: int, item: str, abstract: Any) -> Any:
    with self._named(step, item):
      return self._manager.restore(
        step,
        args=ocp.args.Composite(**{item: ocp.args.StandardRestore(abstract)}),
      )[item]

  @contextlib.contextmanager
  def _named(
    self, step: int, item: str, *passed: type[Exception]
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
      jax.errors.JaxRuntimeError,
      *passed,
    ):
      raise
    except Exception as error:
      raise ValueError(
        f"{self._folder / str(step)} ({item}) is damaged: "
        f"{type(error).__name__}: {error}"
      ) from error

  def _check_memory(self, abstract: Any) -> None:
    """Refuses what does not fit where it is to be."""
    devices = list(jax.tree.leaves(abstract)[0].sharding.addressable_devices)
    refuse_held(
      f"what {self._folder} holds",
      sharding.device_bytes(abstract),
      devices,
      "a smaller model, or more memory is needed",
    )

  def _check(
    self,
    step: int,
    item: str,
    abstract: Any,
    parts: Sequence[str] | None = None,
  ) -> None:
    """Refuses what is not as `abstract`; only of `parts`, where they are given."""
    with self._named(step, item):
      _check_database(self._folder / str(step) / item)
      metadata = self._manager.item_metadata(step)[item]
      found = {} if metadata is None else _shapes(metadata.tree)
    if parts is not None:
      found = {
        name: shape
        for name, shape in found.items()
        if name.partition("/")[0] in parts
      }
    wanted = _shapes(abstract)
    wrong = [
      f"missing: {name}" for name in sorted(wanted.keys() - found.keys())
    ]
    wrong += [f"extra: {name}" for name in sorted(found.keys() - wanted.keys())]
    wrong += [
      f"wrong shape: {name} is {found[name]}, not {wanted[name]}"
      for name in sorted(wanted.keys() & found.keys())
      if wanted[name] != found[name]
    ]
    if wrong:
      raise ValueError(
        f"{self._folder / str(step)} ({item}) is a checkpoint of another "
        f"model:{trees.listing(wrong)}"
      )


def _check_database(folder: pathlib.Path) -> None:
  """Raises where what lists an item's arrays is damaged.

  Orbax reads arrays side by side, and where all of them fail at once its threads
  may end the process.
  """
  import tensorstore

  if (folder / "manifest.ocdbt").is_file():
    spec = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{folder}/"}}
    tensorstore.KvStore.open(spec).result().list().result()


def _check_facts(facts: Facts, where: str) -> None:
  """Refuses what no checkpoint says of itself."""
  if type(facts.position) is not int or facts.position < 0:
    raise ValueError(
      f"{where}: position must be a whole number, got {facts.position!r:.80}"
    )
  key = facts.key if isinstance(facts.key, list) else [None]
  if not key or any(type(x) is not int or not 0 <= x < 2**32 for x in key):
    raise ValueError(
      f"{where}: key must be whole numbers of 32 bits, got {facts.key!r:.80}"
    )
  pending: Any = facts.pending
  for name, pair in (pending if isinstance(pending, dict) else {"": 0}).items():
    numbers = pair if isinstance(pair, list) and len(pair) == 2 else [None]
    if any(type(x) not in (int, float) for x in numbers):
      raise ValueError(
        f"{where}: pending must be a sum and a weight by name, got {name!r:.80} "
        f"{pair!r:.80}"
      )


def key_data(key: jax.Array) -> list[int]:
  """A key as whole numbers, for `Facts`."""
  return [int(x) for x in jax.random.key_data(key)]


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
  """Shape of each array by its path; lists and named tuples read alike."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  shapes = {}
  for path, leaf in leaves:
    names = []
    for entry in path:
      for attribute in ("key", "name", "idx"):
        if hasattr(entry, attribute):
          names.append(str(getattr(entry, attribute)))
          break
    shapes["/".join(names)] = tuple(leaf.shape)
  return shapes
