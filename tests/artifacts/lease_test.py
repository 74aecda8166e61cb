"""A run folder is one run's at a time, whoever was killed."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from hyperjax.artifacts import lease
from tests.checkpoints import full_disk_test

_HOLD = """
import pathlib, sys, time
from hyperjax.artifacts import lease
with lease.Lease(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
  """A process that holds a folder."""
  process = subprocess.Popen(
    [sys.executable, "-c", _HOLD, str(tmp_path / "run")],
    stdout=subprocess.PIPE,
    text=True,
  )
  assert process.stdout.readline() == "held\n"
  yield process
  process.kill()
  process.wait()
  process.stdout.close()


def _content(folder):
  return json.loads((folder / lease.FILE).read_text())


def test_a_second_process_is_refused_and_told_of_the_first(tmp_path, other):
  folder = tmp_path / "run"
  before = (folder / lease.FILE).read_bytes()
  with pytest.raises(lease.Held) as refused, lease.Lease(folder):
    pass
  holder = _content(folder)
  said = re.escape(
    f"{folder} is in use by process {other.pid} on {holder['host']}, since "
    f"{holder['started']}:"
  )
  assert re.match(said, str(refused.value))
  assert re.fullmatch(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00", holder["started"]
  )
  assert (folder / lease.FILE).read_bytes() == before
  assert os.listdir(folder) == [lease.FILE]


def test_on_the_same_machine_a_killed_process_is_seen_at_once(tmp_path, other):
  """Also while nobody has waited for it yet: it is a zombie."""
  other.send_signal(signal.SIGKILL)
  deadline = time.monotonic() + 30
  while True:
    try:
      with lease.Lease(tmp_path / "run"):
        assert _content(tmp_path / "run")["pid"] == os.getpid()
      break
    except lease.Held:
      assert time.monotonic() < deadline
      time.sleep(0.01)


def _leave(folder, **changes):
  """The lease of a process of another machine, or as `changes` say."""
  folder.mkdir(exist_ok=True)
  content = {
    "host": "far",
    "pid": 1,
    "started": "2020-01-01 00:00:00+00:00",
    "machine": "another",
    "birth": "1",
    "token": "t",
  }
  (folder / lease.FILE).write_text(json.dumps(content | changes))


def _age(folder, seconds):
  then = time.time() - seconds
  os.utime(folder / lease.FILE, (then, then))


def test_a_process_of_another_machine_is_believed_for_most_of_a_minute(
  tmp_path, caplog
):
  _leave(tmp_path)
  _age(tmp_path, 40)
  with (
    pytest.raises(
      lease.Held, match=r"process 1 on far.*was 4[01] seconds ago$"
    ),
    lease.Lease(tmp_path),
  ):
    pass
  _age(tmp_path, 50)
  with lease.Lease(tmp_path):
    assert _content(tmp_path)["pid"] == os.getpid()
  assert "was left by process 1 on far" in caplog.text


def test_one_held_up_while_another_came_and_went_writes_nothing_more(tmp_path):
  """Nor does it take the folder again."""
  with lease.Lease(tmp_path, beat=0.05, silence=0.5) as held:
    _leave(tmp_path)
    time.sleep(0.7)
    (tmp_path / lease.FILE).unlink()
    with pytest.raises(lease.Held, match="may have been another run's"):
      held.check()
    time.sleep(0.2)
    assert os.listdir(tmp_path) == []


_GONE = f"may have been another run's meanwhile: its {lease.FILE} is gone"


def test_a_lease_that_is_gone_is_lost_though_no_clock_has_moved(tmp_path):
  """Another may have had it while the host of this machine had stopped it."""
  with lease.Lease(tmp_path, beat=60) as held:
    held.check()
    (tmp_path / lease.FILE).unlink()
    with pytest.raises(lease.Held, match=_GONE):
      held.check()


def test_a_sign_of_life_takes_no_folder_whose_lease_is_gone(tmp_path):
  with lease.Lease(tmp_path, beat=0.05) as held:
    (tmp_path / lease.FILE).unlink()
    deadline = time.monotonic() + 30
    with pytest.raises(lease.Held, match=_GONE):
      while time.monotonic() < deadline:
        held.check_lapsed()
        time.sleep(0.01)
    assert os.listdir(tmp_path) == []


def test_a_number_that_another_process_has_by_now_is_of_a_dead_one(tmp_path):
  own = lease.Holder.own()
  _leave(tmp_path, pid=own.pid, machine=own.machine, birth="1")
  with lease.Lease(tmp_path):
    assert _content(tmp_path)["birth"] == own.birth


def test_a_lease_that_says_nothing_is_someones_until_it_is_old(tmp_path):
  for content in ("", "[[", '{"pid": 1}'):
    (tmp_path / lease.FILE).write_text(content)
    with (
      pytest.raises(lease.Held, match="in use by another process"),
      lease.Lease(tmp_path),
    ):
      pass
    _age(tmp_path, 50)
    with lease.Lease(tmp_path):
      assert _content(tmp_path)["pid"] == os.getpid()


def test_whoever_holds_a_folder_gives_signs_of_life(tmp_path):
  with lease.Lease(tmp_path, beat=0.02):
    _age(tmp_path, 1000)
    deadline = time.monotonic() + 30
    while (tmp_path / lease.FILE).stat().st_mtime < time.time() - 500:
      assert time.monotonic() < deadline
      time.sleep(0.01)


def test_whoever_was_taken_over_notices_and_leaves_the_other_alone(tmp_path):
  with lease.Lease(tmp_path) as held:
    held.check()
    _leave(tmp_path)
    with pytest.raises(lease.Held, match="was taken over by process 1 on far"):
      held.check()
  assert _content(tmp_path)["token"] == "t"


def _lapse(held, seconds):
  """Lets a lease have given no sign of life for so long."""
  day, boot = held._beaten
  held._beaten = day - seconds, boot - seconds


def test_only_what_has_lapsed_is_looked_at_before_each_step(tmp_path):
  """45 seconds make a lease void; who has it asks after 30."""
  with lease.Lease(tmp_path, beat=60) as held:
    _leave(tmp_path)
    _lapse(held, 29)
    held.check_lapsed()
    _lapse(held, 2)
    with pytest.raises(lease.Held, match="was taken over by process 1 on far"):
      held.check_lapsed()


def test_what_its_own_thread_has_met_is_raised_at_the_next_step(tmp_path):
  with lease.Lease(tmp_path, beat=0.02) as held:
    held.check_lapsed()
    _leave(tmp_path)
    deadline = time.monotonic() + 30
    with pytest.raises(lease.Held, match="was taken over"):
      while time.monotonic() < deadline:
        held.check_lapsed()
        time.sleep(0.01)


def test_one_that_wakes_in_time_keeps_its_folder(tmp_path):
  """Its sign of life comes before what it writes, so nobody may come between."""
  with lease.Lease(tmp_path, beat=60) as held:
    _age(tmp_path, 44)
    _lapse(held, 44)
    held.check()
    with (
      pytest.raises(lease.Held, match=r"was [01] seconds ago"),
      lease.Lease(tmp_path),
    ):
      pass


def test_a_process_stopped_in_the_midst_of_it_hangs_nobody(tmp_path):
  """It may have the lock that keeps others of its machine apart."""
  _leave(tmp_path)
  _age(tmp_path, 100)
  with lease._alone(tmp_path):
    begun = time.monotonic()
    with lease.Lease(tmp_path):
      assert _content(tmp_path)["pid"] == os.getpid()
  assert time.monotonic() - begun < 20


def test_nothing_is_left_at_the_end_of_a_run_that_wrote_nothing(tmp_path):
  folder = tmp_path / "a" / "b"
  with lease.Lease(folder):
    assert os.listdir(folder) == [lease.FILE]
  assert not (tmp_path / "a").exists()
  with lease.Lease(folder):
    (folder / "run.json").touch()
  assert os.listdir(folder) == ["run.json"]
  with lease.Lease(folder):  # free again
    pass


def test_of_several_that_take_a_folder_over_one_gets_it(tmp_path):
  _leave(tmp_path)
  _age(tmp_path, 100)
  got, refused, done = [], [], threading.Barrier(4)

  def take():
    done.wait()
    try:
      with lease.Lease(tmp_path):
        got.append(1)
        done.wait()
    except lease.Held:
      refused.append(1)
      done.wait()

  threads = [threading.Thread(target=take) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert (len(got), len(refused)) == (1, 3)


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
  (tmp_path / "file").touch()
  with (
    pytest.raises(OSError, match="file"),
    lease.Lease(tmp_path / "file" / "x"),
  ):
    pass


def test_a_folder_that_is_read_only_is_refused_in_a_sentence(tmp_path):
  with (
    full_disk_test.small_disk(tmp_path, "1m") as disk,
    pytest.raises(OSError, match=r"lease.json cannot be written: the file sys"),
  ):
    remount = ["mount", "-o", "remount,ro", str(disk)]
    subprocess.run(remount, check=True)
    with lease.held(disk):
      pass


def test_a_full_disk_leaves_no_empty_lease(tmp_path):
  with full_disk_test.small_disk(tmp_path, "64k") as disk:
    with contextlib.suppress(OSError):
      (disk / "full").write_bytes(bytes(1 << 20))
    with (
      pytest.raises(OSError, match="cannot be written: no space is left"),
      lease.held(disk),
    ):
      pass
    assert os.listdir(disk) == ["full"]
