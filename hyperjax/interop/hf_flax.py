"""The arrays of a Hugging Face folder in flax's msgpack, one file or several.

Names are nested there, and projections are [in, out]; here they are given as
safetensors files have them, so that one reader serves both.
"""

import dataclasses
import pathlib
from collections.abc import Collection, Mapping

import numpy as np

from hyperjax import trees
from hyperjax.data import files, lfs
from hyperjax.interop import hf_arrays, msgpack_file

SINGLE = "flax_model.msgpack"
INDEX = "flax_model.msgpack.index.json"


@dataclasses.dataclass(frozen=True)
class Arrays:
  """Arrays by the names that they would have in safetensors files."""

  places: Mapping[str, tuple[pathlib.Path, msgpack_file.Inline, bool]]

  def __contains__(self, name: str) -> bool:
    return name in self.places

  @property
  def names(self) -> Collection[str]:
    return self.places.keys()

  def shape(self, name: str) -> tuple[int, ...]:
    _, inline, is_transposed = self.places[name]
    return inline.shape[::-1] if is_transposed else inline.shape

  def dtype(self, name: str) -> str:
    return self.places[name][1].dtype

  def read(self, name: str) -> np.ndarray:
    path, inline, is_transposed = self.places[name]
    with path.open("rb") as file:
      try:
        array = inline.read(file)
      except ValueError as error:
        raise ValueError(f"{path}: {name}: {error}") from error
    return array.T if is_transposed else array

  def are_equal(self, name: str, other: str) -> bool:
    """Whether two arrays agree in shape, dtype and every value."""
    if self.shape(name) != self.shape(other):
      return False
    left, right = self.read(name), self.read(other)
    return left.dtype == right.dtype and hf_arrays.are_copies(left, right)


def is_here(folder: pathlib.Path) -> bool:
  return (folder / SINGLE).is_file() or (folder / INDEX).is_file()


def open_arrays(folder: pathlib.Path) -> Arrays:
  """The arrays of a folder's msgpack files.

  Raises:
    ValueError: a file is missing or damaged or not as the index says.
  """
  shards = {folder / SINGLE: set()}
  if not (folder / SINGLE).is_file():
    shards = hf_arrays.indexed(folder / INDEX)
  places = {}
  for file, listed in shards.items():
    found = {}
    for path, inline in _scanned(file).items():
      name, is_transposed = _torch_name(path)
      found[name] = (file, inline, is_transposed)
    lost = sorted({_torch_name(path)[0] for path in listed} - found.keys())
    if lost:
      raise ValueError(f"{file} lacks {lost[0]}, which {INDEX} puts there")
    twice = sorted(found.keys() & places.keys())
    if twice:
      raise ValueError(f"{file} holds {twice[0]}, and so does another shard")
    places |= found
  return Arrays(places)


def _scanned(file: pathlib.Path) -> dict[str, msgpack_file.Inline]:
  if not files.is_file(file):
    raise ValueError(f"{file} is missing")
  lfs.check(file)
  with file.open("rb") as opened:
    try:
      tree = msgpack_file.scan(opened)
    except ValueError as error:
      raise ValueError(f"{file}: {error}") from error
  leaves = trees.flatten(tree) if isinstance(tree, dict) else {"": tree}
  for path, leaf in leaves.items():
    if not isinstance(leaf, msgpack_file.Inline):
      raise ValueError(f"{file}: {path!r} must be an array, got {leaf!r}")
    try:
      msgpack_file.np_dtype(leaf.dtype)
    except ValueError as error:
      raise ValueError(f"{file}: {path}: {error}") from error
  return leaves


def _torch_name(path: str) -> tuple[str, bool]:
  """The name in safetensors files, and whether the array is transposed there."""
  stem, _, kind = path.rpartition("/")
  name = stem.replace("/", ".")
  if kind in ("kernel", "embedding", "weight"):
    return f"{name}.weight", kind == "kernel"
  return path.replace("/", "."), False
