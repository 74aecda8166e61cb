"""What is done to files and to objects in different ways, by one name each."""

import argparse
import base64
import contextlib
import os
import pathlib
import shutil
import uuid
from typing import Any, NamedTuple, cast

from hyperjax.paths import stores
from hyperjax.paths.bucket import Bucket


def is_remote(location: Any) -> bool:
  """Whether it is a URL, such as gs://bucket/folder."""
  return "://" in str(location)


def is_bucket(path: Any) -> bool:
  """Whether a path lies in a bucket."""
  return isinstance(path, Bucket)


def at(location: str | os.PathLike[str]) -> pathlib.Path:
  """The path of what a user wrote.

  Typed as `pathlib.Path`, which one in a bucket acts as.

  Raises:
    ValueError: it is a URL of no known store.
  """
  if isinstance(location, Bucket) or is_remote(location):
    return cast(pathlib.Path, Bucket(str(location)))
  return pathlib.Path(location).expanduser()


def joined(folder: str, name: str) -> str:
  """The path of a file in a folder; a URL and an absolute path are their own."""
  if is_remote(name) or os.path.isabs(name):
    return name
  return f"{folder}/{name}" if is_remote(folder) else os.path.join(folder, name)


def argument(text: str) -> pathlib.Path:
  """As `at`, of a command line."""
  try:
    return at(text)
  except ValueError as error:
    raise argparse.ArgumentTypeError(str(error)) from error


def check(path: Any, setting: str) -> None:
  """Refuses what is no path, or of no known store, naming the setting to change.

  Raises:
    ValueError: as it says, or what reaches the store is not installed.
  """
  if not isinstance(path, str) or not path:
    raise ValueError(f"{setting} must be a path in quotes, got {path!r}")
  if is_remote(path):
    try:
      Bucket(path)
    except ValueError as error:
      raise ValueError(f"{setting}: {error}") from error
    try:
      stores.filesystem(path.partition("://")[0])
    except stores.StoreFailed as error:
      raise ValueError(f"{setting} is {path}: {error}") from error


def check_local(path: Any, setting: str, otherwise: str) -> None:
  """Refuses a bucket where it cannot be read from one.

  Args:
    path: of a folder.
    setting: that names it.
    otherwise: why that is, and what can be done.

  Raises:
    ValueError: as it says.
  """
  check(path, setting)
  if is_remote(path):
    raise ValueError(f"{setting} is {path}: {otherwise}")


def replace(path: pathlib.Path, content: str | bytes) -> None:
  """Writes a file so that it is either the old one or the whole new one.

  Other processes may read it, or write the same, meanwhile.
  """
  if isinstance(content, str):
    content = content.encode()
  if isinstance(path, Bucket):
    path.write_bytes(content)
    return
  # Not tempfile's, which is for its owner alone, whatever the umask says.
  partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
  try:
    with partial.open("xb") as file:
      file.write(content)
    partial.replace(path)
  finally:
    partial.unlink(missing_ok=True)


def rename(path: pathlib.Path, target: pathlib.Path) -> None:
  """Gives a file another name, in place of what has it."""
  if isinstance(path, Bucket):
    replace(target, path.read_bytes())
    path.unlink()
  else:
    path.replace(target)


def created(path: pathlib.Path, content: bytes) -> bool:
  """Writes a file unless there is one; of several who try one alone does it."""
  if isinstance(path, Bucket):
    try:
      cast(Bucket, path).write_bytes(content, mode="create")
    except FileExistsError:
      # The answer may have been lost, and the request sent again.
      try:
        return path.read_bytes() == content
      except FileNotFoundError:
        return False
    return True
  try:
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
  except FileExistsError:
    return False
  try:
    with os.fdopen(handle, "wb") as file:
      file.write(content)
  except OSError:
    path.unlink()  # no room: an empty one would be someone's
    raise
  return True


def stamp(path: pathlib.Path) -> str | None:
  """Which writing of a file is there, another one after the next; None of none."""
  if isinstance(path, Bucket):
    info = path.info()
    return None if info is None else _stamp(info)
  try:
    status = path.stat()
  except FileNotFoundError:
    return None
  return f"{status.st_ino} {status.st_mtime_ns}"


def exchanged(path: pathlib.Path, content: bytes, before: str) -> bool:
  """Replaces an object, unless it was written again since it had a stamp.

  The store decides: of several who exchange the same one alone does it.

  Args:
    path: in a bucket. A disk has no such request.
    content: of the new one, which no other writing has: S3 knows versions by it.
    before: the `stamp` of the old one.
  """
  assert isinstance(path, Bucket)
  try:
    cast(Bucket, path).write_bytes(content, before=before)
  except (FileExistsError, FileNotFoundError):
    # The answer may have been lost, and the request sent again.
    try:
      return path.read_bytes() == content
    except FileNotFoundError:
      return False
  return True


def modified(path: pathlib.Path) -> float:
  """When a file was last written, in seconds, by the clock of where it lies.

  Raises:
    FileNotFoundError: there is none.
  """
  return path.stat().st_mtime


class Entry(NamedTuple):
  """A file of a listing."""

  size: int  # bytes
  stamp: str  # another one once the file is written again
  md5: str | None  # of its content, where its store says so
  modified: float  # seconds


def listing(folder: pathlib.Path) -> dict[str, Entry]:
  """All files below a folder, by their paths in it; none of none."""
  if isinstance(folder, Bucket):
    return _objects(folder)
  found = {}
  for path in sorted(folder.rglob("*")):
    with contextlib.suppress(OSError):  # removed meanwhile
      status = path.stat()
      if path.is_file():
        name = path.relative_to(folder).as_posix()
        found[name] = Entry(
          status.st_size, str(status.st_mtime_ns), None, status.st_mtime
        )
  return found


def _objects(folder: Bucket) -> dict[str, Entry]:
  try:
    with stores.explained(str(folder)):
      listed = folder.store.find(str(folder), detail=True)
  except FileNotFoundError:
    return {}
  own = str(folder).partition("://")[2] + "/"
  found = {}
  for path, info in sorted(listed.items()):
    name = path.removeprefix(own)
    # Some programs mark folders by objects of no bytes.
    if path.startswith(own) and name and not name.endswith("/"):
      found[name] = Entry(
        int(info["size"]), _stamp(info), _md5(info), stores.modified(info)
      )
  return found


def _stamp(info: dict[str, Any]) -> str:
  return f"{info.get('generation') or info.get('ETag') or info.get('etag')}"


def _md5(info: dict[str, Any]) -> str | None:
  """Google says it; of S3's an ETag is it, unless it was sent in parts."""
  if said := info.get("md5Hash"):
    return base64.b64decode(said).hex()
  tag = str(info.get("ETag", "")).strip('"')
  is_md5 = len(tag) == 32 and set(tag) <= set("0123456789abcdef")
  return tag if is_md5 and "ServerSideEncryption" not in info else None


def remove_folder(folder: pathlib.Path, first: str | None = None) -> None:
  """Removes all files of a folder.

  Args:
    folder: which need not be there.
    first: a file without which the others are not read.
  """
  if not isinstance(folder, Bucket):
    shutil.rmtree(folder, ignore_errors=True)
    return
  names = list(_objects(folder))
  if first in names:
    (folder / first).unlink(missing_ok=True)
    names.remove(first)
  if names:
    with stores.explained(str(folder)), contextlib.suppress(FileNotFoundError):
      folder.store.rm([str(folder / name) for name in names])


def move_folder(folder: pathlib.Path, target: pathlib.Path, last: str) -> None:
  """Gives a folder another name.

  In a bucket its objects are copied, the one called `last` after all others, and
  removed in the other order: no part of it is taken for the whole.
  """
  if not isinstance(folder, Bucket):
    folder.rename(target)
    return
  assert isinstance(target, Bucket)
  names = sorted(_objects(folder), key=lambda name: name == last)
  for name in names:
    with stores.explained(str(folder / name), writes=True):
      folder.store.cp_file(str(folder / name), str(target / name))
  remove_folder(cast(pathlib.Path, folder), first=last)
