"""A command as one of several processes: it begins with all, and ends with all."""

import argparse
import contextlib
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from hyperjax.commands import restarting
from hyperjax.commands.hosts import hub, link, native_log, wire

_NAMES = ("coordinator_address", "process_count", "process_index")
_NEWS = 5.0  # seconds in which a partner's failure, the cause of ours, is known
_CLUSTERS = "Cloud TPU, GKE, Slurm (srun) and Open MPI (mpirun)"


class _Joined:
  """What a process of several has to do with the others."""

  def __init__(self, command: str, place: wire.Place, timeout: float):
    self._command = command
    self._hub = hub.Hub(place, timeout) if place.index == 0 else None
    try:
      self._link = link.Link(place, timeout)
    except wire.Failed as failure:
      self._wait()
      # It may have ended before our own connection was made.
      known = self._hub.why if self._hub is not None else ""
      raise wire.Failed(known or str(failure)) from failure
    native_log.hold_aborts()
    self._log = native_log.NativeLog()
    self._link.watch(self._stop)

  def finish(self) -> None:
    """Waits until all have done their part."""
    self._link.finish()
    self._log.show()

  def fail(self, error: BaseException) -> None:
    self._link.fail(_first_line(error), restarting.is_refused(error))

  def end(self, status: int) -> NoReturn:
    """Ends the process now: JAX's own end would wait for the others."""
    self._wait()
    self._log.show()
    sys.stdout.flush()
    os._exit(status)

  def _stop(self, why: str) -> None:
    """Another process has failed."""
    self._log.drop()
    print(f"hyperjax {self._command}: {why}", file=sys.stderr, flush=True)
    restarting.note(why, self._link.is_refused)
    self._wait()
    # Started again elsewhere, the run would be refused for most of a minute. Where
    # nobody has imported it nothing is held.
    if lease := sys.modules.get("hyperjax.artifacts.lease"):
      lease.give_back()
    sys.stdout.flush()
    os._exit(1)

  def _wait(self) -> None:
    """Process 0 goes last: JAX aborts where its service vanishes."""
    if self._hub is not None:
      self._hub.wait()


_own: list[_Joined] = []  # of this process; at most one


@contextlib.contextmanager
def joined(known: argparse.Namespace) -> Iterator[None]:
  """Makes this process one of several, where the options say so.

  Raises:
    ValueError: the options do not say which process this is.
    wire.Failed: the processes do not come together.
  """
  place = _place(known)
  if place is None:
    yield
    return
  if place.count > 1:
    _own[:] = [_Joined(known.command, place, known.start_timeout)]
  try:
    _begin(place, known.start_timeout)
    yield
  except BaseException as error:
    if not _own:
      raise
    # The loop's own exception, without importing it: all stop at one step.
    if type(error).__name__ == "Stopped":
      _own[0].finish()
      raise
    if isinstance(error, RuntimeError):  # JAX's, where a partner is gone, too
      time.sleep(_NEWS)  # its end would be ours
    _own[0].fail(error)
    raise
  if _own:
    _own[0].finish()


def _begin(place: wire.Place, timeout: float) -> None:
  import jax

  jax.distributed.initialize(
    place.address,
    place.count,
    place.index,
    initialization_timeout=max(60, int(timeout)),
  )


def run(main: Callable[[], int]) -> NoReturn:
  """Runs a program to its end, which does not wait for JAX if it has failed."""
  try:
    status = main()
  except KeyboardInterrupt:  # before or after a command
    status = 130
  except Exception:
    if not _own:
      raise
    traceback.print_exc()
    status = 1
  if _own and status not in (0, 143):
    _own[0].end(status)
  sys.exit(status)


def _first_line(error: BaseException) -> str:
  if isinstance(error, KeyboardInterrupt):
    return "interrupted"
  said = str(error).strip().partition("\n")[0]
  return (said or type(error).__name__)[:2000]


def _place(known: argparse.Namespace) -> wire.Place | None:
  """Which process this is; None where it is the only one."""
  given = [getattr(known, name) for name in _NAMES]
  is_named = [value is not None for value in given]
  if any(is_named) and not all(is_named):
    raise ValueError(
      "--coordinator_address, --process_count and --process_index go together"
    )
  if any(is_named):
    address, count, index = given
    where = "--coordinator_address"
  elif known.distributed:
    address, count, index = _detected(known.start_timeout)
    where = "--distributed: the coordinator's address"
  else:
    return None
  if index >= count:
    raise ValueError(
      f"--process_index must be below --process_count, which is {count}; "
      f"got {index}"
    )
  return wire.Place(*_host_and_port(where, address), count, index)


def _host_and_port(where: str, address: str) -> tuple[str, int]:
  found = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]+):(\d{1,5})", address)
  if found is None or not 0 < int(found[2]) < 2**16:
    raise ValueError(
      f"{where} must be HOST:PORT, with a port of 1 to 65535 that is free on "
      f"process 0's machine; got {address!r}"
    )
  return found[1].strip("[]"), int(found[2])


def _detected(timeout: float) -> tuple[str, int, int]:
  """Address, count and index, as JAX finds them in a cluster's environment."""
  from jax._src import clusters  # public JAX finds them only to begin at once

  detect: Any = clusters.ClusterEnv.auto_detect_unset_distributed_params
  try:
    found = detect(None, None, None, None, None, max(1, int(timeout)))
  except Exception as error:
    raise ValueError(
      "--distributed: the cluster does not say which process this is: "
      f"{type(error).__name__}: {_first_line(error)}"
    ) from error
  if None in found[:3]:
    raise ValueError(
      f"--distributed: no cluster is found here, of {_CLUSTERS}. On one machine "
      "leave it out; elsewhere give --coordinator_address, --process_count and "
      "--process_index"
    )
  return found[0], found[1], found[2]
