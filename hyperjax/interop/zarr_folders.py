"""Folders of zarr arrays and small files, on this machine or in a bucket.

TensorStore reads both through one interface, which is known here and in
`zarr_chunks` alone.
"""

import dataclasses
import io
import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from hyperjax.data import json_text
from hyperjax.interop import zarr_chunks

# Types that weights have, as TensorStore and numpy name them.
DTYPES = ("float32", "bfloat16", "float16")

_METADATA = {"zarr": ".zarray", "zarr3": "zarr.json"}


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
    with zarr_chunks.explained(self.where):
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
    if self._folder:
      return str(self._folder)
    try:
      return self._kvstore.url
    except NotImplementedError:  # of S3 at an endpoint of one's own
      spec = self._kvstore.spec().to_json()
      return f"s3://{spec['bucket']}/{spec.get('path', '')}"

  def at(self, name: str) -> "Store":
    """A folder in this one."""
    folder = self._folder / name if self._folder else None
    return Store(self._kvstore / f"{name}/", self._context, folder)

  def database(self) -> "Store":
    """What the OCDBT database in this folder holds."""
    import tensorstore

    spec = {"driver": "ocdbt", "base": self._kvstore.spec().to_json()}
    with zarr_chunks.explained(str(self)):
      opened = tensorstore.KvStore.open(spec, context=self._context).result()
    return Store(opened, self._context)

  def has(self, name: str) -> bool:
    """Whether there is such a file."""
    if self._folder:
      return (self._folder / name).is_file()
    with zarr_chunks.explained(f"{self}/{name}"):
      found = self._kvstore.read(name, byte_range=slice(0, 0)).result()
    return found.state == "value"

  def names(self) -> list[str]:
    """Files and folders right here, sorted."""
    if self._folder:
      is_there = self._folder.is_dir()
      return sorted(os.listdir(self._folder)) if is_there else []
    with zarr_chunks.explained(str(self)):
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
      with zarr_chunks.explained(where):
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
      return json_text.parsed(f"{self}/{name}", file.read())

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
      with zarr_chunks.explained(where):
        found[name] = Zarr(where, handle.result())
      if found[name].dtype not in DTYPES:
        raise ValueError(
          f"{where} is of type {found[name].dtype}; weights are one of "
          f"{', '.join(DTYPES)}"
        )
    zarr_chunks.check(
      (array.where, array.handle, drivers[name])
      for name, array in found.items()
    )
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
      with zarr_chunks.explained(f"{self}/{name}"):
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
  endpoint = os.environ.get("AWS_ENDPOINT_URL")
  if endpoint and str(spec).startswith("s3://"):
    # TensorStore does not know the variable.
    bucket, _, path = spec.removeprefix("s3://").partition("/")
    region = os.environ.get("AWS_DEFAULT_REGION", "us-east-1")
    spec = {"driver": "s3", "bucket": bucket, "path": path}
    spec |= {"endpoint": endpoint, "aws_region": region}
  with zarr_chunks.explained(str(location)):
    opened = tensorstore.KvStore.open(spec, context=context).result()
  return Store(opened, context, folder)
