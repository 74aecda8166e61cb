"""The checkpoints of a folder by their steps, as their files are.

All access to them that is not orbax's is here and in `manifest`.
"""

import functools
import logging
import pathlib
from collections.abc import Collection
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from hyperjax import paths
from hyperjax.checkpoints import facts, manifest

_log = logging.getLogger(__name__)
_DAMAGED = "damaged"


def listed(folder: pathlib.Path) -> list[int]:
  """The steps whose checkpoints are there, in order."""
  if not folder.is_dir():
    return []
  names = [path.name for path in folder.iterdir()]
  steps = [int(x) for x in names if x.isascii() and x.isdigit()]
  return sorted(x for x in steps if str(x) in names and is_there(folder, x))


def is_there(folder: pathlib.Path, step: int) -> bool:
  """Whether there is a checkpoint of a step: in a bucket, all that was to be."""
  of_step = folder / str(step)
  if paths.is_bucket(of_step):
    return (of_step / manifest.COMMITTED).exists()
  return of_step.is_dir()


def check(
  folder: pathlib.Path,
  step: int,
  index: int = 0,
  count: int = 1,
  items: Collection[str] | None = None,
) -> None:
  """Refuses a checkpoint whose files are not those that were written.

  Raises:
    Damaged: as `manifest.check`.
  """
  if not is_there(folder, step):
    return  # there is none, which is for who reads it to say
  of_step = folder / str(step)
  is_promised = bool(facts.peek(of_step).get(facts.PROMISE))
  manifest.check(of_step, is_promised, index, count, items)


def check_once(folder: pathlib.Path, step: int, items: Collection[str]) -> None:
  """As `check`, once in a process for as long as no file is written again."""
  stamps = _stamps(folder / str(step))
  for item in items:
    _checked(folder, step, item, stamps)


@functools.lru_cache(maxsize=1024)
def _checked(
  folder: pathlib.Path, step: int, item: str, stamps: tuple[Any, ...]
) -> None:
  del stamps
  check(folder, step, items=(item,))


def _stamps(of_step: pathlib.Path) -> tuple[Any, ...]:
  return tuple(paths.listing(of_step).items())


def last_whole(folder: pathlib.Path, items: Collection[str]) -> int | None:
  """The last step whose files are whole, which others are passed over for.

  For who does not own them: nothing is renamed, since their run may be going on,
  or its folder be another's; and only files of `items` are read, as in `check`.

  Raises:
    Damaged: there are checkpoints, but none that is whole.
  """
  found: list[manifest.Damaged] = []
  for step in reversed(listed(folder)):
    try:
      check_once(folder, step, items)
    except manifest.Damaged as error:
      # The run that goes on may have removed it just now.
      if is_there(folder, step):
        found.append(error)
        _log.warning("%s; it is passed over", error)
    else:
      return step
  if found:
    raise _none_left(found)
  return None


def last_whole_of_own(folder: pathlib.Path) -> int | None:
  """The last step whose files are whole; what is damaged is set aside by name.

  Of several processes, all of which call it, each reads its share of the files.

  Raises:
    Damaged: there were checkpoints, but none was whole. Nothing is renamed.
  """
  found: list[manifest.Damaged] = []
  steps = _agreed(listed(folder))
  damaged: list[int] = []
  whole = None
  for step in reversed(steps):
    error = _shared_fault(folder, step)
    if error is None:
      whole = step
      break
    damaged.append(step)
    found.append(error)
  if whole is None:
    if found:
      raise _none_left(found)
    return None
  for step, error in zip(damaged, found, strict=True):
    if jax.process_index() == 0:
      name = _set_aside(folder, step)
      _log.warning(
        "%s; it is now %s, and the run goes on from step %d", error, name, whole
      )
  if damaged and jax.process_count() > 1:
    multihost_utils.sync_global_devices("damaged checkpoints are set aside")
  return whole


def _set_aside(folder: pathlib.Path, step: int) -> str:
  """Renames a checkpoint, which nothing then takes for one; its new name."""
  name, number = f"{_DAMAGED}-{step}", 1
  while (folder / name).exists():
    number += 1
    name = f"{_DAMAGED}-{step}-{number}"
  paths.move_folder(folder / str(step), folder / name, manifest.COMMITTED)
  return name


def _shared_fault(folder: pathlib.Path, step: int) -> manifest.Damaged | None:
  """What is wrong with a checkpoint, if anything; the same in all processes."""
  found = None
  try:
    check(folder, step, jax.process_index(), jax.process_count())
  except manifest.Damaged as error:
    found = error
  if jax.process_count() == 1:
    return found
  faults = multihost_utils.process_allgather(np.int32(found is not None))
  if found is None and faults.any():
    return manifest.Damaged(f"{folder / str(step)} is damaged")
  return found


def _agreed(steps: list[int]) -> list[int]:
  """The steps that process 0 sees."""
  if jax.process_count() == 1:
    return steps
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(steps))))
  own = np.zeros(size, np.int32)
  own[: len(steps)] = steps[:size]
  return multihost_utils.broadcast_one_to_all(own).tolist()


def _none_left(found: list[manifest.Damaged]) -> manifest.Damaged:
  return manifest.Damaged(
    f"{found[0]}; of {len(found)} checkpoints none is whole"
    if len(found) > 1
    else f"{found[0]}; there is no other checkpoint"
  )
