"""How much memory is free: of accelerators, and of the host with its limits.

On a host memory is given out before it is there, and who takes too much is killed
without a message. So it has to be asked for before a program runs.
"""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

_SHARE = 0.9  # of what is free on a host that is taken at most
_ROOT = pathlib.Path("/")
# Of a cgroup's files: its limit, what it holds, and what of that can be dropped.
_VERSION_1 = "memory.limit_in_bytes", "memory.usage_in_bytes"
_VERSION_2 = "memory.max", "memory.current"
_DROPPED = re.compile(r"^(?:total_)?inactive_file (\d+)$", re.MULTILINE)


def available(devices: Any) -> int | None:
  """Bytes that are free on each of `devices`, or on the host that they share.

  None where nobody says. Of several accelerators the fullest one counts.
  """
  if is_host(devices):
    return host()
  stats = [device.memory_stats() or {} for device in devices]
  free = [
    each["bytes_limit"] - each.get("bytes_in_use", 0)
    for each in stats
    if "bytes_limit" in each
  ]
  return max(0, min(free)) if free else None


def most_used(devices: Any) -> int | None:
  """Bytes that the fullest of `devices` held at most so far; None as above."""
  stats = [device.memory_stats() or {} for device in devices]
  found = [x["peak_bytes_in_use"] for x in stats if "peak_bytes_in_use" in x]
  return max(found, default=None)


def of(lacking: BaseException) -> int | None:
  """As `available`, of where an error says that it lacks."""
  if isinstance(lacking, RuntimeError):  # XLA's
    import jax

    return available(jax.local_devices())
  return host()


def is_host(devices: Any) -> bool:
  """Whether the memory of all these devices is that of the host."""
  return all(device.platform == "cpu" for device in devices)


def host(root: pathlib.Path = _ROOT) -> int | None:
  """Bytes that this process may still take; None where Linux does not say.

  The least of what is available on the machine and of what the process's
  cgroups, of either version, and its own limit (`ulimit -v`) leave; a tenth of it
  is left alone, for this process's other needs and for others.

  Args:
    root: of the file system that is read.
  """
  found = [*_machine(root), *_cgroups(root), *_process(root)]
  return max(0, int(_SHARE * min(found))) if found else None


def _machine(root: pathlib.Path) -> Iterator[int]:
  found = _lines(root / "proc/meminfo")
  if "MemAvailable" in found:
    yield int(found["MemAvailable"].split()[0]) * 1024


def _process(root: pathlib.Path) -> Iterator[int]:
  """What is left of the address space, if that is limited."""
  for line in _text(root / "proc/self/limits").splitlines():
    found = re.match(r"Max address space +(\d+) ", line)
    taken = _lines(root / "proc/self/status").get("VmSize")
    if found and taken:
      yield int(found[1]) - int(taken.split()[0]) * 1024


def _cgroups(root: pathlib.Path) -> Iterator[int]:
  """What is left in each group that this process is in, from its own upwards."""
  for line in _text(root / "proc/self/cgroup").splitlines():
    _, controllers, path = line.split(":", 2)
    mount = root / "sys/fs/cgroup"
    if "memory" in controllers.split(","):
      mount, names = mount / "memory", _VERSION_1
    elif not controllers:
      names = _VERSION_2
    else:
      continue
    # A container may see its own group as the topmost, under another name.
    own = pathlib.PurePosixPath(path.lstrip("/"))
    for group in (own, *own.parents):
      yield from _group(mount / group, *names)


def _group(folder: pathlib.Path, limit: str, usage: str) -> Iterator[int]:
  most, taken = _text(folder / limit).strip(), _text(folder / usage).strip()
  if most.isdecimal() and taken.isdecimal():
    dropped = _DROPPED.findall(_text(folder / "memory.stat"))
    # Version 1 says both a group's own and, last, that of all within it.
    yield int(most) - int(taken) + int(dropped[-1] if dropped else 0)


def _lines(path: pathlib.Path) -> dict[str, str]:
  """A file of lines "name: value"."""
  pairs = (line.partition(":") for line in _text(path).splitlines())
  return {name: value.strip() for name, _, value in pairs}


def _text(path: pathlib.Path) -> str:
  try:
    return path.read_text()
  except (OSError, UnicodeDecodeError):
    return ""  # not every machine has it, and none need let us read it
