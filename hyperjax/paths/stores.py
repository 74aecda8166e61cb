"""The stores that buckets lie in: how they are reached, and why they refuse.

Requests that fail for a while are sent again by the libraries: gcsfs tries six
times within about half a minute, s3fs five times; TensorStore, which writes and reads
the arrays of checkpoints, up to 32 times with at most 32 seconds between two.
"""

import contextlib
import datetime
import errno
import functools
import importlib
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

# By scheme: fsspec's name, the package, and what pip calls the extra.
SCHEMES = {"gs": ("gcs", "gcsfs", "gcs"), "s3": ("s3", "s3fs", "s3")}
_LOGIN = {
  "gs": "run `gcloud auth application-default login`, or let "
  "GOOGLE_APPLICATION_CREDENTIALS name a key file",
  "s3": "run `aws configure`, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
}
_GRANTS = {
  "gs": "grant them the roles Storage Object User and, for orbax, Storage Legacy "
  "Bucket Reader",
  "s3": "grant them to list the bucket, and to get, put and delete objects",
}
_NOBODY = (
  "NoCredentialsError",
  "PartialCredentialsError",
  "DefaultCredentialsError",
  "RefreshError",
)
_NO_ANSWER = re.compile(
  r"code: (5\d\d|429|408)|UNAVAILABLE|DEADLINE|ProxyError|SlowDown|"
  r"InternalError|reached your desired|ServerDisconnected|Cannot connect|"
  r"EndpointConnection|ConnectionClosed|Timeout|CURL error"
)
_BETWEEN = "==hyperjax=="  # parts of a request; small JSON has no such line
_LONGEST = 200  # characters of what a store says


class StoreFailed(OSError):  # noqa: N818 - an outcome
  """A bucket was not to be read, or not to be written."""


@functools.cache
def filesystem(scheme: str) -> Any:
  """What reaches the buckets of a scheme: fsspec's, which keeps no listings.

  Raises:
    StoreFailed: the package for it is not installed.
  """
  name, package, extra = SCHEMES[scheme]
  try:
    importlib.import_module(package)
    import fsspec
    import fsspec.config

    # Others write to buckets too, and TensorStore past it: orbax's own is told so.
    options: dict[str, Any] = {"use_listings_cache": False}
    for each in (name, scheme):
      fsspec.config.conf.setdefault(each, {}).update(options)
    if scheme == "gs":
      options["consistency"] = "md5"  # of what is uploaded
    found = fsspec.filesystem(name, **options)
  except ImportError as error:
    raise StoreFailed(
      f"{scheme}:// needs the package {package}: pip install 'hyperjax[{extra}]'"
    ) from error
  # They log at length what is raised anyway.
  for module in (package, "google.auth"):
    logging.getLogger(module).setLevel(logging.CRITICAL)
  return found


def exchange(scheme: str, url: str, content: bytes, before: str) -> None:
  """Writes an object in place of one version of it.

  fsspec has no name for this: it is each store's own condition of a request.

  Raises:
    FileExistsError: another version is there.
    FileNotFoundError: none is, as some stores say it.
  """
  store = filesystem(scheme)
  if scheme == "s3":
    try:
      store.pipe_file(url, content, IfMatch=before)
    except OSError as error:
      if error.errno == errno.EINVAL:  # what s3fs makes of 412
        raise FileExistsError(f"{url} has changed") from error
      raise
    return
  bucket, _, name = url.partition("://")[2].partition("/")
  facts = json.dumps({"name": name})
  parts = (("application/json; charset=UTF-8", facts.encode()),)
  parts += (("application/octet-stream", content),)
  body = b"".join(
    f"--{_BETWEEN}\nContent-Type: {kind}\n\n".encode() + part + b"\n"
    for kind, part in parts
  )
  store.call(
    "POST",
    f"{store._location}/upload/storage/v1/b/{bucket}/o",  # noqa: SLF001 - as gcsfs itself
    uploadType="multipart",
    ifGenerationMatch=before,
    headers={"Content-Type": f'multipart/related; boundary="{_BETWEEN}"'},
    data=body + f"--{_BETWEEN}--".encode(),
  )


@contextlib.contextmanager
def explained(url: str, writes: bool = False) -> Iterator[None]:
  """Says in a sentence why a request about `url` failed.

  Raises:
    FileNotFoundError, FileExistsError: as they are, of what is read or made.
    StoreFailed: of anything else, and of a bucket to write to that is not there.
  """
  try:
    yield
  except StoreFailed:
    raise
  except FileNotFoundError as error:
    if writes:
      raise StoreFailed(f"{url}: {_no_bucket(url)}") from error
    raise FileNotFoundError(f"there is no {url}") from error
  except FileExistsError:
    raise
  except Exception as error:
    raise StoreFailed(f"{url}: {reason(url, error)}") from error


def reason(url: str, error: BaseException) -> str:
  """Why a request about `url` failed, and what to do."""
  scheme = url.partition("://")[0]
  text = " ".join(f"{type(error).__name__}: {error}".split())
  code = str(getattr(error, "code", None) or getattr(error, "status", ""))
  if type(error).__name__ in _NOBODY or code == "401" or "Anonymous" in text:
    return f"there are no credentials for it; {_LOGIN[scheme]}"
  if (
    isinstance(error, PermissionError)
    or re.search(r"Forbidden|PERMISSION_DENIED|AccessDenied|code: 403", text)
    or code == "403"
  ):
    return f"these credentials do not permit that; {_GRANTS[scheme]}"
  if re.search(r"NoSuchBucket|bucket does not exist|code: 404", text):
    return _no_bucket(url)
  if code[:1] == "5" or code in ("408", "429") or _NO_ANSWER.search(text):
    return (
      "the store does not answer, though it was asked again and again: "
      f"{text[:_LONGEST]}"
    )
  return text[:_LONGEST]


def sentence(error: BaseException) -> str | None:
  """What to print of an error that came out of a store, None of any other."""
  seen: list[BaseException] = []
  at: BaseException | None = error
  while at is not None and at not in seen:
    seen.append(at)
    if isinstance(at, StoreFailed):
      return str(at)
    module = type(at).__module__.partition(".")[0]
    if module in ("gcsfs", "google", "botocore", "aiohttp", "aiobotocore"):
      scheme = "s3" if "boto" in module else "gs"
      return f"{scheme}://: {reason(f'{scheme}://', at)}"
    at = at.__cause__ or at.__context__
  return None


def _no_bucket(url: str) -> str:
  scheme, _, rest = url.partition("://")
  bucket = rest.partition("/")[0]
  return f"there is no bucket {scheme}://{bucket}" if bucket else "no bucket"


def modified(info: dict[str, Any]) -> float:
  """When an object was last written, in seconds, by the store's clock."""
  found = info.get("updated") or info.get("mtime") or info.get("LastModified")
  if isinstance(found, str):
    found = datetime.datetime.fromisoformat(found.replace("Z", "+00:00"))
  return found.timestamp() if isinstance(found, datetime.datetime) else 0.0
