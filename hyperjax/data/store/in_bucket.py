"""Stored tokens in a bucket: each store is copied to this machine once.

Rows are mapped into memory, which takes a file. So a bucket has a mirror in the
user's cache folder, where stores lie under the same names; one that is written again
in the bucket is copied again. What is made here is copied there, its info.json last;
locks lie there, so that several machines divide what none has made.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import pathlib
import posixpath
from collections.abc import Iterable
from typing import Any

from hyperjax import paths
from hyperjax.data import files
from hyperjax.data.store import store

_THREADS = 8
_COPIED = ".copied"  # a folder: which version of each store is here


class Mirror:
  """A folder of stores as this machine has it; one of a disk is itself."""

  def __init__(self, cache_dir: pathlib.Path):
    self._of = cache_dir
    self.folder = cache_dir
    if paths.is_bucket(cache_dir):
      digest = hashlib.sha256(str(cache_dir).encode()).hexdigest()
      self.folder = paths.cache_folder() / "tokens" / digest[:32]

  @property
  def is_copy(self) -> bool:
    """Whether it is of a bucket."""
    return self.folder is not self._of

  def place(self, folder: pathlib.Path) -> pathlib.Path:
    """Where a store of this machine is for all."""
    return self._of / folder.relative_to(self.folder).as_posix()

  def is_made(self, folder: pathlib.Path) -> bool:
    """Whether a store is here, or to be had from the bucket."""
    if store.is_whole(folder):
      return True
    return self.is_copy and (self.place(folder) / store.INFO).is_file()

  def bring(self, folders: Iterable[pathlib.Path]) -> None:
    """Copies those stores that the bucket has, with parts and vocabularies."""
    if self.is_copy:
      here = self.folder / store.VOCABULARIES
      there = paths.listing(self._of / store.VOCABULARIES)
      lacking = {x: y for x, y in there.items() if not (here / x).exists()}
      paths.fetch(self._of / store.VOCABULARIES, lacking, here)
      names = [x.relative_to(self.folder).as_posix() for x in folders]
      with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(self._bring, names):
          pass

  def send(self, folders: Iterable[pathlib.Path]) -> None:
    """Copies those stores into the bucket that it lacks, parts first."""
    if self.is_copy:
      there = paths.listing(self._of / store.VOCABULARIES)
      for name in paths.listing(self.folder / store.VOCABULARIES):
        if name not in there:
          path = f"{store.VOCABULARIES}/{name}"
          paths.replace(self._of / path, (self.folder / path).read_bytes())
      for folder in folders:
        self._send(folder.relative_to(self.folder).as_posix())

  def _bring(self, name: str) -> None:
    entries = paths.listing(self._of / name)
    if store.INFO not in entries:
      return
    version = {x: [y.size, y.stamp] for x, y in sorted(entries.items())}
    with paths.alone(self.folder / name):
      is_here = store.is_whole(self.folder / name)
      if not is_here or self._copied(name) != version:
        with files.whole_folder(self.folder / name, lambda _: None) as made:
          paths.fetch(self._of / name, entries, made)
        self._note(name, version)
    for part in _parts(self.folder / name, name):
      self._bring(part)

  def _send(self, name: str) -> None:
    for part in _parts(self.folder / name, name):
      self._send(part)
    if not (self._of / name / store.INFO).is_file():
      paths.sent(self.folder / name, self._of / name, store.INFO)
      entries = paths.listing(self._of / name)
      version = {x: [y.size, y.stamp] for x, y in sorted(entries.items())}
      self._note(name, version)

  def _copied(self, name: str) -> Any:
    """Which version of a store is here; None where that is not known."""
    with contextlib.suppress(OSError, ValueError):
      return json.loads(self._note_of(name).read_bytes())
    return None

  def _note(self, name: str, version: Any) -> None:
    path = self._note_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    paths.replace(path, json.dumps(version))

  def _note_of(self, name: str) -> pathlib.Path:
    return self.folder / _COPIED / f"{name}.json"


def _parts(folder: pathlib.Path, name: str) -> list[str]:
  """The parts of a store, by their paths in the folder of all."""
  found = []
  for part in store.read_info(folder).get("parts", ()):
    path = posixpath.normpath(posixpath.join(name, part["folder"]))
    if path.startswith(("..", "/")):
      raise ValueError(f"{folder / store.INFO}: the part {path} lies elsewhere")
    found.append(path)
  return found
