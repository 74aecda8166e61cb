"""What is said to a training step that does not fit, and that it is true."""

import ast
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hyperjax import optimizers, sharding, trainer
from hyperjax.batch import Batch
from hyperjax.memory import advice, capacity, program
from hyperjax.memory.answer import OutOfMemory
from hyperjax.models import problems
from hyperjax.models.t5_layers import T5Config
from tests import testing

CONFIG = T5Config(
  vocab_size=64,
  emb_dim=8,
  num_heads=2,
  head_dim=4,
  mlp_dim=8,
  num_encoder_layers=1,
  num_decoder_layers=1,
)
PROBLEM = problems.LanguageModel(CONFIG)


def _made(problem=PROBLEM, devices=1):
  layout = sharding.MeshSpec().build(jax.devices()[:devices])
  optimizer = optimizers.AdamW(optimizers.Constant(1e-3))
  return functools.partial(trainer.Trainer, problem, optimizer, layout)


def _outline(rows, inputs=64, targets=8):
  """Shapes of a batch of rows without demonstrations."""
  ids = jax.ShapeDtypeStruct((rows, targets), np.int32)
  weights = jax.ShapeDtypeStruct((rows, targets), np.float32)
  tokens = jax.ShapeDtypeStruct((rows, inputs), np.int32)
  return Batch(tokens, ids, ids, weights)


def _said(made, rows, contexts=None, **lengths):
  batch = _outline(rows, **lengths)
  with pytest.raises(OutOfMemory) as found:
    advice.check_step(made(1), made, contexts or rows, batch)
  assert found.value.asked > found.value.available
  return str(found.value)


def _bytes(made, parts, batch):
  """What a step takes, from XLA's own account of it."""
  of_parts = made(parts)
  with of_parts.layout.activate():
    traced = of_parts.trace_train_step(batch)
    stats = traced.lower().compile().memory_analysis()
  total = stats.temp_size_in_bytes + stats.output_size_in_bytes
  return total - stats.alias_size_in_bytes


@pytest.mark.slow
def test_the_fewest_microbatches_that_fit_are_named():
  """Of a batch that takes some forty times what there is."""
  made, free = _made(), capacity.host()
  each = _bytes(made, 1, _outline(1 << 10)) / (1 << 10)
  rows = 1 << int(np.log2(40 * free / each))
  said = _said(made, rows)
  found = re.fullmatch(
    rf"a training step of {rows} rows takes ([\d,.]+) GiB of memory, "
    r"([\d,.]+) GiB are free for it: set NUM_MICROBATCHES=(\d+)",
    said,
  )
  assert found, said
  parts = int(found[3])
  assert rows % parts == 0
  # Half as many parts are as many rows again.
  assert _bytes(made, parts, _outline(rows)) < 1.1 * free
  made(parts).check_memory(_outline(rows))
  with pytest.raises(OutOfMemory):
    made(parts // 2).check_memory(_outline(rows))


@pytest.mark.slow
def test_where_one_row_is_too_long_shorter_texts_are_named():
  # Its scores: 2^36 by 2 heads by 4 bytes, some 512 GiB each.
  said = _said(_made(), 2, inputs=1 << 18)
  found = re.search(
    r": set NUM_MICROBATCHES=2 and TASK_FEATURE_LENGTHS=(\{.*\})$", said
  )
  assert found, said
  lengths = ast.literal_eval(found[1])
  assert lengths["inputs"] < 1 << 18 and lengths["targets"] == 8
  _made()(2).check_memory(_outline(2, **lengths))


@pytest.mark.slow
def test_tasks_side_by_side_get_microbatches_of_rows_of_each():
  problem = problems.AdapterFineTuning(CONFIG, testing.SPECS["lora"], 2)
  made = _made(problem, 2)
  said = _said(made, 1 << 12, contexts=2, inputs=1 << 12)
  parts = int(re.search(r": set NUM_MICROBATCHES=(\d+)$", said)[1])
  assert parts > 1 and (1 << 11) % parts == 0
  made(parts).check_memory(_outline(1 << 12, inputs=1 << 12))


def test_a_model_that_does_not_fit_is_refused_before_it_is_read():
  made = _made()(1)
  advice.check_state(made, capacity.host() // 4)
  with pytest.raises(OutOfMemory, match="a smaller model, or a machine"):
    advice.check_state(made, 1 << 60)


class _Squares:
  """A step whose program holds rows of 2^20 numbers at once, and no more."""

  def __init__(self, num_microbatches, num_tasks=1):
    self.num_microbatches, self.problem = num_microbatches, self
    self.num_tasks, self.layout = num_tasks, self
    self.data_parallel, self.abstract = 1, None

  def check_memory(self, batch):
    rows = len(batch.encoder_input_tokens) // self.num_microbatches
    length = batch.encoder_input_tokens.shape[1]
    wide = program.Program(
      lambda x: jnp.exp(x[:, None] * jnp.ones(length << 14)), ""
    )
    wide.check(jax.ShapeDtypeStruct((rows,), np.float32))


def _free_rows():
  """How many rows of 64 tokens fit: 2^20 numbers of four bytes each."""
  return capacity.host() >> 22


@pytest.mark.parametrize("now", [1, 4])
def test_the_least_divisor_that_fits_is_found(now):
  # A number without small divisors, so that nothing lies between 4 and 8; what
  # others take or leave meanwhile does not matter.
  odd = int(_free_rows() * 5.6 / 16)
  while any(odd % n == 0 for n in range(2, 40)):
    odd += 1
  rows = 16 * odd
  with pytest.raises(OutOfMemory) as found:
    advice.check_step(_Squares(now), _Squares, rows, _outline(rows))
  in_parts = " in 4 microbatches" if now > 1 else ""
  assert str(found.value).startswith(
    f"a training step of {rows} rows{in_parts} takes "
  )
  assert str(found.value).endswith(": set NUM_MICROBATCHES=8")


def test_rows_of_tasks_side_by_side_are_divided_until_they_fit():
  rows = 1 << int(np.log2(_free_rows() * 6))
  with pytest.raises(OutOfMemory) as found:
    advice.check_step(_Squares(1, 2), _Squares, 2, _outline(rows))
  parts = int(re.search(r": set NUM_MICROBATCHES=(\d+)$", str(found.value))[1])
  assert parts in (4, 8) and rows // parts <= _free_rows()


def test_nothing_is_advised_where_nothing_fits():
  class Never(_Squares):
    def check_memory(self, batch):
      raise OutOfMemory("it", 2, 1)

  with pytest.raises(OutOfMemory, match="take a smaller model, or a machine"):
    advice.check_step(Never(1), Never, 4, _outline(4))
