"""Whole folders and files between a bucket and this machine."""

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import pathlib
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import BinaryIO

from hyperjax.paths import places, stores
from hyperjax.paths.bucket import Bucket

_THREADS = 8
_SAME = 1e-3  # seconds, between the time of an object and that of its copy


def user_cache() -> pathlib.Path:
  """The folder for what can be made again; `XDG_CACHE_HOME` moves it.

  Raises:
    RuntimeError: there is neither that nor a home.
  """
  base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
  return pathlib.Path(base) / "hyperjax"


def cache_folder() -> pathlib.Path:
  """Where local copies lie; what is in it may be removed at any time."""
  return user_cache() / "fetched"


def fetched(
  path: pathlib.Path, wanted: Callable[[str], bool] = lambda name: True
) -> pathlib.Path:
  """A local copy of what lies in a bucket; what is local itself is its own.

  It is copied once, for as long as nothing of it is written again: the copy's
  place is a hash of names, sizes and versions. A later copy stands beside it.

  Args:
    path: of a file or a folder.
    wanted: which files of a folder are copied, by their paths in it.

  Raises:
    FileNotFoundError: there is none.
    StoreFailed: it cannot be read, or came otherwise than the store says.
  """
  if not isinstance(path, Bucket):
    return path
  if path.is_file():
    name, folder = path.name, path.parent
    entries = {name: _entry(path)}
  else:
    name, folder = "", path
    entries = {x: y for x, y in places.listing(path).items() if wanted(x)}
  if not entries:
    raise FileNotFoundError(f"there is no {path}")
  listed = [f"{x} {y.size} {y.stamp}" for x, y in entries.items()]
  digest = hashlib.sha256("\n".join([str(folder), *listed]).encode())
  target = cache_folder() / digest.hexdigest()[:32] / folder.name
  if not target.is_dir():
    _fetch_once(folder, entries, target)
  return target / name


@contextlib.contextmanager
def borrowed(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A file of this machine for as long as it is read, of what is read once.

  One that lies in a bucket is copied, and the copy removed at the end.

  Raises:
    FileNotFoundError, StoreFailed: as `fetched`.
  """
  if not isinstance(path, Bucket):
    yield path
    return
  with _hidden() as hidden:
    file = hidden / path.name
    _fetch_object(path, file, _entry(path), hidden)
    yield file


def mirrored(
  source: pathlib.Path,
  folder: pathlib.Path,
  wanted: Callable[[str], bool],
) -> None:
  """Makes the wanted files of a local folder those that a bucket's has now.

  What has its size and its time is not copied again, and what the bucket no longer
  has is removed. Of several processes of a machine each waits for the one before,
  and finds what that has copied.
  """
  with alone(folder):
    entries = {x: y for x, y in places.listing(source).items() if wanted(x)}
    here = {x: y for x, y in places.listing(folder).items() if wanted(x)}
    for name in here.keys() - entries.keys():
      (folder / name).unlink(missing_ok=True)
    lacking = {
      name: entry
      for name, entry in entries.items()
      if name not in here
      or here[name].size != entry.size
      or abs(here[name].modified - entry.modified) > _SAME
    }
    fetch(source, lacking, folder)


@contextlib.contextmanager
def alone(copy: pathlib.Path) -> Iterator[None]:
  """Lets one process of this machine make a copy, which others then have."""
  with _lock(copy, "copying") as file:
    _locked(file, "LOCK_EX")
    yield


def used(copy: pathlib.Path) -> BinaryIO:
  """Keeps others from removing a copy, until what it returns is closed."""
  file = _lock(copy, "used")
  _locked(file, "LOCK_SH")
  return file


def remove_unused(copy: pathlib.Path) -> None:
  """Removes a copy, unless a process of this machine uses it."""
  with _lock(copy, "used") as file:
    if _locked(file, "LOCK_EX", "LOCK_NB"):
      shutil.rmtree(copy, ignore_errors=True)


def _lock(copy: pathlib.Path, of: str) -> BinaryIO:
  """A file to lock on behalf of a copy, which it does not lie in."""
  digest = hashlib.sha256(str(copy.absolute()).encode()).hexdigest()[:32]
  path = cache_folder() / "locks" / f"{digest}.{of}"
  path.parent.mkdir(parents=True, exist_ok=True)
  return path.open("ab")


def _locked(file: BinaryIO, *kind: str) -> bool:
  """Locks an open file until it is closed, whatever closes it.

  Args:
    file: to lock.
    kind: names of `fcntl`. With LOCK_NB it does not wait.

  Returns:
    False where others have it; a file system without locks has none.
  """
  try:
    import fcntl  # not on Windows

    fcntl.flock(file, sum(getattr(fcntl, name) for name in kind))
  except BlockingIOError:
    return False
  except (ImportError, OSError):
    pass
  return True


@functools.cache
def part_of(folder: str, name: str) -> pathlib.Path:
  """A file or a folder in another, on this machine: out of a bucket it is copied.

  Args:
    folder: which a user has set.
    name: in it, or an absolute path anywhere.
  """
  whole = places.joined(folder, name)
  if not places.is_remote(whole):
    return pathlib.Path(whole)
  return fetched(places.at(whole))


def _entry(path: pathlib.Path) -> places.Entry:
  found = places.listing(path.parent).get(path.name)
  if found is None:
    raise FileNotFoundError(f"there is no {path}")
  return found


def _fetch_once(
  folder: pathlib.Path, entries: dict[str, places.Entry], target: pathlib.Path
) -> None:
  """Makes `target` of the objects, whole or not at all."""
  with _hidden() as hidden:
    made = hidden / "whole" / target.name
    fetch(folder, entries, made)
    try:
      made.parent.rename(target.parent)
    except OSError:
      if not target.is_dir():  # another process was first
        raise


def fetch(
  folder: pathlib.Path, entries: Mapping[str, places.Entry], made: pathlib.Path
) -> None:
  """Copies objects of a folder into one below `cache_folder`.

  A file is there once it is whole: others may read, list and copy meanwhile.
  """
  if not entries:
    return
  with _hidden() as hidden:

    def one(name: str) -> None:
      file = made / name
      file.parent.mkdir(parents=True, exist_ok=True)
      _fetch_object(folder / name, file, entries[name], hidden)

    _at_once(one, entries)


@contextlib.contextmanager
def _hidden() -> Iterator[pathlib.Path]:
  """A folder for what is not whole yet, beside all copies; removed at the end."""
  cache_folder().mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(".partial", "", cache_folder()) as folder:
    yield pathlib.Path(folder)


def _fetch_object(
  source: pathlib.Path,
  file: pathlib.Path,
  entry: places.Entry,
  hidden: pathlib.Path,
) -> None:
  assert isinstance(source, Bucket)
  partial = hidden / uuid.uuid4().hex
  with stores.explained(str(source)):
    source.store.get_file(str(source), str(partial))
  size = partial.stat().st_size
  if size != entry.size or (entry.md5 and md5(partial) != entry.md5):
    raise stores.StoreFailed(
      f"{source} came otherwise than the store says: {size:,} bytes instead of "
      f"{entry.size:,}, or other ones; was it written meanwhile?"
    )
  # Tokens are made again where a file has changed, which its time tells.
  os.utime(partial, (entry.modified, entry.modified))
  partial.replace(file)


def sent(folder: pathlib.Path, target: pathlib.Path, last: str | None) -> None:
  """Copies a local folder into a bucket in place of what is there.

  Args:
    folder: of this machine.
    target: in a bucket.
    last: the file by which the others are found; it is removed first and written
      last, so that nobody reads half of it.
  """
  assert isinstance(target, Bucket)
  names = sorted(places.listing(folder))
  before = places.listing(target)
  if last in before:
    (target / str(last)).unlink(missing_ok=True)

  def send(name: str) -> None:
    with stores.explained(str(target / name), writes=True):
      target.store.put_file(str(folder / name), str(target / name))

  _at_once(send, [name for name in names if name != last])
  for name in sorted(before.keys() - set(names)):
    (target / name).unlink(missing_ok=True)
  if last in names:
    send(str(last))


def _at_once(work: Callable[[str], None], names: Iterable[str]) -> None:
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    for _ in pool.map(work, names):
      pass


def md5(path: pathlib.Path) -> str:
  """Of a local file's content; stores know objects by it."""
  with open(path, "rb") as file:
    md5 = functools.partial(hashlib.md5, usedforsecurity=False)
    return hashlib.file_digest(file, md5).hexdigest()
