"""The checkpoints of one run, which orbax writes and reads."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp

from hyperjax import paths, sharding
from hyperjax.checkpoints import (
  facts as facts_of,
)
from hyperjax.checkpoints import (
  failures,
  manifest,
  matching,
  retention,
  staging,
  steps,
  storing,
)
from hyperjax.checkpoints.facts import Facts
from hyperjax.checks import disk
from hyperjax.memory.program import refuse_held
from hyperjax.train_state import TrainState

_PARAMS, _OPT_STATE, _FACTS = storing.ITEMS
_READ = _PARAMS, _FACTS  # of another run; who goes on with one reads all


class Checkpoints:
  """The checkpoints of one run, newest last."""

  def __init__(
    self,
    folder: pathlib.Path,
    kept: retention.Kept = retention.Kept(),
    read_only: bool = False,
    fence: paths.Fence = paths.NO_FENCE,
  ):
    """Describes the checkpoints in `folder`; nothing is made before a save.

    Args:
      folder: of one run.
      kept: which are kept.
      read_only: of another run, which may be going on.
      fence: raises where the folder may no longer be written to; asked before
        each save, and again before it gets its name.
    """
    self._folder = folder.absolute()
    self._local, self._staging = self._folder, None
    if staging.is_needed(folder):
      self._staging = staging.Staging(folder, read_only)
      self._local = self._staging.folder
    self._kept, self._read_only = kept, read_only
    self.fence = fence
    # Called before each save.
    self.before_save: list[Callable[[], None]] = [fence.check]
    self._saving: int | None = None  # the step whose save was begun last
    self._last_saved: int | None = None
    self._figures: dict[int, float | None] | None = None
    self._checked: set[int] = set()

  @functools.cached_property
  def _manager(self) -> ocp.CheckpointManager:
    """Makes the folder: a run refused before its first step leaves none.

    What saves cut short have left in it is removed.
    """
    return storing.manager(
      self._local, self._read_only, self._preserved, self._write_manifest
    )

  def latest(self) -> int | None:
    """The last step that has a checkpoint, unread."""
    found = self.steps()
    return found[-1] if found else None

  def last_whole(self) -> int | None:
    """The last step whose checkpoint's files are those that were written.

    One that is damaged is set aside, by the name `damaged-STEP`, where the run is
    one's own; else it is passed over. Both are said.

    Raises:
      Damaged: there are checkpoints, but none that is whole.
    """
    if self._read_only:
      return steps.last_whole(self._folder, _READ)
    if self._staging is not None:
      self._staging.begin()
    step = steps.last_whole_of_own(self._folder)
    self._last_saved = step
    if step is not None:
      self._checked.add(step)
    if self._folder.is_dir():
      _ = self._manager  # removes what saves cut short have left
    return step

  def save(self, state: TrainState, facts: Facts) -> None:
    """Begins to save; what is not yet whole when the process dies is ignored.

    Raises:
      SaveFailed: this save or the last one found no room, or may not write.
    """
    items = {
      _PARAMS: ocp.args.StandardSave(state.params),
      _FACTS: ocp.args.JsonSave(facts_of.content(facts)),
    }
    # Weights that no optimizer here has made have none; orbax saves no empty
    # tree.
    if jax.tree.leaves(state.opt_state):
      items[_OPT_STATE] = ocp.args.StandardSave(state.opt_state)
    self.wait()
    self._saving = step = int(state.step)
    with self._explained():
      for each in self.before_save:
        each()
      self.figures[step] = facts.figure
      self._manager.save(step, args=ocp.args.Composite(**items))

  @property
  def figures(self) -> dict[int, float | None]:
    """The value of `Kept.best_by` at each step that has a checkpoint."""
    if self._figures is None:
      self._figures = {}
      if (name := self._kept.best_by) is not None:
        self._figures = {
          step: facts_of.figure(self._folder / str(step), name)
          for step in self.steps()
        }
    return self._figures

  def is_best(self, figure: float) -> bool:
    """Whether a figure is better than those of all checkpoints that are kept."""
    return self._kept.best({**self.figures, -1: figure}) == -1 and not any(
      figure == other for other in self.figures.values()
    )

  def facts(self, step: int) -> Facts:
    """What the checkpoint of `step` says of itself.

    Raises:
      ValueError: it is another program's checkpoint, or damaged.
    """
    self.check_files(step, _FACTS)
    where = f"{self._folder / str(step)}"
    try:
      with storing.named(self._folder / str(step), _FACTS, KeyError):
        restored = self._manager.restore(
          step, args=ocp.args.Composite(**{_FACTS: ocp.args.JsonRestore()})
        )
      return facts_of.read(restored[_FACTS], f"{where} ({_FACTS})")
    except (KeyError, TypeError, FileNotFoundError) as error:
      raise ValueError(
        f"{where} is not a checkpoint of HyperJAX: {error}"
      ) from error

  def steps(self) -> list[int]:
    """The steps that are kept."""
    return steps.listed(self._folder)

  def restore_params(self, step: int, abstract: Any) -> Any:
    """Parameters alone, on the shardings of `abstract`.

    Raises:
      ValueError: parameters are missing, left over, or of another shape; all
        are listed. Or its files are damaged.
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
    return self.restore_some(step, abstract)

  def restore_some(self, step: int, abstract: Any) -> Any:
    """Those parameters that `abstract` has, which must be there and fit."""
    self.check_files(step, _PARAMS)
    self._check_memory(abstract)
    reader = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    try:
      with storing.named(self._folder / str(step), _PARAMS):
        return reader.restore(
          str(self._local / str(step) / _PARAMS),
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
    where = f"{self._folder / str(step)} ({_FACTS})"
    on_devices, key = facts_of.placed(self.facts(step), step, abstract, where)
    return TrainState(
      step=on_devices,
      params=params,
      frozen=frozen,
      opt_state=opt_state,
      key=key,
    )

  def shapes(self, step: int) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter of a checkpoint, by its path."""
    return self._shapes(step, _PARAMS)

  def check(self) -> None:
    """Raises what a save has met meanwhile, without waiting for one.

    Raises:
      Refused: the folder is another run's by now.
      SaveFailed: as for `save`.
    """
    self.fence.check_lapsed()
    if self._saving is not None and not self._manager.is_saving_in_progress():
      self.wait()

  def wait(self) -> None:
    """Returns once everything begun is saved.

    Raises:
      SaveFailed: as for `save`.
      Refused: the folder is another run's by now.
    """
    if self._saving is not None:
      with self._explained():
        self._manager.wait_until_finished()
      self._last_saved, self._saving = self._saving, None
      if self._staging is not None:
        self._staging.keep(self._preserved, self.fence)

  def close(self) -> None:
    """Ends threads; what a save has met is told by `wait` alone."""
    if "_manager" in vars(self):
      with contextlib.suppress(Exception):
        self._manager.close()
    if self._staging is not None:
      self._staging.close()

  def _write_manifest(self) -> None:
    """Of a save whose files are all there, before it gets its name."""
    if jax.process_index() == 0:
      self.fence.check()
      # In a bucket, where nothing is renamed, it is in its place.
      hidden = "" if paths.is_bucket(self._local) else storing.PARTIAL
      is_copied = self._staging is not None
      manifest.write(self._local / f"{self._saving}{hidden}", is_copied)
      if self._staging is not None and self._saving is not None:
        self._staging.send(self._saving, self.fence)

  def _preserved(self, found: Sequence[int]) -> list[int]:
    return self._kept.steps(found, self.figures)

  @contextlib.contextmanager
  def _explained(self) -> Iterator[None]:
    """Says in a sentence why a save failed, and takes away what it has left."""
    try:
      yield
    except Exception as error:
      step, self._saving = self._saving, None
      failures.check(error, self.fence)
      what = f"checkpoint {step} in {self._folder}"
      number, last = disk.reason(error), self._last_saved
      is_of_store = number is None or paths.sentence(error) is not None
      if paths.is_bucket(self._local) or (self._staging and is_of_store):
        raise failures.of_bucket(what, self._folder, error, last) from error
      if number is None:
        raise
      paths.remove_folder(self._local / f"{step}{storing.PARTIAL}")
      if self._staging is None:
        last = self.latest()
      raise failures.SaveFailed(
        number, failures.sentence(what, number, last)
      ) from error

  def _restored(self, step: int, item: str, abstract: Any) -> Any:
    with storing.named(self._folder / str(step), item):
      return self._manager.restore(
        step,
        args=ocp.args.Composite(**{item: ocp.args.StandardRestore(abstract)}),
      )[item]

  def check_files(self, step: int, item: str = _PARAMS) -> None:
    """Refuses damaged files of an item before anything opens them.

    Those of one's own run are all checked, at once.

    Raises:
      Damaged: names them.
    """
    if self._read_only:
      steps.check_once(self._folder, step, (item,))
    elif step not in self._checked:
      steps.check(self._folder, step)
      self._checked.add(step)
    if self._staging is not None and steps.is_there(self._folder, step):
      self._staging.bring(step)

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
    found = self._shapes(step, item)
    if parts is not None:
      found = {
        name: shape
        for name, shape in found.items()
        if name.partition("/")[0] in parts
      }
    matching.check(found, abstract, f"{self._folder / str(step)} ({item})")

  def _shapes(self, step: int, item: str) -> dict[str, tuple[int, ...]]:
    self.check_files(step, item)
    with storing.named(self._folder / str(step), item):
      storing.check_database(self._local / str(step) / item)
      return storing.shapes(self._manager.directory / str(step) / item)
