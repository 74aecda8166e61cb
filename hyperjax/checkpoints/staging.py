"""Checkpoints in S3, where orbax neither writes nor reads: they pass through a disk.

A save is written to a folder of this machine, and copied whole before it gets its
name there; a checkpoint is one once `commit_success.txt` is in it, as in gs://. One
that is read is copied here first. It takes room on this machine for the checkpoints
that are kept, and a process that sees all devices.
"""

import hashlib
import logging
import pathlib
import shutil
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import BinaryIO

import jax

from hyperjax import paths
from hyperjax.checkpoints import manifest, steps, storing

_log = logging.getLogger(__name__)


def is_needed(folder: pathlib.Path) -> bool:
  """Whether orbax does not reach a folder."""
  return str(folder).startswith("s3://")


class Staging:
  """Where the checkpoints of a folder are as this machine has them."""

  def __init__(self, folder: pathlib.Path, read_only: bool):
    """Makes nothing.

    Raises:
      ValueError: several processes are to write.
    """
    if not read_only and jax.process_count() > 1:
      raise ValueError(
        f"{folder}: a run of {jax.process_count()} processes lies on a disk or in "
        "gs://, since each writes its part of a checkpoint, which orbax does not do "
        "in S3"
      )
    self._of, self._is_own = folder, not read_only
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:32]
    # Who was held up while another took the run may be of this machine too.
    own = f"own-{digest}-{uuid.uuid4().hex}"
    name = f"read-{digest}" if read_only else own
    self.folder = paths.cache_folder() / "checkpoints" / name
    self._used: dict[pathlib.Path, BinaryIO] = {}

  def begin(self) -> None:
    """Removes what a process that was killed has left, here and there."""
    self._use(self.folder)
    of_run = self.folder.name.rpartition("-")[0]
    for other in self.folder.parent.glob(f"{of_run}-*"):
      paths.remove_unused(other)
    if not self._of.is_dir():
      return
    for path in self._of.iterdir():
      if path.name.isdigit() and not steps.is_there(self._of, int(path.name)):
        paths.remove_folder(path)

  def bring(self, step: int) -> None:
    """Copies a checkpoint here, as far as it is not here yet.

    Those that are no longer there are removed here, unless they are being read.
    """
    here = self.folder / str(step)
    self._use(self.folder if self._is_own else here)
    paths.mirrored(self._of / str(step), here, lambda name: True)
    if not self._is_own:
      self._remove(steps.listed(self._of))

  def _use(self, copy: pathlib.Path) -> None:
    """Keeps others from removing it."""
    if copy not in self._used:
      self._used[copy] = paths.used(copy)

  def _remove(self, kept: Collection[int]) -> None:
    """Removes all other checkpoints here."""
    for step in steps.listed(self.folder):
      if step not in kept:
        paths.remove_unused(self.folder / str(step))

  def close(self) -> None:
    """Removes what a run has here; what was read may be read again."""
    if self._is_own:
      shutil.rmtree(self.folder, ignore_errors=True)
    for file in self._used.values():
      file.close()
      if self._is_own:  # nothing else will have its name
        pathlib.Path(file.name).unlink(missing_ok=True)
    self._used = {}

  def send(self, step: int, fence: paths.Fence) -> None:
    """Copies what a save has written, which has no name here yet."""
    target = self._of / str(step)
    paths.sent(self.folder / f"{step}{storing.PARTIAL}", target, None)
    fence.check()
    paths.replace(target / manifest.COMMITTED, b"\n")

  def keep(
    self, preserved: Callable[[Sequence[int]], list[int]], fence: paths.Fence
  ) -> None:
    """Removes all other checkpoints, there and here.

    Where the store refuses that, it is said.

    Raises:
      Refused: the folder is another run's, of whose checkpoints this one knows
        nothing.
    """
    try:
      found = steps.listed(self._of)
      kept = preserved(found)
      # What was found before this answer is no other run's.
      fence.check()
      for step in found:
        if step not in kept:
          paths.remove_folder(self._of / str(step), first=manifest.COMMITTED)
      self._remove(kept)
    except OSError as error:
      _log.warning(
        "%s: older checkpoints stay there until the next one: %s",
        self._of,
        error,
      )
