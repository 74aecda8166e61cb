"""Compilers' refusals as they were said, and programs' texts where one is not read."""

import tempfile

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from hyperjax import sharding
from hyperjax.memory import sheets
from hyperjax.planning import compiling, jobs, targets

GIB = 2**30
# libtpu 0.0.52, T5-Large unsharded for v5e:8x8.
E1000 = (
  "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the "
  "total memory required for HLO temporaries (17.55G) exceeds available HBM "
  "(15.75G). HLO module: jit_train_step.\n"
  "See https://openxla.org/xla/errors/error_1000 for more details."
)
# As earlier compilers said it.
LISTED = """RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 22.84G of 15.48G hbm. Exceeded hbm capacity by 7.36G.

Total hbm usage >= 23.36G:
    reserved        530.00M
    program          14.05G
    arguments         8.79G

Output size 8.79G; shares 8.79G with arguments.

Program hbm requirement 14.05G:
    global           132.0K
    HLO temp         14.05G (99.9% utilization: Unpadded (13.9G) Padded (14.0G), 0.1% fragmentation (9.61M))

  Largest program allocations in hbm:

  1. Size: 3.00G
     Operator: op_name="jit(step)/while"
     Shape: bf16[24,16,16,512,512]{4,3,2,1,0:T(8,128)(2,1)}
     Unpadded size: 3.00G
     XLA label: fusion.1 = fusion(), kind=kLoop
     Allocation type: HLO temp
     ==========================

  2. Size: 512.00M
     Operator: op_name="jit(step)/dot_general"
     Shape: f32[16,512,16384]{2,1,0:T(8,128)}
     Unpadded size: 512.00M
     Allocation type: HLO temp
     ==========================
"""


@pytest.mark.parametrize(
  ("said", "needed", "available"),
  [
    (E1000, int(17.55 * GIB), int(15.75 * GIB)),
    (LISTED, int(22.84 * GIB), int(15.48 * GIB)),
    ("RESOURCE_EXHAUSTED: Out of memory allocating 5368709120 bytes.", 5 * GIB, None),
    ("RESOURCE_EXHAUSTED: no more", None, None),
  ],
)  # fmt: skip
def test_what_was_needed_and_what_there_is(said, needed, available):
  found = compiling.refusal(said)
  assert (found.needed, found.available) == (needed, available)
  assert found.said == said


def test_the_largest_arrays_are_those_that_the_compiler_lists():
  assert compiling.refusal(LISTED).largest == [
    ("bf16[24,16,16,512,512]{4,3,2,1,0:T(8,128)(2,1)}", 3 * GIB),
    ("f32[16,512,16384]{2,1,0:T(8,128)}", GIB // 2),
  ]
  assert compiling.refusal(E1000).largest == []


@pytest.fixture
def unread(monkeypatch, tmp_path):
  """Compiles a gather of 8 parts of 16 numbers, of whose text JAX cannot make sense."""

  def as_text(self):
    raise jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure")

  def compiled():
    devices = jax.devices()[:8]
    layout = sharding.MeshSpec({"fsdp": 8}).build(devices)
    split = NamedSharding(layout.mesh, PartitionSpec("fsdp"))
    whole = NamedSharding(layout.mesh, PartitionSpec())
    x = jax.ShapeDtypeStruct((128,), jnp.float32, sharding=split)
    gather = jax.jit(lambda x: 2 * x, out_shardings=whole)
    job = jobs.Job("", lambda: gather.trace(x), layout, {}, None, None)
    sheet = sheets.SHEETS["v5e"]
    name = "v5e:2x4"  # though its compiler is the host's
    target = targets.Target(name, devices, sheet, None, True, name)
    return compiling.compiled(job, target)

  monkeypatch.setattr(jax.stages.Compiled, "as_text", as_text)
  monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
  return compiled


def test_a_text_that_jax_cannot_read_is_the_compilers_own(unread, tmp_path):
  found = unread()
  assert found.collectives == {"all-gather": 7 * 16 * 4}
  # Each device reads at least its own part and writes the whole.
  assert found.moved >= (16 + 128) * 4
  assert not list(tmp_path.iterdir())


def test_without_a_text_memory_is_known_and_what_is_sent_is_not(
  unread, monkeypatch
):
  monkeypatch.setattr(compiling, "_DUMP", {})
  monkeypatch.setattr(compiling, "_DUMPED", "*.none")
  found = unread()
  assert (found.collectives, found.moved) == (None, None)
  assert found.takes.arguments == 16 * 4
  assert found.takes.outputs == 128 * 4
