"""A path in a bucket, for code that has a `pathlib.Path` in mind."""

import fnmatch
import io
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from hyperjax.paths import stores


class Status(NamedTuple):
  """Of an object: its size in bytes, and when it was last written."""

  st_size: int
  st_mtime: float  # seconds
  st_mtime_ns: int


class _Reading(io.RawIOBase):
  """An object that is open: fsspec's, which fetches some megabytes at a time."""

  def __init__(self, url: str, opened: Any):
    self._url, self._opened = url, opened

  def readable(self) -> bool:
    return True

  def seekable(self) -> bool:
    return True

  def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
    return self._opened.seek(offset, whence)

  def tell(self) -> int:
    return self._opened.tell()

  def readinto(self, buffer: Any) -> int:
    with stores.explained(self._url):
      return self._opened.readinto(buffer)

  def close(self) -> None:
    self._opened.close()
    super().close()


class Bucket:
  """A path in a bucket; folders are what the names of objects begin with.

  It has those methods of `pathlib.Path` that need no file: an object is read, written
  and removed whole. `pathlib` and `open` refuse it, as nothing of it is here.
  """

  def __init__(self, url: str):
    """Takes a URL.

    Raises:
      ValueError: it names no bucket, leads upwards, or is a pattern to libraries.
    """
    scheme, _, rest = url.partition("://")
    parts = [part for part in rest.split("/") if part]
    if scheme not in stores.SCHEMES:
      known = " and ".join(f"{each}://" for each in stores.SCHEMES)
      raise ValueError(f"{url} is of no known store; those are {known}")
    if not parts or ".." in parts or "." in parts:
      raise ValueError(f"{url} must be a bucket and names in it, without '..'")
    if set("*?[") & set(url):
      raise ValueError(
        f"{url} must have none of *, ? and [, which fsspec takes for a pattern"
      )
    self._scheme, self._parts = scheme, tuple(parts)

  def __str__(self) -> str:
    return f"{self._scheme}://{'/'.join(self._parts)}"

  def __repr__(self) -> str:
    return f"Bucket({str(self)!r})"

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Bucket) and str(self) == str(other)

  def __hash__(self) -> int:
    return hash(str(self))

  def __lt__(self, other: "Bucket") -> bool:
    return str(self) < str(other)

  def __truediv__(self, name: Any) -> "Bucket":
    return Bucket(f"{self}/{name}")

  @property
  def name(self) -> str:
    return self._parts[-1]

  @property
  def suffix(self) -> str:
    return pathlib.PurePosixPath(self.name).suffix

  @property
  def stem(self) -> str:
    return pathlib.PurePosixPath(self.name).stem

  @property
  def parent(self) -> "Bucket":
    """The folder above; the bucket is its own, as the root is."""
    above = self._parts[:-1] or self._parts
    return Bucket(f"{self._scheme}://{'/'.join(above)}")

  @property
  def parents(self) -> list["Bucket"]:
    count = len(self._parts)
    return [
      Bucket(f"{self._scheme}://{'/'.join(self._parts[:end])}")
      for end in range(count - 1, 0, -1)
    ]

  def with_name(self, name: str) -> "Bucket":
    return self.parent / name

  def with_suffix(self, suffix: str) -> "Bucket":
    return self.with_name(f"{self.stem}{suffix}")

  def relative_to(self, other: Any) -> pathlib.PurePosixPath:
    return pathlib.PurePosixPath(str(self)).relative_to(str(other))

  def as_posix(self) -> str:
    return str(self)

  def absolute(self) -> "Bucket":
    return self

  def expanduser(self) -> "Bucket":
    return self

  @property
  def store(self) -> Any:
    """Fsspec's file system that it lies in."""
    return stores.filesystem(self._scheme)

  def info(self) -> dict[str, Any] | None:
    """What the store says of it; None where nothing is there."""
    with stores.explained(str(self)):
      try:
        return self.store.info(str(self))
      except FileNotFoundError:
        return None

  def exists(self) -> bool:
    return self.info() is not None

  def is_file(self) -> bool:
    info = self.info()
    return info is not None and info["type"] == "file"

  def is_symlink(self) -> bool:
    return False

  def is_dir(self) -> bool:
    info = self.info()
    return info is not None and info["type"] == "directory"

  def stat(self) -> Status:
    info = self.info()
    if info is None:
      raise FileNotFoundError(f"there is no {self}")
    time = stores.modified(info)
    return Status(int(info["size"] or 0), time, int(time * 1e9))

  def iterdir(self) -> Iterator["Bucket"]:
    with stores.explained(str(self)):
      found = self.store.ls(str(self), detail=False)
    own = "/".join(self._parts)
    names = {x.rstrip("/").removeprefix(f"{own}/") for x in found}
    return iter([self / x for x in sorted(names) if x and x != own])

  def glob(self, pattern: str) -> Iterator["Bucket"]:
    """What lies right here and matches, or after "*/" one folder below."""
    first, _, rest = pattern.partition("/")
    try:
      found = [x for x in self.iterdir() if fnmatch.fnmatch(x.name, first)]
    except FileNotFoundError:
      return iter([])
    if not rest:
      return iter(found)
    if "*" in rest:
      return iter([y for x in found for y in x.glob(rest)])
    return iter([x / rest for x in found if (x / rest).exists()])

  def open(self, mode: str = "rb", buffering: int = -1) -> Any:
    """The object to read from, and to seek in; what fails later says why, too."""
    if mode != "rb":
      raise ValueError(f"{self} is written whole, not opened with {mode!r}")
    with stores.explained(str(self)):
      reading = _Reading(str(self), self.store.open(str(self), mode))
    return io.BufferedReader(reading) if buffering else reading

  def read_bytes(self) -> bytes:
    with stores.explained(str(self)):
      return self.store.cat_file(str(self))

  def read_text(self, encoding: str = "utf-8") -> str:
    return self.read_bytes().decode(encoding)

  def write_bytes(
    self, content: bytes, mode: str = "overwrite", before: str | None = None
  ) -> None:
    """Replaces the object whole; others see the old one or the new one.

    Args:
      content: of the object.
      mode: "overwrite" or "create".
      before: where given, the version (Google's generation, S3's ETag) that is
        replaced, and no other.

    Raises:
      FileExistsError: `mode` is "create", and there is one; or there is another
        than `before`.
    """
    with stores.explained(str(self), writes=before is None):
      if before is None:
        self.store.pipe_file(str(self), content, mode=mode)
      else:
        stores.exchange(self._scheme, str(self), content, before)

  def write_text(self, content: str) -> None:
    self.write_bytes(content.encode())

  def unlink(self, missing_ok: bool = False) -> None:
    try:
      with stores.explained(str(self)):
        self.store.rm_file(str(self))
    except FileNotFoundError:
      if not missing_ok:
        raise

  def mkdir(self, *_: Any, **__: Any) -> None:
    """Nothing: a folder is there as soon as something is in it."""
