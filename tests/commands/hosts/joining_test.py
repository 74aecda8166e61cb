"""Processes that find each other, and end together."""

import json
import os
import signal
import socket
import subprocess

import pytest

from hyperjax import main
from tests.commands.hosts import several

REFUSED = "hyperjax train: "
UNSAID = (
  "ended without a word: it was killed, perhaps for lack of memory, or its"
)
CLUSTER_OF = {
  "Slurm": {
    "SLURM_JOB_ID": "77",
    "SLURM_STEP_NODELIST": "localhost",
    "SLURM_NTASKS": "3",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
  },
  "Open MPI": {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "3",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
  },
}


def _end(*processes):
  """Exit statuses, and the last line that each has said."""
  texts = [several.said(process) for process in processes]
  return (
    [process.returncode for process in processes],
    [text.rstrip("\n").rpartition("\n")[2] for text in texts],
  )


@pytest.mark.parametrize(
  "address", ["a", "a:", "a:b", ":1", "a:0", "a:65536", "::1", "a:1:2", "[::1]"]
)
def test_an_address_without_host_or_port_is_refused(capsys, address):
  given = ["--process_count=2", "--process_index=1"]
  given.append(f"--coordinator_address={address}")
  assert main.main(["train", *given]) == 1
  assert capsys.readouterr().err == (
    f"{REFUSED}--coordinator_address must be HOST:PORT, with a port of 1 to "
    f"65535 that is free on process 0's machine; got {address!r}\n"
  )


def test_partners_that_never_come_are_named_to_all_that_came():
  port = several.free_port()
  came = [several.train(port, 4, index, 2) for index in (0, 2)]
  statuses, lines = _end(*came)
  assert statuses == [1, 1]
  assert lines == 2 * [
    f"{REFUSED}processes 1, 3 of 4 have not come within 2 s (--start_timeout); "
    f"here: processes 0 ({several.HOST}), 2 ({several.HOST})"
  ]


def test_where_process_0_never_comes_its_address_is_named():
  port = several.free_port()
  process = several.train(port, 2, 1, 1)
  assert several.said(process) == (
    f"{REFUSED}process 0 has not answered at localhost:{port} within 1 s "
    "(--start_timeout): Connection refused. Is it started, and does this "
    "address lead to it from here?\n"
  )
  assert process.returncode == 1


def test_a_process_that_counts_otherwise_is_named():
  port = several.free_port()
  statuses, lines = _end(several.train(port, 3, 0), several.train(port, 2, 1))
  assert statuses == [1, 1]
  assert lines == 2 * [
    f"{REFUSED}process 1 ({several.HOST}) was started with a process count of 2, "
    f"process 0 ({several.HOST}) with 3"
  ]


def test_an_index_that_is_given_twice_is_named():
  port = several.free_port()
  statuses, lines = _end(*[several.train(port, 3, i) for i in (0, 1, 1)])
  assert statuses == [1, 1, 1]
  assert lines == 3 * [
    f"{REFUSED}process index 1 was given twice, on {several.HOST} and on "
    f"{several.HOST}"
  ]


def test_a_port_that_another_program_has_is_named():
  with socket.create_server(("localhost", 0)) as taken:
    port = taken.getsockname()[1]
    process = several.train(port, 2, 0)
    assert several.said(process) == (
      f"{REFUSED}process 0 cannot listen on port {port} of "
      "--coordinator_address: Address already in use. Another run has it, or "
      "process index 0 was given twice\n"
    )
  assert process.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("cluster", CLUSTER_OF)
def test_a_cluster_says_which_process_this_is(cluster):
  """Process 0, at the address that JAX reads there, is not started."""
  environment = CLUSTER_OF[cluster]
  process = several.start(
    ["hyperjax.main", "train", "--distributed", "--start_timeout=1"],
    environment,
  )
  text = several.said(process)
  # (65535 - 2**12 + 1) + 77, and + 1531576320 / 2**12 % 2**12.
  address = {"Slurm": "localhost:61517", "Open MPI": "127.0.0.1:62624"}[cluster]
  assert text.startswith(
    f"{REFUSED}process 0 has not answered at {address} within 1 s"
  )
  assert text.count("\n") == process.returncode == 1


@pytest.mark.slow
def test_distributed_where_there_is_no_cluster_is_refused():
  process = several.start(["hyperjax.main", "train", "--distributed"])
  assert several.said(process) == (
    f"{REFUSED}--distributed: no cluster is found here, of Cloud TPU, GKE, Slurm "
    "(srun) and Open MPI (mpirun). On one machine leave it out; elsewhere give "
    "--coordinator_address, --process_count and --process_index\n"
  )
  assert process.returncode == 1


def _joined(process: "subprocess.Popen[str]"):
  assert process.stdout is not None
  while line := process.stdout.readline():
    if line == "joined\n":
      return
  raise AssertionError(f"not joined: {process.wait()}")


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_where_one_is_killed_the_others_say_which_and_end(killed):
  port = several.free_port()
  processes = [several.member("wait", port, 2, index) for index in (0, 1)]
  for process in processes:
    _joined(process)
  processes[killed].send_signal(signal.SIGKILL)
  left = processes[1 - killed]
  host = "localhost" if killed == 0 else several.HOST
  assert several.said(left, 10) == (
    f"{REFUSED}process {killed} ({host}) {UNSAID} machine is gone\n"
  )
  assert left.returncode == 1
  processes[killed].wait()


@pytest.mark.slow
def test_where_one_is_killed_the_run_folder_is_free_for_the_next_start(
  tmp_path,
):
  """At once, also where that is on another machine."""
  port = several.free_port()
  holder = several.member(f"hold={tmp_path}", port, 2, 0)
  other = several.member("wait", port, 2, 1)
  try:
    assert [holder.stdout.readline() for _ in range(2)] == [
      "joined\n",
      "held\n",
    ]
    other.kill()
    assert several.said(holder, 10).startswith(f"{REFUSED}process 1 ")
  finally:
    other.kill()
    holder.kill()
  other.communicate()
  assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, 1])
def test_where_one_fails_the_others_say_which_and_why(failing):
  port = several.free_port()
  whats = ["fail" if index == failing else "wait" for index in (0, 1)]
  processes = [
    several.member(what, port, 2, index) for index, what in enumerate(whats)
  ]
  texts = [several.said(process, 60) for process in processes]
  assert texts[failing].endswith("own: row 3 is empty\nand more of it\n")
  assert texts[1 - failing].endswith(
    f"{REFUSED}process {failing} ({several.HOST}) failed: row 3 is empty\n"
  )
  assert [process.returncode for process in processes] == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("failing", ["fail", "crash"])
def test_who_ends_with_a_refused_process_is_started_again_as_little_as_it(
  tmp_path, monkeypatch, failing
):
  """Or it would wait for a partner that does not come."""
  port = several.free_port()
  monkeypatch.setenv("HYPERJAX_STEP_FILE", str(tmp_path / "step"))
  waiting = several.member("wait", port, 2, 0)
  monkeypatch.delenv("HYPERJAX_STEP_FILE")
  other = several.member(failing, port, 2, 1)
  for process in (waiting, other):
    several.said(process)
    assert process.returncode == 1
  left = json.loads((tmp_path / "step.error").read_text())
  assert left["is_refused"] == (failing == "fail")
  said = {"fail": "row # is empty", "crash": "no room"}[failing]
  assert left["error"].endswith(f"failed: {said}")


@pytest.mark.slow
@pytest.mark.parametrize("later", [0, 1])
def test_who_has_done_its_part_waits_for_the_others(later):
  port = several.free_port()
  whats = ["linger" if index == later else "finish" for index in (0, 1)]
  processes = [
    several.member(what, port, 2, index) for index, what in enumerate(whats)
  ]
  assert [several.said(process) for process in processes] == 2 * ["joined\n"]
  assert [process.returncode for process in processes] == [0, 0]


@pytest.mark.slow
def test_one_that_dies_after_the_others_have_done_their_part_is_named():
  port = several.free_port()
  first = several.member("finish", port, 2, 0)
  other = several.member("wait", port, 2, 1)
  _joined(first)
  _joined(other)
  os.kill(other.pid, signal.SIGKILL)
  assert several.said(first, 10).endswith(
    f"process 1 ({several.HOST}) {UNSAID} machine is gone\n"
  )
  assert first.returncode == 1
  other.wait()
