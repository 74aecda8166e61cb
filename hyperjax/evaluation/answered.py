"""What is answered so far, in a file, so that an evaluation goes on after a kill.

The first line says what decides the answers; each further one is a task that was
answered whole. Batches, buckets and devices are not among it: they change nothing
but rounding, so an evaluation may go on with others.
"""

import hashlib
import json
import os
import pathlib
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from hyperjax import paths, trees
from hyperjax.data import json_text
from hyperjax.memory.program import Program
from hyperjax.sharding import Layout

PERIOD = 60.0  # seconds after which what is new is brought into a bucket
# Of a task: draw, row, and what was found under each control, as JSON.
Found = list[tuple[int, int, dict[str, Any]]]


class Answered:
  """Tasks that were answered, the first ones of an evaluation.

  Of several processes the first one has the file; the others know how many.
  """

  def __init__(
    self,
    path: pathlib.Path,
    settings: Mapping[str, Any],
    tasks: Sequence[str],
  ):
    """Reads what is there, and changes nothing.

    A file of other settings, or one that cannot be understood, is put aside.

    Args:
      path: of the file; its folder may lack.
      settings: all that decides the answers, as JSON.
      tasks: all there are, in the order in which they are answered.
    """
    self._path, self._tasks = path, list(tasks)
    self._settings = json.loads(json.dumps(settings))
    self._size = 0  # bytes of what is whole
    self._whole = b""  # in a bucket, whose objects are replaced now and then
    self._written = time.monotonic()
    self.found: list[Found] = []  # of the first tasks
    if jax.process_index() == 0 and path.is_file():
      self._read()
    self.num_tasks = len(self.found)
    if jax.process_count() > 1:
      counts = multihost_utils.broadcast_one_to_all(np.int32(self.num_tasks))
      self.num_tasks = int(counts)
    if self.num_tasks and jax.process_index() == 0:
      count = f"{self.num_tasks} of {len(self._tasks)} tasks are answered"
      print(f"{path.name} goes on: {count}", flush=True)

  def add(self, found: Iterable[Found]) -> None:
    """Appends the next tasks, whole, on the disk when it returns.

    Into a bucket they come every minute.
    """
    lines = []
    for own in found:
      task = self._tasks[self.num_tasks]
      lines.append(_line({"task": task, "crc": _crc(own), "found": own}))
      self.num_tasks += 1
    if jax.process_index() != 0:
      return
    if not self._size:
      lines.insert(0, _line({"settings": self._settings}))
      self._path.parent.mkdir(parents=True, exist_ok=True)
    content = b"".join(lines)
    if paths.is_bucket(self._path):
      self._whole += content
      self._size += len(content)
      if time.monotonic() - self._written > PERIOD:
        paths.replace(self._path, self._whole)
        self._written = time.monotonic()
      return
    with open(self._path, "r+b" if self._size else "wb") as file:
      file.truncate(self._size)
      file.seek(self._size)
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    self._size += len(content)

  def remove(self) -> None:
    """Once what is made of it is written."""
    if jax.process_index() == 0:
      self._path.unlink(missing_ok=True)

  def _read(self) -> None:
    lines = self._path.read_bytes().splitlines(keepends=True)
    first = _parsed(lines[0]) if lines else None
    before = None if first is None else first.get("settings")
    if before is None:
      return  # killed before the first line was whole
    differing = _differing(before, self._settings)
    if differing:
      aside = self._path.with_name(f"{self._path.name}.before")
      paths.rename(self._path, aside)
      print(
        f"{self._path.name} was answered with other settings "
        f"({', '.join(differing)}): it is {aside.name} now, and all tasks are "
        "answered again",
        flush=True,
      )
      return
    self._size = len(lines[0])
    self._whole = lines[0] if paths.is_bucket(self._path) else b""
    for task, line in zip(self._tasks, lines[1:], strict=False):
      content = _parsed(line)
      found: Any = None if content is None else content.get("found")
      if content != {"task": task, "crc": _crc(found), "found": found}:
        return  # what was cut is answered again
      self.found.append([tuple(each) for each in found])
      self._size += len(line)
      if paths.is_bucket(self._path):
        self._whole += line


def _line(content: Mapping[str, Any]) -> bytes:
  return json.dumps(content, ensure_ascii=False).encode() + b"\n"


def _crc(found: Any) -> int:
  """Of what is found: a line that is damaged is none."""
  return zlib.crc32(json.dumps(found).encode())


def _parsed(line: bytes) -> dict[str, Any] | None:
  """What a line says, None if it is not whole."""
  if not line.endswith(b"\n"):
    return None
  try:
    return json_text.parsed("a line", line)
  except ValueError:
    return None


def _differing(before: Any, now: Mapping[str, Any]) -> list[str]:
  if not isinstance(before, Mapping):
    return ["all"]
  return sorted(
    name
    for name in before.keys() | now.keys()
    if before.get(name) != now.get(name)
  )


def fingerprint(params: Any, layout: Layout) -> str:
  """Hash of all weights, whatever mesh they lie on."""
  program = Program(
    _checksums,
    "a fingerprint of the weights",
    out_shardings=layout.replicated,
  )
  with layout.activate():
    sums = jax.device_get(program(params))
  digest = hashlib.sha256()
  for path, leaf in sorted(trees.flatten(params).items()):
    digest.update(f"{path} {leaf.dtype} {leaf.shape} ".encode())
  for path, own in sorted(trees.flatten(sums).items()):
    digest.update(f"{path} {int(own)} ".encode())
  return digest.hexdigest()


def _checksums(params: Any) -> Any:
  """Of each array, the sum of its bits by odd weights, modulo 2**32.

  In whole numbers, so that the order in which devices add them is none of it.
  """

  def checksum(x: jax.Array) -> jax.Array:
    bits = jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
    index = jnp.zeros(x.shape, jnp.uint32)
    for axis, size in enumerate(x.shape):
      index *= np.uint32(size % 2**32)
      index += jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    # Neighbours' weights differ in all bits, as random ones would.
    weight = (index * np.uint32(2654435761)) | np.uint32(1)
    return jnp.sum(bits.astype(jnp.uint32) * weight, dtype=jnp.uint32)

  return jax.tree.map(checksum, params)
