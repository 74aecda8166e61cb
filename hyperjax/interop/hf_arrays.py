"""The arrays of a Hugging Face folder, in one safetensors file or several."""

import contextlib
import dataclasses
import math
import pathlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from hyperjax.data import files, lfs
from hyperjax.memory.program import refuse_on_host

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

# What torch and others write with pickle.
_PICKLES = (".bin", ".pkl", ".pickle", ".pt", ".pth")


@dataclasses.dataclass(frozen=True)
class Arrays:
  """Arrays by name; each file is opened once, its header read at once."""

  files: Mapping[str, Any]  # the open file that holds each array

  def __contains__(self, name: str) -> bool:
    return name in self.files

  @property
  def names(self) -> Collection[str]:
    return self.files.keys()

  def shape(self, name: str) -> tuple[int, ...]:
    return tuple(self.files[name].get_slice(name).get_shape())

  def dtype(self, name: str) -> str:
    """As the file names it, such as "BF16"."""
    return self.files[name].get_slice(name).get_dtype()

  def read(self, name: str) -> np.ndarray:
    """An array.

    Raises:
      OutOfMemory: it does not fit: the library would end the process.
    """
    self._check_memory(name)
    return self.files[name].get_tensor(name)

  def are_equal(self, name: str, other: str) -> bool:
    """Whether two arrays agree in shape, dtype and every value.

    Reads both whole, as the library does for any part of one.
    """
    left, right = (self.files[x].get_slice(x) for x in (name, other))
    is_alike = (
      left.get_shape() == right.get_shape()
      and left.get_dtype() == right.get_dtype()
    )
    if not is_alike:
      return False
    return are_copies(self.read(name), self.read(other))

  def _check_memory(self, name: str) -> None:
    found = self.files[name].get_slice(name)
    bits = re.search(r"\d+", found.get_dtype())  # such as "BF16"
    size = math.prod(found.get_shape()) * (int(bits[0]) if bits else 8) // 8
    refuse_on_host(
      f"{name} {found.get_shape()}",
      size,
      "arrays are read one by one, so that nothing but more memory helps",
    )


def are_copies(one: np.ndarray, other: np.ndarray) -> bool:
  """Whether two arrays of one dtype hold the same.

  By bytes too: a copy of what is not finite is a copy.
  """
  return np.array_equal(one, other) or one.tobytes() == other.tobytes()


def is_here(folder: pathlib.Path) -> bool:
  return (folder / SINGLE).is_file() or (folder / INDEX).is_file()


def open_arrays(folder: pathlib.Path) -> Arrays:
  """The arrays of the files that transformers would read in a folder.

  Raises:
    ValueError: there is none, or one is missing or damaged or not as the index
      says.
  """
  holders: dict[str, Any] = {}
  for file, listed in _files(folder).items():
    if listed and not files.is_file(file):
      raise ValueError(
        f"{file} is missing, of which {INDEX} says that it holds "
        f"{len(listed)} arrays: download it again, beside the other shards"
      )
    opened = open_file(file)
    names = set(opened.keys())
    lost = sorted(listed - names)
    if lost:
      raise ValueError(f"{file} lacks {lost[0]}, which {INDEX} puts there")
    twice = sorted(names & holders.keys())
    if twice:
      raise ValueError(f"{file} holds {twice[0]}, and so does another shard")
    holders |= dict.fromkeys(names, opened)
  return Arrays(holders)


def open_file(file: pathlib.Path) -> Any:
  """One safetensors file, whose header is read now and whose arrays are not.

  Raises:
    ValueError: it is missing or damaged.
  """
  import safetensors  # a start-up cost only loading pays

  if not files.is_file(file):
    raise ValueError(f"{file} is missing")
  lfs.check(file)
  with naming(file):
    # A mapped file would stay in memory beside what is read from it.
    return safetensors.safe_open(file, framework="np", backend="pread")


@contextlib.contextmanager
def naming(file: pathlib.Path) -> Iterator[None]:
  """Turns safetensors' errors, which name no file, into ones that do."""
  import safetensors

  try:
    yield
  except safetensors.SafetensorError as error:
    raise ValueError(
      f"{file} is not a whole safetensors file: {error}"
    ) from error


def _files(folder: pathlib.Path) -> dict[pathlib.Path, set[str]]:
  """The safetensors files of a folder and what its index lists in each."""
  # transformers, too, reads the single file where there is an index beside it.
  if (folder / SINGLE).is_file():
    return {folder / SINGLE: set()}
  if (folder / INDEX).is_file():
    return indexed(folder / INDEX)
  check_readable(folder)
  raise ValueError(f"{folder} has neither {SINGLE} nor {INDEX}")


def check_readable(folder: pathlib.Path) -> None:
  """Refuses a folder of weights in files that are not read, with the reason."""
  names = sorted(file.name for file in folder.iterdir())
  # Weights before what a trainer leaves beside them (optimizer.pt).
  for name in sorted(names, key=lambda x: "model" not in x):
    if name.endswith(_PICKLES):
      lfs.check(folder / name)
      raise ValueError(
        f"{folder} holds {name}, a pickle, which is never read: loading one "
        "can run any program. Save the model again with safetensors: with "
        "transformers, AutoModelForSeq2SeqLM.from_pretrained(FOLDER)"
        ".save_pretrained(OTHER)"
      )
  for name in names:
    if name.endswith(".h5") or ".ckpt" in name:
      raise ValueError(
        f"{folder} holds {name}, weights of TensorFlow, which are not read. "
        "Save the model again with transformers as safetensors, or convert it "
        "with t5x"
      )


def indexed(index: pathlib.Path) -> dict[pathlib.Path, set[str]]:
  """The files that an index names beside itself, and what it lists in each.

  Raises:
    ValueError: it leads out of its folder.
  """
  lfs.check(index)
  where = files.read_json(index).get("weight_map")
  if not isinstance(where, dict):
    raise ValueError(
      f"{index}: weight_map must be an object, got {where!r:.80}"
    )
  found: dict[pathlib.Path, set[str]] = {}
  for name, file in sorted(where.items()):
    if not isinstance(file, str) or pathlib.PurePath(file).name != file:
      raise ValueError(
        f"{index}: {name} lies in {file!r}, which is not a file of this folder"
      )
    found.setdefault(index.parent / file, set()).add(name)
  return found
