"""`benchmarks.gpu`, tried on a CPU at tiny sizes."""

import json
import subprocess
import sys
import types

import pytest

from benchmarks import gpu, gpu_cases, gpu_timing

BLOCKED = """
import sys
for name in ("tensorflow", "seqio", "gin"):
  sys.modules[name] = None
sys.argv = ["gpu", *sys.argv[1:]]
from benchmarks import gpu
gpu.main()
"""


def _main(*options):
  return subprocess.run(
    [sys.executable, "-c", BLOCKED, "--platform=cpu", "--size=tiny", *options],
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  "name", ["decode 4 beams", "large lora", "sni lengths buckets", "float32"]
)
def test_a_case_is_measured_without_tensorflow_seqio_and_gin(name):
  ended = _main(f"--case={name}")
  assert not ended.returncode, ended.stderr
  found = json.loads(ended.stdout)
  assert found["case"] == name and found["device"] == "cpu"
  if name == "float32":
    assert found["apart"] == 0 < found["largest"]
    return
  assert found["seconds"] > 0
  assert gpu.columns(found)[0] == format(found["seconds"] * 1e3, ".1f")


def test_a_case_that_fails_or_takes_too_long_is_a_line_of_its_own():
  """The others' stay."""
  say = "import sys; sys.exit('no memory\\nis left')"
  failed = gpu.run_case([sys.executable, "-S", "-c", say], "large", 60)
  late = gpu.run_case(
    [sys.executable, "-S", "-c", "import time; time.sleep(60)"], "xl", 0.5
  )
  fine = {"case": "base", "seconds": 0.5, "tokens_per_s": 2000, "first_s": 3}
  lines = gpu.table([failed, late, fine]).splitlines()
  assert lines[2:] == [
    "| large | is left |",
    "| xl | not done after 0 s |",
    "| base | 500.0 | 2,000 |  |  |  |  | 3.0 |",
  ]


def test_every_case_can_be_asked_for_among_others():
  arguments = types.SimpleNamespace(
    cases=",".join(gpu_cases.CASES), size="tiny", platform="cpu", torch=""
  )
  assert list(gpu.commands(arguments)) == list(gpu_cases.CASES)


def test_a_case_that_there_is_not_is_refused_by_name():
  arguments = types.SimpleNamespace(
    cases="decode, deocde", size="tiny", platform="cpu", torch=""
  )
  with pytest.raises(SystemExit, match="--cases names deocde"):
    gpu.commands(arguments)


def test_kernels_of_a_trace_are_summed_by_what_they_are():
  def event(name, ns):
    return types.SimpleNamespace(name=name, duration_ns=ns)

  def line(name, *events):
    return types.SimpleNamespace(name=name, events=events)

  planes = [
    types.SimpleNamespace(
      name="/host:CPU", lines=[line("Stream", event("x", 9))]
    ),
    types.SimpleNamespace(
      name="/device:GPU:0",
      lines=[
        line("XLA Ops", event("fusion", 7)),
        line(
          "Stream #1",
          event("fusion_12", 1e6),
          event("gemm(float*)", 5e6),
          event("fusion_3", 2e6),
        ),
      ],
    ),
  ]
  found = gpu_timing.read_kernels(types.SimpleNamespace(planes=planes))
  assert found == {
    "count": 3,
    "ms": 8.0,
    "longest_ms": {"gemm": 5.0, "fusion": 3.0},
  }
  assert (
    gpu_timing.read_kernels(types.SimpleNamespace(planes=planes[:1])) is None
  )
