"""Runs whose folder is in S3, on moto's server: checkpoints pass through a disk."""

import urllib.parse

import pytest

from hyperjax import checkpoints, metrics, paths
from hyperjax.artifacts import lease, restore
from hyperjax.checkpoints import steps
from tests import buckets_test, damaged_checkpoints_test, store_servers

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
pytestmark = pytest.mark.slow

whole = buckets_test.whole
_save, _state = damaged_checkpoints_test._save, damaged_checkpoints_test._state


@pytest.fixture(scope="module")
def store():
  with (
    store_servers.s3() as url,
    store_servers.environment(store_servers.of_s3(url)),
  ):
    yield url


@pytest.fixture
def machine(store, tmp_path, monkeypatch):
  """Makes this process one of another machine, which has no copies yet."""

  def move(name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))

  move("first")
  return move


def _names(folder):
  return {path.name for path in (folder / "checkpoints").iterdir()}


def test_a_checkpoint_is_read_on_another_machine(machine):
  folder = paths.at("s3://bucket/saved")
  _save(folder, 2, 4, 6, 8)
  assert _names(folder) == {"4", "6", "8"}  # the last three
  machine("second")
  reader = checkpoints.Checkpoints(folder / "checkpoints", read_only=True)
  assert reader.last_whole() == 8
  abstract = damaged_checkpoints_test._abstract()
  state = reader.restore(6, abstract, {})
  assert int(state.step) == 6 and reader.facts(8).position == 8
  assert (state.params["b"]["y"] == 1).all()
  reader.close()


def test_what_a_kill_left_is_no_checkpoint_and_is_removed(machine):
  folder = paths.at("s3://bucket/partial")
  _save(folder, 2, 4)
  (folder / "checkpoints" / "4" / "commit_success.txt").unlink()
  saver = checkpoints.Checkpoints(folder / "checkpoints")
  assert saver.steps() == [2]
  assert saver.last_whole() == 2
  assert _names(folder) == {"2"}
  saver.save(_state(4), checkpoints.Facts(4, {}, [0, 0]))
  saver.wait()
  assert saver.last_whole() == 4
  saver.close()


def test_a_save_after_another_took_the_folder_becomes_no_checkpoint(machine):
  class Taken(paths.NoFence):
    times = 0

    def check(self):
      self.times += 1
      if self.times == 3:  # before it, before its manifest, before its name
        raise lease.Held("the folder is another's")

  folder = paths.at("s3://bucket/taken")
  saver = checkpoints.Checkpoints(folder / "checkpoints", fence=Taken())
  saver.save(_state(4), checkpoints.Facts(4, {}, [0, 0]))
  with pytest.raises(lease.Held):
    saver.wait()
  saver.close()
  assert steps.listed(folder / "checkpoints") == []


def _figured(saver, step, figure):
  saver.save(_state(step), checkpoints.Facts(step, {}, [0, 0], figure, "loss"))


def test_one_held_up_after_a_save_removes_nothing_of_who_took_the_folder(
  machine,
):
  """Nor what that one keeps for its figure, of which it knows nothing."""

  class Taken(paths.NoFence):
    is_taken = False

    def check(self):
      if self.is_taken:
        raise lease.Held("the folder is another's")

  folder = paths.at("s3://bucket/woken/checkpoints")
  kept, fence = checkpoints.Kept(last=1, best_by="loss"), Taken()
  first = checkpoints.Checkpoints(folder, kept, fence=fence)
  _figured(first, 2, 0.5)
  # It is saved; before anything is removed the process is stopped.
  first._manager.wait_until_finished()
  machine("second")
  second = checkpoints.Checkpoints(folder, kept)
  assert second.last_whole() == 2
  for step, figure in ((4, 0.1), (6, 0.3), (8, 0.4)):
    _figured(second, step, figure)
    second.wait()
  second.close()
  assert second.steps() == [4, 8]
  fence.is_taken = True
  with pytest.raises(lease.Held):
    first.wait()
  first.close()
  assert second.steps() == [4, 8]


def _here(cache):
  """The names of what this machine has of checkpoints, by folder."""
  return [
    sorted(x.name for x in folder.iterdir())
    for folder in (cache / "hyperjax" / "fetched" / "checkpoints").iterdir()
  ]


def test_a_run_has_no_more_of_its_checkpoints_here_than_it_keeps(
  machine, tmp_path
):
  folder = paths.at("s3://bucket/room/checkpoints")
  _save(folder.parent, 2, 4)
  assert _here(tmp_path / "first") == []  # it has ended
  machine("second")
  saver = checkpoints.Checkpoints(folder, checkpoints.Kept(last=1))
  assert saver.last_whole() == 4
  saver.restore(4, damaged_checkpoints_test._abstract(), {})
  assert _here(tmp_path / "second") == [["4"]]
  for step in (6, 8):
    _figured(saver, step, 0.5)
    saver.wait()
    assert _here(tmp_path / "second") == [[str(step)]]
  saver.close()
  assert _here(tmp_path / "second") == []


def test_what_a_killed_run_has_left_here_is_removed_but_not_what_another_has(
  machine, tmp_path
):
  folder = paths.at("s3://bucket/left/checkpoints")
  _save(folder.parent, 2)
  going_on = checkpoints.Checkpoints(folder)
  assert going_on.last_whole() == 2
  going_on.check_files(2)
  (mine,) = (tmp_path / "first/hyperjax/fetched/checkpoints").iterdir()
  left = mine.with_name(f"{mine.name.rpartition('-')[0]}-killed")
  (left / "2").mkdir(parents=True)
  again = checkpoints.Checkpoints(folder)
  assert again.last_whole() == 2
  assert not left.exists() and (mine / "2").is_dir()
  again.close()
  assert (mine / "2").is_dir()
  going_on.close()
  assert not mine.exists()


def test_a_copy_of_what_a_run_no_longer_keeps_goes_once_nobody_reads_it(
  machine, tmp_path
):
  folder = paths.at("s3://bucket/readers/checkpoints")
  _save(folder.parent, 2)
  first = checkpoints.Checkpoints(folder, read_only=True)
  first.check_files(2)
  _save(folder.parent, 4, 6, 8)
  assert steps.listed(folder) == [4, 6, 8]
  second = checkpoints.Checkpoints(folder, read_only=True)
  second.check_files(6)
  assert _here(tmp_path / "first") == [["2", "6"]]
  first.close()
  second.check_files(8)
  assert _here(tmp_path / "first") == [["6", "8"]]
  second.close()


def _refuses(url, is_refused):
  """What leads to a store that denies some requests."""

  def fails(number, method, path):
    del number
    return is_refused(method, urllib.parse.unquote(path))

  said = b"<Error><Code>AccessDenied</Code><Message>Permission denied</Message></Error>"
  return store_servers.Proxy(url, fails, 403, said)


def test_a_store_that_denies_a_save_is_not_told_as_a_disk(machine, store):
  folder = paths.at("s3://bucket/denied/checkpoints")
  with (
    _refuses(store, lambda how, path: how == "PUT" and "/4/" in path) as proxy,
    store_servers.environment(store_servers.of_s3(proxy.url)),
  ):
    saver = checkpoints.Checkpoints(folder)
    _figured(saver, 2, 0.5)
    _figured(saver, 4, 0.5)
    with pytest.raises(checkpoints.SaveFailed) as failed:
      saver.wait()
    saver.close()
  said = str(failed.value)
  assert "these credentials do not permit that; grant them" in said
  assert "the last good checkpoint is of step 2; see to the store" in said
  assert steps.listed(folder) == [2]


def test_a_store_that_denies_to_remove_lets_the_run_go_on(
  machine, store, caplog
):
  folder = paths.at("s3://bucket/undeleted/checkpoints")

  def deletes(method, path):
    return method == "DELETE" or path.endswith("?delete")

  with (
    _refuses(store, deletes) as proxy,
    store_servers.environment(store_servers.of_s3(proxy.url)),
  ):
    saver = checkpoints.Checkpoints(folder, checkpoints.Kept(last=1))
    for step in (2, 4):
      _figured(saver, step, 0.5)
      saver.wait()
    assert saver.steps() == [2, 4]
  said = [x.getMessage() for x in caplog.records if "older" in x.getMessage()]
  assert len(said) == 1 and "these credentials do not permit that" in said[0]
  # Once it permits that, what has stayed goes with the next save.
  saver = checkpoints.Checkpoints(folder, checkpoints.Kept(last=1))
  _figured(saver, 6, 0.5)
  saver.wait()
  saver.close()
  assert saver.steps() == [6]


def test_a_store_that_denies_a_lease_or_metrics_is_not_told_as_a_disk(
  machine, store
):
  folder = paths.at("s3://bucket/denied/run")
  files = lease.FILE, metrics.METRICS
  with (
    _refuses(
      store, lambda how, path: how == "PUT" and any(x in path for x in files)
    ) as proxy,
    store_servers.environment(store_servers.of_s3(proxy.url)),
  ):
    with pytest.raises(OSError) as refused, lease.held(folder):
      pass
    with pytest.raises(OSError) as failed:
      metrics.RunLog(folder, None)
  for name, error in zip(files, (refused, failed), strict=True):
    assert str(error.value) == (
      f"{folder}/{name}: these credentials do not permit that; grant them to "
      "list the bucket, and to get, put and delete objects"
    )


def test_a_run_in_s3_that_is_killed_ends_as_one_on_this_machine(
  machine, world, whole
):
  """It is killed while a checkpoint is being copied, and goes on elsewhere."""
  folder = paths.at("s3://bucket/killed/run")
  begun = folder / "checkpoints" / "4"
  buckets_test._kill_once(
    buckets_test._start(world, folder), lambda: paths.listing(begun)
  )
  machine("second")
  buckets_test._run(world, folder).execute()
  buckets_test._assert_same_run(folder, whole)
  assert _names(folder) == {"4", "6", "7"}
  assert not (folder / lease.FILE).exists()
  found = restore.recorded(folder)
  assert found is not None
  step, record = found
  assert step == 7 and record.training.steps == 7


def test_a_damaged_checkpoint_in_s3_is_set_aside_and_the_run_goes_on(
  machine, world, whole, caplog
):
  folder = paths.at("s3://bucket/damaged/run")
  buckets_test._run(world, folder).execute()
  path = buckets_test._largest(folder / "checkpoints" / "7")
  paths.replace(path, buckets_test._flipped(path.read_bytes()))
  buckets_test._goes_on_from_the_one_before(world, whole, folder, caplog)
