"""What is free, read from files as Linux writes them."""

import pytest

from hyperjax.memory import capacity

GIB = 2**30
# What is left alone, so that a limit is not reached.
SHARE = 0.9


def _machine(root, free=100 * GIB):
  (root / "proc" / "self").mkdir(parents=True)
  (root / "proc" / "meminfo").write_text(
    f"MemTotal:  999999999 kB\nMemFree:  1 kB\nMemAvailable: {free // 1024} kB\n"
  )


def _group(folder, limit, usage, stat=""):
  folder.mkdir(parents=True, exist_ok=True)
  version1 = "memory/" in str(folder) or folder.name == "memory"
  names = (
    ("limit_in_bytes", "usage_in_bytes") if version1 else ("max", "current")
  )
  for name, value in zip(names, (limit, usage), strict=True):
    (folder / f"memory.{name}").write_text(f"{value}\n")
  (folder / "memory.stat").write_text(stat)


def test_without_limits_it_is_what_the_machine_can_give(tmp_path):
  _machine(tmp_path)
  assert capacity.host(tmp_path) == int(SHARE * 100 * GIB)


def test_where_nothing_is_said_nothing_is_known(tmp_path):
  assert capacity.host(tmp_path) is None


@pytest.mark.parametrize("limited", ["own", "parent", "root"])
def test_a_group_of_version_2_limits_its_processes_and_those_within(
  tmp_path, limited
):
  _machine(tmp_path)
  (tmp_path / "proc/self/cgroup").write_text("0::/jobs/mine\n")
  mount = tmp_path / "sys/fs/cgroup"
  folders = {
    "root": mount,
    "parent": mount / "jobs",
    "own": mount / "jobs/mine",
  }
  for name, folder in folders.items():
    limit = 10 * GIB if name == limited else "max"
    _group(folder, limit, 4 * GIB, "anon 5\ninactive_file 1073741824\n")
  # One of the four that are taken is files that can be dropped.
  assert capacity.host(tmp_path) == int(SHARE * (10 - 4 + 1) * GIB)


def test_a_group_of_version_1_counts_the_files_of_all_within_it(tmp_path):
  _machine(tmp_path)
  lines = "9:name=systemd:/\n4:cpu,memory:/mine\n0::/\n"
  (tmp_path / "proc/self/cgroup").write_text(lines)
  stat = f"inactive_file 7\ntotal_inactive_file {2 * GIB}\n"
  memory = tmp_path / "sys/fs/cgroup/memory"
  _group(memory, 2**63 - 4096, 50 * GIB)
  _group(memory / "mine", 8 * GIB, 5 * GIB, stat)
  assert capacity.host(tmp_path) == int(SHARE * (8 - 5 + 2) * GIB)


def test_a_container_that_sees_its_group_as_the_topmost_is_limited(tmp_path):
  _machine(tmp_path)
  (tmp_path / "proc/self/cgroup").write_text("0::/docker/0123\n")
  _group(tmp_path / "sys/fs/cgroup", 3 * GIB, GIB)
  assert capacity.host(tmp_path) == int(SHARE * 2 * GIB)


def test_a_limited_address_space_counts(tmp_path):
  _machine(tmp_path)
  own = tmp_path / "proc" / "self"
  own.joinpath("limits").write_text(
    "Limit                     Soft Limit           Hard Limit           Units\n"
    f"Max address space         {6 * GIB}           unlimited            bytes\n"
  )
  own.joinpath("status").write_text(
    f"Name: python\nVmSize: {2 * GIB // 1024} kB\n"
  )
  assert capacity.host(tmp_path) == int(SHARE * 4 * GIB)


def test_more_taken_than_allowed_leaves_nothing(tmp_path):
  _machine(tmp_path)
  (tmp_path / "proc/self/cgroup").write_text("0::/\n")
  _group(tmp_path / "sys/fs/cgroup", 3 * GIB, 4 * GIB)
  assert capacity.host(tmp_path) == 0


class _Accelerator:
  """As much of a device as is asked."""

  platform = "gpu"

  def __init__(self, stats):
    self._stats = stats

  def memory_stats(self):
    return self._stats


def test_of_accelerators_the_fullest_counts_and_silent_ones_do_not():
  devices = [
    _Accelerator({"bytes_limit": 80 * GIB, "bytes_in_use": 50 * GIB}),
    _Accelerator({"bytes_limit": 80 * GIB, "bytes_in_use": 60 * GIB}),
    _Accelerator(None),
  ]
  assert capacity.available(devices) == 20 * GIB
  assert capacity.available(devices[2:]) is None
