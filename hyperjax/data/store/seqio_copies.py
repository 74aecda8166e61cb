"""seqio's own caches in a bucket: what of one is read is copied to this machine.

TensorFlow, which reads the records, reaches buckets by means of its own. So a
folder of seqio's caches has a copy in the user's cache folder, which seqio is given
in its place: what tasks say of themselves at first, and the records of a split
once they are asked for.
"""

import hashlib
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from hyperjax import paths

# The folders of this machine that copy one of a bucket.
_of: dict[str, str] = {}


def copied(folders: Sequence[str], tasks: Iterable[Any]) -> list[str]:
  """The folders, those of a bucket as they are here, with what tasks say there.

  Raises:
    StoreFailed: a bucket cannot be read.
  """
  return [
    _copied(folder, tasks) if paths.is_remote(folder) else folder
    for folder in folders
  ]


def _copied(url: str, tasks: Iterable[Any]) -> str:
  digest = hashlib.sha256(url.rstrip("/").encode()).hexdigest()
  here = paths.cache_folder() / "seqio" / digest[:32]
  _of[str(here)] = url.rstrip("/")
  for task in tasks:
    if task.supports_caching:
      name = task.name.replace(":", "/")  # as seqio names its folder
      paths.mirrored(paths.at(url) / name, here / name, _is_said)
  return str(here)


def bring(task: Any, split: str) -> None:
  """Copies the records of a split of a task whose cache is a copy."""
  if not (task.supports_caching and task.cache_dir):
    return
  url = original(task.cache_dir)
  if url != task.cache_dir:
    prefix = f"{split}.tfrecord-"
    here = pathlib.Path(task.cache_dir)
    paths.mirrored(paths.at(url), here, lambda name: name.startswith(prefix))


def original(path: str) -> str:
  """What a path of this machine is a copy of; itself, where it is none."""
  for here, url in _of.items():
    if path.startswith(f"{here}/") or path == here:
      return url + path.removeprefix(here)
  return path


def _is_said(name: str) -> bool:
  """Whether a task's file tells of its cache."""
  return "/" not in name and (name.endswith(".json") or name == "COMPLETED")
