"""Builds that are killed, that meet each other, and that fail."""

import dataclasses
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from hyperjax.data.store import build, locks, store, worker
from tests import conftest
from tests.data.store import gated

BUILD = """
import pathlib, sys
from tests.data.store import gated
gated.make(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
"""


def _start(folder, num_processes=2):
  return subprocess.Popen(
    [sys.executable, "-c", BUILD, str(folder), str(num_processes)],
    cwd=conftest.ROOT,
  )


def _wait(condition, seconds=300):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, "waited in vain"
    time.sleep(0.02)


def _made(folder):
  paths = (folder / "tokens").glob("part-*/info.json")
  return {int(path.parent.name.removeprefix("part-")) for path in paths}


def _content(folder):
  """Every file of the stores, what is hidden too."""
  root = folder / "tokens"
  return {
    str(path.relative_to(root)): path.read_bytes()
    for path in root.rglob("*")
    if path.is_file()
  }


def _is_gone(pid):
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return True
  return False


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_build_that_was_killed_goes_on_with_the_parts_that_lack(
  tmp_path, num_processes
):
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  whole.mkdir()
  gated.make(whole, num_processes)
  gated.shut(killed, [2, 3, 4, 5])
  process = _start(killed, num_processes)
  try:
    _wait(lambda: _made(killed) == {0, 1} and len(gated.reads(killed)) > 3)
  finally:
    process.send_signal(signal.SIGKILL)
    process.wait()
  _wait(lambda: all(_is_gone(pid) for _, pid in gated.reads(killed)))
  assert any(".partial" in name for name in _content(killed))
  before = len(gated.reads(killed))
  gated.open_gates(killed)
  assert _start(killed, num_processes).wait() == 0
  again = [part for part, _ in gated.reads(killed)[before:]]
  assert sorted(again) == [2, 3, 4, 5]
  assert _content(killed) == _content(whole)


def test_two_builds_at_once_divide_the_parts_and_make_each_once(tmp_path):
  gated.shut(tmp_path, range(gated.NUM_PARTS))
  both = [_start(tmp_path), _start(tmp_path)]
  _wait(lambda: len(gated.reads(tmp_path)) == 4)
  gated.open_gates(tmp_path)
  assert [process.wait() for process in both] == [0, 0]
  reads = gated.reads(tmp_path)
  assert sorted(part for part, _ in reads) == list(range(gated.NUM_PARTS))
  assert len({pid for _, pid in reads}) == 4
  rows, _ = store.read(tmp_path / "tokens" / "all")
  assert len(rows) == gated.NUM_PARTS * gated.ROWS
  hidden = [name for name in _content(tmp_path) if name.startswith(".")]
  assert hidden == []


def test_the_other_build_is_killed_and_this_one_takes_its_part_over(tmp_path):
  gated.shut(tmp_path, [0])
  other = _start(tmp_path, 1)
  _wait(lambda: _made(tmp_path) == {1, 2, 3, 4, 5})
  this = _start(tmp_path, 1)
  time.sleep(1.5)
  assert [part for part, _ in gated.reads(tmp_path)].count(0) == 1
  other.kill()
  other.wait()
  gated.open_gates(tmp_path)
  assert this.wait() == 0
  assert [part for part, _ in gated.reads(tmp_path)].count(0) == 2


def test_a_lock_of_another_machine_is_void_once_it_is_silent(tmp_path):
  lock = tmp_path / ".part.lock"
  lock.write_text("elsewhere-1")
  with locks.Locks(silence=2.0) as own:
    assert not own.take(tmp_path / "part")
    time.sleep(0.2)
    os.utime(lock)  # a sign of life
    seen = time.monotonic()
    assert not own.take(tmp_path / "part")
    _wait(lambda: own.take(tmp_path / "part"))
    assert time.monotonic() - seen >= 1.9  # of silence, since that sign
  assert not lock.exists()


def test_processes_import_nothing_that_their_rows_do_not_need(tmp_path):
  job = dataclasses.replace(
    gated.jobs(tmp_path, 1)[0], read=functools.partial(_loaded, tmp_path)
  )
  process = worker.Worker()
  process.make(job)
  process.kill()
  loaded = (tmp_path / "loaded").read_text().split()
  assert "hyperjax.data.store.build" in loaded
  assert not {"tensorflow", "seqio", "jax", "gin"} & set(loaded)


def _loaded(folder):
  (folder / "loaded").write_text("\n".join(sys.modules))
  yield {"targets": [1]}


def _broken(kind, after):
  for i in range(after):
    yield {"targets": [i]}
  if kind == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
  raise {"value": ValueError, "program": ZeroDivisionError}[kind]("shard 1: no")


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_part_that_fails_is_named_and_leaves_the_others(
  tmp_path, num_processes
):
  jobs = gated.jobs(tmp_path)
  jobs[1] = dataclasses.replace(
    jobs[1], read=functools.partial(_broken, "value", 3)
  )
  with pytest.raises(ValueError, match=r"^shard 1: no$"):
    build.make_all(jobs, num_processes)
  assert _made(tmp_path) == {0, 2, 3, 4, 5}
  names = {path.name for path in (tmp_path / "tokens").iterdir()}
  assert names == {f"part-{part}" for part in (0, 2, 3, 4, 5)}


def test_many_failures_end_a_build_at_once_and_are_counted(tmp_path):
  jobs = [
    dataclasses.replace(job, read=functools.partial(_broken, "value", 0))
    for job in gated.jobs(tmp_path, 50)
  ]
  with pytest.raises(ValueError, match="shard 1: no") as raised:
    build.make_all(jobs, 1)
  assert "more failed" in raised.value.__notes__[0]


def test_an_error_of_a_program_tells_where_in_the_process_it_was(tmp_path):
  jobs = gated.jobs(tmp_path)
  jobs[0] = dataclasses.replace(
    jobs[0], read=functools.partial(_broken, "program", 0)
  )
  with pytest.raises(ZeroDivisionError) as raised:
    build.make_all(jobs, 2)
  assert "in _broken" in "".join(raised.value.__notes__)


def test_a_process_that_is_killed_is_an_error_that_says_so(tmp_path):
  jobs = gated.jobs(tmp_path, 2)
  jobs[0] = dataclasses.replace(
    jobs[0], read=functools.partial(_broken, "killed", 3)
  )
  with pytest.raises(ChildProcessError, match=r"part-0 of 'gated'.*status -9"):
    build.make_all(jobs, 2)


def test_a_build_that_lasts_is_given_processes_and_says_how_far_it_is(
  tmp_path, monkeypatch, caplog
):
  monkeypatch.setattr(build, "usable_cores", lambda: 2)
  monkeypatch.setattr(build, "_HEAD_START", 0.5)
  monkeypatch.setattr(build, "_REPORT_EVERY", 0.2)
  gated.shut(tmp_path, [0, 1])  # they keep both threads of this process busy
  thread = threading.Thread(target=build.make_all, args=(gated.jobs(tmp_path),))
  with caplog.at_level(logging.INFO):
    thread.start()
    _wait(lambda: _made(tmp_path) == {2, 3, 4, 5})
    _wait(lambda: "storing tokens: 4 of 6 parts" in caplog.text)
    gated.open_gates(tmp_path)
    thread.join()
  here = {part for part, pid in gated.reads(tmp_path) if pid == os.getpid()}
  assert here == {0, 1}
  assert "storing tokens: 4 of 6 parts, 3,440 tokens in" in caplog.text
  assert "left" in caplog.text


def test_what_cannot_be_sent_to_a_process_is_made_here(tmp_path):
  def local():
    yield {"targets": [os.getpid() % 90, 1]}

  jobs = [
    dataclasses.replace(job, read=local) for job in gated.jobs(tmp_path, 2)
  ]
  build.make_all(jobs, 2)
  rows, _ = store.read(jobs[1].folder)
  assert rows.row(0, "targets")[0] == os.getpid() % 90


def test_parts_are_the_rows_of_one_store(tmp_path):
  gated.make(tmp_path, 1)
  joined, _ = store.read(tmp_path / "tokens" / "all")
  every = [
    row for part in range(gated.NUM_PARTS) for row in gated.read(tmp_path, part)
  ]
  store.write(tmp_path / "one", every, ("targets",), gated.INFO, 100, True)
  one, _ = store.read(tmp_path / "one")
  assert len(joined) == len(one) == 240
  np.testing.assert_array_equal(joined.tokens[:], one.tokens)
  np.testing.assert_array_equal(joined.hashes[:], one.hashes)
  np.testing.assert_array_equal(
    joined.lengths("targets"), one.lengths("targets")
  )
  assert joined.longest("targets") == one.longest("targets") == 41
  for i in (0, 39, 40, 239):
    assert joined.record(i) == one.record(i) == every[i]["record"]
    assert joined.row(i, "targets").tolist() == every[i]["targets"]
  for position in (0, 819, 860, len(one.tokens) - 1):
    assert joined.span(position) == one.span(position)
  some = np.array([[239, 40], [0, 41]])
  np.testing.assert_array_equal(joined.hashes[some], one.hashes[some])
  for out in (240, -1):
    with pytest.raises(IndexError, match="out of range"):
      joined.row(out, "targets")


def test_a_part_that_is_cut_short_is_noticed_when_the_store_is_opened(tmp_path):
  gated.make(tmp_path, 1)
  path = tmp_path / "tokens" / "part-3" / "tokens.bin"
  path.write_bytes(path.read_bytes()[:-2])
  with pytest.raises(ValueError, match=r"part-3/tokens\.bin has \d+ bytes"):
    store.read(tmp_path / "tokens" / "all")


COUNTED = """
import functools, os, time
from hyperjax.data.store import seqio_tasks
from hyperjax.tasks import records

NAMES = [f"counted_{i}" for i in range(8)]

def rows(name, split):
  with open(os.environ["COUNTED"], "a") as file:
    file.write(f"{name} {os.getpid()}\\n")
  deadline = time.monotonic() + 300
  while time.monotonic() < deadline:  # for both processes to be there
    pids = {line.split()[1] for line in open(os.environ["COUNTED"])}
    if len(pids) == 2:
      break
    time.sleep(0.05)
  for i in range(20):
    yield {"inputs": "carla zurich", "targets": "carla"}

feature = seqio_tasks.text_feature(str(records.VOCABULARY), 0)
for name in NAMES:
  source = seqio_tasks.RowsSource(
    functools.partial(rows, name), ("train",), {"inputs": 0, "targets": 0},
    made_of=lambda split, name=name: name,
  )
  seqio_tasks.add_task(
    name, source, {"inputs": feature, "targets": feature}, "counted")
seqio_tasks.add_mixture("counted", NAMES, "counted")
"""


@pytest.mark.slow
@pytest.mark.seqio
def test_the_command_on_two_machines_divides_tasks_and_stores_each_once(
  tmp_path,
):
  """As two machines that share a disk: they know nothing else of each other."""
  (tmp_path / "counted_tasks.py").write_text(COUNTED)
  log = tmp_path / "log"
  command = [sys.executable, "-m", "hyperjax.main", "cache"]
  command += ["--gin_file=adapters/lora.gin", "--gin_file=runs/mtf_own.gin"]
  command += ["--gin.TASK_MODULES=counted_tasks", "--gin.TRAIN_STEPS=1"]
  command += ["--gin.MIXTURE_OR_TASK_NAME=counted", "--gin.MODEL_DIR=unused"]
  command += [f"--gin.CACHE_DIR={tmp_path / 'tokens'}"]
  path = os.pathsep.join([str(tmp_path), str(conftest.ROOT)])
  environment = os.environ | {"PYTHONPATH": path, "COUNTED": str(log)}
  both = [
    subprocess.Popen(
      command, env=environment, stdout=subprocess.PIPE, text=True
    )
    for _ in range(2)
  ]
  said = [process.communicate(timeout=600)[0] for process in both]
  line = "counted, train: 8 tasks, 160 rows, 800 tokens"
  assert {*"".join(said).splitlines()} == {line}
  assert [process.returncode for process in both] == [0, 0]
  read = [line.split() for line in log.read_text().splitlines()]
  assert sorted(name for name, _ in read) == [f"counted_{i}" for i in range(8)]
  assert len({pid for _, pid in read}) == 2
