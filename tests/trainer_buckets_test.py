"""A step over microbatches of different shapes is the step of the padded batch."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from hyperjax import adapters, trees
from hyperjax.batch import Context, Lengths, Sizes, assemble
from hyperjax.data.buckets import Bucket, Microbatches
from hyperjax.models import hypermodel, problems
from hyperjax.models.t5_layers import T5Config
from tests import testing
from tests.trainer_update_test import Kept

# Extents that every mesh below divides.
CONFIG = T5Config(
  vocab_size=16,
  emb_dim=8,
  num_heads=2,
  head_dim=4,
  mlp_dim=8,
  num_encoder_layers=1,
  num_decoder_layers=1,
)
LENGTHS = Lengths(inputs=6, targets=4, demonstrations=10)
SHORT = Lengths(inputs=4, targets=2, demonstrations=5)


def _hypertuning(**options):
  hyper = hypermodel.HyperT5Config(CONFIG, head_hidden_dim=8)
  return problems.HyperTuning(
    CONFIG, hyper, adapters.PrefixSpec(2), z_loss=0.02, **options
  )


PROBLEMS = {
  "hypertuning": _hypertuning(),
  "joint": _hypertuning(train_backbone=True),
  "in context": problems.FullFineTuning(CONFIG, reads_demonstrations=True),
  "language model": problems.LanguageModel(CONFIG),
  "shared adapter": problems.AdapterFineTuning(CONFIG, adapters.LoraSpec(2)),
}


class _Source:
  """Ten contexts of two rows, of which every other one is short."""

  def __init__(self, lengths=LENGTHS, short=SHORT):
    self.lengths, self.num_skipped, self.tasks = lengths, 0, ()
    generator = np.random.default_rng(3)
    self._contexts = [
      self._context(generator, (lengths, short)[i % 2]) for i in range(10)
    ]

  def _context(self, generator, most):
    def row(length):
      return generator.integers(2, 16, generator.integers(1, length + 1))

    if most.are_separate:
      count = generator.integers(1, most.num_demonstrations + 1)
      read = [row(most.demonstrations) for _ in range(count)]
    else:
      read = row(most.demonstrations)
    return Context(
      [row(most.inputs) for _ in range(2)],
      [row(most.targets) for _ in range(2)],
      read,
    )

  def __getitem__(self, index):
    return self._contexts[index]

  def task_of(self, index):
    raise NotImplementedError

  def sizes(self, index):
    context = self[index]
    read = context.demonstrations
    if isinstance(read, np.ndarray):
      shown = len(read), 0
    else:
      shown = max(map(len, read)), len(read)
    return Sizes(
      max(map(len, context.inputs)), max(map(len, context.targets)), *shown
    )


def _buckets(devices=1, lengths=LENGTHS, short=SHORT):
  """Neither number of contexts divides those that there are."""
  return Bucket(3 * devices, lengths), Bucket(4 * devices, short)


def _updated(trainer, batch, given=None):
  state, metrics = trainer.train_step(
    trainer.init(0, given), trainer.layout.place_own(batch)
  )
  return jax.device_get((state.params, state.opt_state, metrics))


@functools.cache
def _whole(name):
  """Weights to begin with, and what the padded batch makes of them."""
  trainer, source = testing.make_trainer(PROBLEMS[name], Kept()), _Source()
  batch = assemble([source[i] for i in range(10)], LENGTHS)
  state = trainer.init(0)
  given = jax.device_get((state.params, state.frozen))
  return given, _updated(trainer, batch, given)


def _assert_same(found, wanted):
  """Weights, gradients and metrics, by the norm of each array."""
  (params, grads, metrics), (own_params, own_grads, own_metrics) = found, wanted
  for one, other in ((params, own_params), (grads, own_grads)):
    one, other = trees.flatten(one), trees.flatten(other)
    assert one.keys() == other.keys()
    for name, array in other.items():
      distance = np.linalg.norm(one[name] - array)
      assert distance <= 1e-5 * np.linalg.norm(array) + 1e-7, name
  assert metrics.keys() == own_metrics.keys()
  for name, (total, weight) in own_metrics.items():
    np.testing.assert_allclose(metrics[name][0], total, 1e-5, err_msg=name)
    assert metrics[name][1] == weight, name


@pytest.mark.parametrize(
  "name",
  [
    "language model",
    *(
      pytest.param(x, marks=pytest.mark.slow)
      for x in PROBLEMS
      if x != "language model"
    ),
  ],
)
def test_a_step_in_buckets_is_that_of_the_padded_batch_in_any_order(name):
  given, wanted = _whole(name)
  assert wanted[2]["loss"][0] > 1 and wanted[2]["gradient_norm"][0] > 0.01
  trainer = testing.make_trainer(PROBLEMS[name], Kept())
  made = Microbatches(_Source(), 10, _buckets())
  parts = made(0)
  assert len({x.encoder_input_tokens.shape for x in parts}) == 2
  assert len(parts) > 2
  trainer.check_memory(made.outlines())
  with testing.compilations() as compiled:
    found = _updated(trainer, parts, given)
  # The sums of none; all else was compiled when it was checked. Drawing the state
  # takes three.
  assert len(compiled) <= 4
  _assert_same(found, wanted)
  with testing.compilations() as compiled:
    _assert_same(_updated(trainer, parts[::-1], given), wanted)
  assert len(compiled) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("axes", [{}, {"fsdp": 2, "tensor": 2}], ids=str)
def test_it_is_the_same_on_eight_devices(axes):
  given, wanted = _whole("hypertuning")
  trainer = testing.make_trainer(PROBLEMS["hypertuning"], Kept(), 8, axes)
  devices = trainer.layout.data_parallel
  assert devices == (4 if axes else 8)
  made = Microbatches(
    _Source(), 10, _buckets(devices), trainer.layout.own_contexts
  )
  _assert_same(_updated(trainer, made(0), given), wanted)


@pytest.mark.slow
def test_fewer_demonstrations_that_are_encoded_by_themselves_are_the_same():
  lengths = Lengths(6, 4, 5, 4)
  short = Lengths(4, 2, 3, 2)
  source = _Source(lengths, short)
  trainer = testing.make_trainer(PROBLEMS["hypertuning"], Kept())
  state = trainer.init(0)
  given = jax.device_get((state.params, state.frozen))
  batch = assemble([source[i] for i in range(10)], lengths)
  parts = Microbatches(source, 10, _buckets(1, lengths, short))(0)
  assert {x.demonstrations.shape[1:] for x in parts} == {(4, 5), (2, 3)}
  _assert_same(_updated(trainer, parts, given), _updated(trainer, batch, given))


@pytest.mark.slow
def test_each_microbatch_of_a_step_drops_out_with_a_key_of_its_own():
  """Of the step and of its place: the same again, another in another step."""
  config = dataclasses.replace(CONFIG, dropout_rate=0.5)
  trainer = testing.make_trainer(problems.LanguageModel(config), Kept())
  parts = Microbatches(_Source(), 10, (Bucket(2, LENGTHS),))(0)
  batch = trainer.layout.place_own((parts[0], parts[0]))

  def gradients(step, batch):
    state = dataclasses.replace(trainer.init(0), step=jax.numpy.int32(step))
    state, _ = trainer.train_step(state, batch)
    return trees.flatten(jax.device_get(state.opt_state))

  first, again, later = (gradients(step, batch) for step in (0, 0, 1))
  alone = gradients(0, batch[:1])
  name = "backbone/decoder/logits_dense/kernel"
  np.testing.assert_array_equal(first[name], again[name])
  assert np.abs(first[name] - later[name]).max() > 1e-3
  # Were both dropped out alike, the mean of two would be that of one.
  assert np.abs(first[name] - alone[name]).max() > 1e-3
