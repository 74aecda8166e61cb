"""Folders of zarr arrays and small files, on this machine or in a bucket.

TensorStore reads both through one interface; only this module knows it.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import math
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

# Types that weights have, as TensorStore and numpy name them.
DTYPES = ("float32", "bfloat16", "float16")

_METADATA = {"zarr": ".zarray", "zarr3": "zarr.json"}
_TRAILER = slice(-4, None)  # of a gzip file: how long it is unpacked


@dataclasses.dataclass(frozen=True)
class Zarr:
  """An open array; its chunks are read when asked for."""

  where: str  # for messages
  handle: Any  # tensorstore.TensorStore

  @property
  def shape(self) -> tuple[int, ...]:
    return tuple(self.handle.shape)

  @property
  def dtype(self) -> str:
    return self.handle.dtype.name

  @property
  def chunks(self) -> tuple[int, ...]:
    return tuple(self.handle.chunk_layout.read_chunk.shape)

  def read(self, layer: int | None = None) -> np.ndarray:
    """All values, or those of one entry of axis 1: t5x scans layers there.

    Raises:
      ValueError: a chunk is missing or damaged.
    """
    part = self.handle if layer is None else self.handle[:, layer]
    with _explained(self.where):
      return part.read().result()


class Store:
  """Files by name ("a/b") under a folder of this machine or a bucket."""

  def __init__(
    self, kvstore: Any, context: Any, folder: pathlib.Path | None = None
  ):
    """`folder` is what `kvstore` of `context` has, where it is local."""
    self._kvstore = kvstore
    self._context = context
    self._folder = folder
    self._kept: dict[str, bytes] = {}  # files of a bucket that were opened

  def __str__(self) -> str:
    return str(self._folder or self._kvstore.url)

  def at(self, name: str) -> "Store":
    """A folder in this one."""
    folder = self._folder / name if self._folder else None
    return Store(self._kvstore / f"{name}/", self._context, folder)

  def database(self) -> "Store":
    """What the OCDBT database in this folder holds."""
    import tensorstore

    spec = {"driver": "ocdbt", "base": self._kvstore.spec().to_json()}
    with _explained(str(self)):
      opened = tensorstore.KvStore.open(spec, context=self._context).result()
    return Store(opened, self._context)

  def has(self, name: str) -> bool:
    """Whether there is such a file."""
    if self._folder:
      return (self._folder / name).is_file()
    with _explained(f"{self}/{name}"):
      found = self._kvstore.read(name, byte_range=slice(0, 0)).result()
    return found.state == "value"

  def names(self) -> list[str]:
    """Files and folders right here, sorted."""
    if self._folder:
      is_there = self._folder.is_dir()
      return sorted(os.listdir(self._folder)) if is_there else []
    with _explained(str(self)):
      keys = self._kvstore.list().result()
    return sorted({key.decode().partition("/")[0] for key in keys})

  def open(self, name: str) -> Any:
    """A file to read from and to seek in; a bucket's is fetched, and kept.

    Raises:
      ValueError: there is none.
    """
    where = f"{self}/{name}"
    if self._folder:
      try:
        return (self._folder / name).open("rb")
      except OSError as error:
        raise ValueError(f"{where} cannot be read: {error}") from error
    if name not in self._kept:
      with _explained(where):
        found = self._kvstore.read(name).result()
      if found.state != "value":
        raise ValueError(f"{where} is missing")
      self._kept[name] = found.value
    return io.BytesIO(self._kept[name])

  def read_object(self, name: str) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
      ValueError: the file is missing, or holds something else.
    """
    with self.open(name) as file:
      content = file.read()
    try:
      found = json.loads(content)
    except ValueError as error:
      raise ValueError(f"{self}/{name} is not JSON: {error}") from error
    if not isinstance(found, dict):
      raise ValueError(f"{self}/{name} must hold a JSON object")
    return found

  def zarr(self, names: Iterable[str]) -> dict[str, Zarr]:
    """Arrays by the names of their folders, all opened at once.

    Raises:
      ValueError: one is missing or not whole, as far as can be told from its
        files' names and ends, or is of a type that no weights have.
    """
    import tensorstore

    drivers = self._drivers(list(names))
    opening = {
      name: tensorstore.open(
        # By itself TensorStore reads zeros where a chunk is missing.
        {"driver": driver, "fill_missing_data_reads": False},
        kvstore=self._kvstore / f"{name}/",
        open=True,
        read=True,
      )
      for name, driver in drivers.items()
    }
    found = {}
    for name, handle in opening.items():
      where = f"{self}/{name}"
      with _explained(where):
        found[name] = Zarr(where, handle.result())
      if found[name].dtype not in DTYPES:
        raise ValueError(
          f"{where} is of type {found[name].dtype}; weights are one of "
          f"{', '.join(DTYPES)}"
        )
    _check_chunks(found[name] for name in found if drivers[name] == "zarr")
    return found

  def _drivers(self, names: list[str]) -> dict[str, str]:
    """TensorStore's driver for each array.

    Raises:
      ValueError: something is no array.
    """
    asked = {
      (name, driver): self._kvstore.read(
        f"{name}/{file}", byte_range=slice(0, 0)
      )
      for name in names
      for driver, file in _METADATA.items()
    }
    drivers = {}
    for (name, driver), read in asked.items():
      with _explained(f"{self}/{name}"):
        if read.result().state == "value":
          drivers.setdefault(name, driver)
    for name in names:
      if name not in drivers:
        raise ValueError(
          f"{self}/{name} is missing: there is no {' or '.join(_METADATA.values())}"
        )
    return drivers


def open_store(location: str | pathlib.Path, context: Any = None) -> Store:
  """The folder of a path or a URL, such as gs://bucket/folder.

  `context` is a `tensorstore.Context`; stores in memory live in one.

  Raises:
    ValueError: no such kind of URL is known.
  """
  import tensorstore

  context = context or tensorstore.Context()
  folder = None
  spec: Any = str(location).rstrip("/") + "/"
  if "://" not in spec:
    # TensorStore takes no path with "..".
    folder = pathlib.Path(os.path.abspath(pathlib.Path(location).expanduser()))
    spec = {"driver": "file", "path": f"{folder}/"}
  with _explained(str(location)):
    opened = tensorstore.KvStore.open(spec, context=context).result()
  return Store(opened, context, folder)


@contextlib.contextmanager
def _explained(where: str) -> Iterator[None]:
  """Turns TensorStore's errors into one line that says what is concerned."""
  try:
    yield
  except (ValueError, OSError, RuntimeError, NotImplementedError) as error:
    text = str(error).partition(" [")[0]  # what follows is for its developers
    raise ValueError(f"{where}: {text}") from error


def _check_chunks(arrays: Iterable[Zarr]) -> None:
  """Refuses missing chunks, and gzip chunks without their end.

  TensorStore compares the sum at a chunk's end, but not whether it is there.
  """
  reads = []
  for array in arrays:
    spec = array.handle.spec().to_json()["metadata"]
    is_gzip = (spec.get("compressor") or {}).get("id") == "gzip"
    size = math.prod(spec["chunks"]) * array.handle.dtype.numpy_dtype.itemsize
    ask = _TRAILER if is_gzip else slice(0, 0)
    for key in _chunk_keys(spec):
      read = array.handle.kvstore.read(key, byte_range=ask)
      wanted = (size % 2**32).to_bytes(4, "little") if is_gzip else b""
      reads.append((f"{array.where}: chunk {key}", read, wanted))
  for where, read, wanted in reads:
    with _explained(where):
      found = read.result()
    if found.state != "value":
      raise ValueError(f"{where} is missing")
    if found.value != wanted:
      raise ValueError(f"{where} is cut short, or of another size")


def _chunk_keys(spec: Mapping[str, Any]) -> Iterator[str]:
  counts = [
    math.ceil(size / chunk)
    for size, chunk in zip(spec["shape"], spec["chunks"], strict=True)
  ]
  separator = spec.get("dimension_separator", ".")
  for places in itertools.product(*map(range, counts)):
    yield separator.join(map(str, places)) or "0"
