"""Time, memory and kernels of a call on one card."""

import collections
import contextlib
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jax

from benchmarks import measuring
from hyperjax.memory import sheets

REPEATS, WINDOW = 3, 3  # windows of so many steps, each timed as a whole
Found = dict[str, Any]


def timed(
  work: Callable[[], Any], tokens: int, operations: int | None
) -> Found:
  """Seconds of a call, once it is compiled; several are begun before one is awaited."""
  compiling = measuring.seconds(work)

  def window() -> Any:
    return [work() for _ in range(WINDOW)][-1]

  taken = [measuring.seconds(window) / WINDOW for _ in range(REPEATS)]
  seconds = statistics.median(taken)
  found = {
    "first_s": compiling,
    "seconds": seconds,
    "all_seconds": taken,
    "tokens_per_s": tokens / seconds,
    "peak_bytes": (jax.devices()[0].memory_stats() or {}).get(
      "peak_bytes_in_use"
    ),
  }
  if operations:
    found |= {
      "operations": operations,
      "operations_per_s": operations / seconds,
      "utilisation": _utilisation(operations / seconds),
    }
  return found | {"kernels": _kernels(work)}


def _utilisation(rate: float) -> float | None:
  """Of what the card's data sheet says, where it is known."""
  sheet = sheets.of_device(jax.devices()[0])
  return sheet and rate / sheet.peak("bfloat16")


def _kernels(work: Callable[[], Any]) -> Found | None:
  """How many a call runs, and the milliseconds of those that take longest."""
  with _folder() as folder:
    with jax.profiler.trace(str(folder)):
      jax.block_until_ready(work())
    [trace] = folder.rglob("*.xplane.pb")
    return read_kernels(jax.profiler.ProfileData.from_file(str(trace)))


def read_kernels(data: Any) -> Found | None:
  """Of a trace; None where no accelerator is in it."""
  taken: collections.Counter[str] = collections.Counter()
  count = 0
  for plane in data.planes:
    if not plane.name.startswith("/device:GPU"):
      continue
    for line in plane.lines:
      if not line.name.startswith("Stream"):
        continue
      for event in line.events:
        taken[_kind(event.name)] += event.duration_ns
        count += 1
  if not count:
    return None
  most = {name: ns / 1e6 for name, ns in taken.most_common(12)}
  return {"count": count, "ms": sum(taken.values()) / 1e6, "longest_ms": most}


def _kind(name: str) -> str:
  """A kernel's name without what numbers it."""
  return name.split("(")[0].rstrip("0123456789_.")[:60]


@contextlib.contextmanager
def _folder() -> Iterator[pathlib.Path]:
  with tempfile.TemporaryDirectory() as name:
    yield pathlib.Path(name)
