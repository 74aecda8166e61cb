"""Any T5 of another program by its path: which format it is in, and its source.

Where a folder has several, the first of this list is read: Hugging Face's (in
it safetensors before flax's msgpack), then t5x's (in a checkpoint its own
format before orbax's).
"""

import dataclasses
import logging
import pathlib
from typing import Any

from hyperjax import paths
from hyperjax.interop import hf, hf_arrays, t5x, t5x_tree, weights

_log = logging.getLogger(__name__)

_HF = f"{hf.CONFIG} of a Hugging Face folder"
_T5X = "a checkpoint of t5x"


def is_foreign(location: Any) -> bool:
  """Whether it is a URL that TensorStore alone may know, of a t5x checkpoint."""
  scheme, separator, _ = str(location).partition("://")
  return bool(separator) and scheme not in paths.SCHEMES


def folder_of(location: str) -> pathlib.Path:
  """The path of a T5; of a URL that is foreign one at which nothing lies."""
  return pathlib.Path(location) if is_foreign(location) else paths.at(location)


def formats(location: str | pathlib.Path) -> list[str]:
  """What is there, in the order in which it would be read; for messages."""
  found = []
  if not is_foreign(location) and hf.is_folder(paths.at(location)):
    found.append(_HF)
  if t5x.is_checkpoint(location):
    found.append(_T5X)
  return found


def open_source(location: str | pathlib.Path, **given: Any) -> weights.T5Source:
  """The T5 at a path, or at a URL if it is t5x's; arrays are read when asked for.

  Args:
    location: a folder.
    **given: `t5x_tree.OPEN_FIELDS`, which a t5x checkpoint does not tell.

  Raises:
    ValueError: nothing that can be read is there.
  """
  found = formats(location)
  if not found:
    raise _nothing(location)
  if len(found) > 1:
    _log.warning(
      "%s has %s and %s: the first is read", location, found[0], found[1]
    )
  if found[0] == _T5X:
    return t5x.open_checkpoint(location, **given)
  if given:
    raise ValueError(
      f"{', '.join(given)} cannot be given: {location} has a {hf.CONFIG} "
      f"that tells; {', '.join(t5x_tree.OPEN_FIELDS)} are for t5x checkpoints"
    )
  folder = paths.at(location)
  opened = hf.open_folder(paths.fetched(folder, _is_of_t5))
  return dataclasses.replace(opened, path=str(folder))


def _is_of_t5(name: str) -> bool:
  """Whether a file of a Hugging Face folder is copied out of a bucket."""
  return "/" not in name and not name.endswith(
    (".bin", ".h5", ".ot", ".pt", ".pth")
  )


def _nothing(location: str | pathlib.Path) -> ValueError:
  wanted = f"neither {_HF}, nor {_T5X}, nor checkpoints/ of a run"
  if is_foreign(location):
    return ValueError(
      f"{location} holds no t5x checkpoint; other formats are read from a disk, "
      "from gs:// and from s3://: copy the folder here"
    )
  folder = paths.at(location)
  if folder.is_file():
    return ValueError(f"{location} is a file; a folder is needed")
  if not folder.is_dir():
    return ValueError(f"there is no folder {location}")
  try:
    hf_arrays.check_readable(folder)
  except ValueError as error:
    return error
  if (folder / hf_arrays.SINGLE).exists():
    wanted = f"no {hf.CONFIG} beside {hf_arrays.SINGLE}"
  return ValueError(f"{location} holds no T5: {wanted}")
