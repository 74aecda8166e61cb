"""What is read off a compiled program's text, against arithmetic."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from hyperjax.memory import hlo
from hyperjax.planning import collectives, traffic

LAYERS, WIDTH = 6, 64


@functools.cache
def _scanned():
  """A loop of products by layers that lie stacked."""

  def layers(x, stacked):
    return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, stacked)[0]

  x = jax.ShapeDtypeStruct((4, WIDTH), jnp.float32)
  stacked = jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), jnp.float32)
  return jax.jit(layers).lower(x, stacked).compile().as_text()


def test_a_loop_of_a_host_says_how_often_it_turns():
  program = hlo.read(_scanned())
  assert max(program.times.values()) == LAYERS
  assert program.times[program.entry] == 1


# As the TPU compiler writes a loop, shortened.
TPU = """HloModule jit_step, is_scheduled=true

%body.1 (p: (s32[], bf16[16,64])) -> (s32[], bf16[16,64]) {
  %p = (s32[]{:T(128)}, bf16[16,64]{1,0:T(8,128)(2,1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %x = bf16[16,64]{1,0:T(8,128)(2,1)} get-tuple-element(%p), index=1
  %near = bf16[16,64]{1,0:T(8,128)(2,1)S(1)} copy(%x)
  %all-gather.3 = bf16[128,64]{1,0:T(8,128)(2,1)S(1)} all-gather(%near), channel_id=5, replica_groups=mesh['axis_0'=8,'axis_1'=2] {'axis_0'}, dimensions={0}, frontend_attributes={chain_id="4"}
  %all-gather.4 = bf16[128,64]{1,0:T(8,128)(2,1)S(1)} all-gather(%near), channel_id=5, replica_groups=mesh['axis_0'=8,'axis_1'=2] {'axis_0'}, dimensions={0}, frontend_attributes={chain_id="4"}
  ROOT %t = (s32[]{:T(128)}, bf16[16,64]{1,0:T(8,128)(2,1)}) tuple(%i, %x)
}

%condition.1 (p.2: (s32[], bf16[16,64])) -> pred[] {
  %constant.9 = s32[]{:T(128)} constant(12)
  %p.2 = (s32[]{:T(128)}, bf16[16,64]{1,0:T(8,128)(2,1)}) parameter(0)
  %i.2 = s32[]{:T(128)} get-tuple-element(%p.2), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i.2, %constant.9), direction=LT
}

ENTRY %main.3 (a: bf16[16,64]) -> bf16[16,64] {
  %a = bf16[16,64]{1,0:T(8,128)(2,1)} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %first = (s32[]{:T(128)}, /*index=1*/bf16[16,64]{1,0:T(8,128)(2,1)}) tuple(%zero, %a)
  %loop = (s32[]{:T(128)}, bf16[16,64]{1,0:T(8,128)(2,1)}) while(%first), condition=%condition.1, body=%body.1
  ROOT %out = bf16[16,64]{1,0:T(8,128)(2,1)} get-tuple-element(%loop), index=1
}
"""


def test_a_loop_of_a_tpu_turns_as_often_as_its_counter_is_compared_with():
  assert hlo.read(TPU).times["body.1"] == 12


def test_what_a_loop_says_of_its_turns_counts_before_its_counter():
  said = 'body=%body.1, backend_config={"known_trip_count":{"n":"5"}}'
  assert hlo.read(TPU.replace("body=%body.1", said)).times["body.1"] == 5


def test_a_gather_behind_several_operations_is_sent_once():
  # 7 other devices' parts of 16 x 64 in bfloat16, at each of 12 turns.
  assert collectives.by_kind(TPU) == {"all-gather": 12 * 7 * 16 * 64 * 2}


def test_what_stays_in_fast_memory_moves_nothing():
  # Of each turn only the copy reads main memory, and the comparison two counters.
  assert traffic.moved(TPU) == 12 * (16 * 64 * 2 + 4 + 4 + 1)


# As the TPU compiler writes rows of a table that a core beside the others takes, and a
# gather in the background, shortened.
ASYNC = """HloModule jit_step, is_scheduled=true

%fused (table: bf16[512,64], rows: s32[16]) -> bf16[16,64] {
  %table = bf16[512,64]{1,0:T(8,128)(2,1)} parameter(0)
  %rows = s32[16]{0:T(1024)} parameter(1)
  ROOT %gather.1 = bf16[16,64]{1,0:T(8,128)(2,1)} gather(%table, %rows), offset_dims={1}
}, execution_thread="sparsecore"

%called (table.1: bf16[512,64], rows.1: s32[16]) -> bf16[16,64] {
  %table.1 = bf16[512,64]{1,0:T(8,128)(2,1)} parameter(0)
  %rows.1 = s32[16]{0:T(1024)} parameter(1)
  ROOT %taken = bf16[16,64]{1,0:T(8,128)(2,1)} fusion(%table.1, %rows.1), kind=kCustom, calls=%fused
}, execution_thread="sparsecore"

%async_computation (table.2: bf16[512,64], rows.2: s32[16]) -> bf16[16,64] {
  %table.2 = bf16[512,64]{1,0:T(8,128)(2,1)} parameter(0)
  %rows.2 = s32[16]{0:T(1024)} parameter(1)
  ROOT %custom-call.5 = bf16[16,64]{1,0:T(8,128)(2,1)} custom-call(%table.2, %rows.2), custom_call_target="TODO(b/1)", called_computations={%called}
}, execution_thread="sparsecore"

%async_computation.1 (part: bf16[16,64]) -> bf16[128,64] {
  %part = bf16[16,64]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.3 = bf16[128,64]{1,0:T(8,128)(2,1)} all-gather(%part), channel_id=5, replica_groups=mesh['axis_0'=8] {'axis_0'}, dimensions={0}
}

ENTRY %main.3 (a: bf16[512,64], b: s32[16]) -> bf16[128,64] {
  %a = bf16[512,64]{1,0:T(8,128)(2,1)} parameter(0)
  %b = s32[16]{0:T(1024)} parameter(1)
  %start = ((), (), (s32[32768]{0:T(1024)}, s32[25]{0:T(1)S(11)})) async-start(), async_execution_thread="sparsecore", calls=%async_computation
  %start.update = ((bf16[512,64]{1,0:T(8,128)(2,1)}, s32[16]{0:T(1024)}), bf16[16,64]{1,0:T(8,128)(2,1)}, (s32[32768]{0:T(1024)})) async-update(%start, %a, %b), output_to_operand_aliasing={{2,0}: (0, {2,0})}
  %done = bf16[16,64]{1,0:T(8,128)(2,1)} async-done(%start.update)
  %start.1 = ((bf16[16,64]{1,0:T(8,128)(2,1)}), bf16[128,64]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) async-start(%done), calls=%async_computation.1
  ROOT %done.1 = bf16[128,64]{1,0:T(8,128)(2,1)} async-done(%start.1), calls=%async_computation.1
}
"""


def test_what_runs_in_the_background_is_sent_once():
  assert collectives.by_kind(ASYNC) == {"all-gather": 7 * 16 * 64 * 2}


def test_what_runs_in_the_background_moves_what_it_takes_and_makes():
  # 16 rows of the table and their numbers are read, the rows written; then these
  # are read and the whole is written.
  rows = 16 * 64 * 2
  assert traffic.moved(ASYNC) == (rows + 16 * 4 + rows) + (rows + 8 * rows)


def test_a_copy_in_the_background_is_read_and_written_once():
  """Its result names both."""
  started = """
  %copy-start = (bf16[16,64]{1,0:T(8,128)(2,1)S(1)}, bf16[16,64]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%x)
  %near = bf16[16,64]{1,0:T(8,128)(2,1)S(1)} copy-done(%copy-start)
"""
  copy = "\n  %near = bf16[16,64]{1,0:T(8,128)(2,1)S(1)} copy(%x)\n"
  assert copy in TPU
  begun = TPU.replace(copy, started)
  assert traffic.moved(begun) == 12 * (16 * 64 * 2 + 4 + 4 + 1)


def test_a_turn_reads_its_own_layer_and_no_other():
  moved = traffic.moved(_scanned())
  layers = 4 * LAYERS * WIDTH * WIDTH
  assert layers < moved < 4 * layers  # every layer as a whole would be 6 times


# As the TPU compiler writes a product with one layer of stacked weights, and a cache of
# which one layer is written: what takes a part stands in a fusion within a fusion.
NESTED = """
%inner.1 (w: f32[6,32,32], i: s32[]) -> f32[32,32] {
  %w = f32[6,32,32]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero.1 = s32[] constant(0)
  %slice = f32[1,32,32]{2,1,0} dynamic-slice(%w, %i, %zero.1, %zero.1), dynamic_slice_sizes={1,32,32}
  ROOT %layer = f32[32,32]{1,0} bitcast(%slice)
}

%product.1 (w.1: f32[6,32,32], i.1: s32[], x.1: f32[4,32]) -> f32[4,32] {
  %x.1 = f32[4,32]{1,0} parameter(2)
  %w.1 = f32[6,32,32]{2,1,0} parameter(0)
  %i.1 = s32[] parameter(1)
  %own = f32[32,32]{1,0} fusion(%w.1, %i.1), kind=kLoop, calls=%inner.1
  ROOT %dot = f32[4,32]{1,0} convolution(%x.1, %own), dim_labels=bf_io->bf
}

%update.1 (c: f32[6,4,32], y: f32[1,4,32], i.2: s32[]) -> f32[6,4,32] {
  %c = f32[6,4,32]{2,1,0} parameter(0)
  %y = f32[1,4,32]{2,1,0} parameter(1)
  %i.2 = s32[] parameter(2)
  %zero.2 = s32[] constant(0)
  ROOT %put = f32[6,4,32]{2,1,0} dynamic-update-slice(%c, %y, %i.2, %zero.2, %zero.2)
}

%outer.1 (c.1: f32[6,4,32], y.1: f32[1,4,32], i.3: s32[]) -> f32[6,4,32] {
  %c.1 = f32[6,4,32]{2,1,0} parameter(0)
  %y.1 = f32[1,4,32]{2,1,0} parameter(1)
  %i.3 = s32[] parameter(2)
  ROOT %within = f32[6,4,32]{2,1,0} fusion(%c.1, %y.1, %i.3), kind=kLoop, calls=%update.1
}

ENTRY %main.1 (p: f32[6,32,32], q: s32[], r: f32[4,32], s: f32[6,4,32], t: f32[1,4,32]) -> f32[4,32] {
  %p = f32[6,32,32]{2,1,0} parameter(0)
  %q = s32[] parameter(1)
  %r = f32[4,32]{1,0} parameter(2)
  %s = f32[6,4,32]{2,1,0} parameter(3)
  %t = f32[1,4,32]{2,1,0} parameter(4)
  %kept = f32[6,4,32]{2,1,0} fusion(%s, %t, %q), kind=kLoop, calls=%outer.1
  ROOT %made = f32[4,32]{1,0} fusion(%p, %q, %r), kind=kOutput, calls=%product.1
}
"""


def test_a_fusion_within_a_fusion_reads_and_writes_its_part_alone():
  product = (
    32 * 32 + 1 + 4 * 32 + 4 * 32
  )  # a layer, its number, rows in and out
  update = 4 * 32 + 1 + 4 * 32  # a row's layer read, its number, written
  assert traffic.moved(NESTED) == 4 * (product + update)


@pytest.mark.parametrize("kind", ["all-reduce", "all-gather"])
def test_a_ring_sends_what_arithmetic_says(kind):
  mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
  split = NamedSharding(mesh, PartitionSpec("x"))
  everywhere = NamedSharding(mesh, PartitionSpec())
  if kind == "all-gather":
    made = jax.jit(lambda x: 2 * x, out_shardings=everywhere)
    sent = 7 * 16 * 4
  else:
    made = jax.jit(lambda x: x.reshape(8, 16).sum(0), out_shardings=everywhere)
    sent = 2 * 7 * 16 * 4 // 8
  x = jax.ShapeDtypeStruct((128,), jnp.float32, sharding=split)
  assert collectives.by_kind(made.lower(x).compile().as_text()) == {kind: sent}
