"""A hypermodel that learns from a T5 with demonstrations in its input."""

import dataclasses

import jax
import numpy as np
import pytest

from hyperjax import adapters
from hyperjax.models import decoding, objectives, t5, teaching
from hyperjax.models.teaching import Teacher
from tests import testing

SPEC = adapters.PrefixSpec(3, key_stddev=4.0)


def _softmax(logits):
  exp = np.exp(np.asarray(logits, np.float64))
  return exp / exp.sum(-1, keepdims=True)


def _divergence(one, other, top=None):
  """By its definition, position by position; the rest is one id."""
  total = np.zeros(one.shape[:-1])
  for place in np.ndindex(*total.shape):
    p, q = _softmax(one[place]), _softmax(other[place])
    if top is not None:
      order = np.argsort(-p)
      p, q = (np.append(x[order[:top]], x[order[top:]].sum()) for x in (p, q))
    total[place] = (p * np.log(p / q)).sum()
  return total


def _logits(seed, *shape):
  return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


@pytest.mark.parametrize("top", [None, 1, 3, 16])
def test_a_divergence_is_that_of_its_definition(top):
  one, other = _logits(0, 2, 3, 17), _logits(1, 2, 3, 17)
  found = objectives.divergence(one, other, top)
  np.testing.assert_allclose(found, _divergence(one, other, top), rtol=2e-5)


def test_over_more_ids_than_there_are_it_is_over_all():
  one, other = _logits(0, 2, 17), _logits(1, 2, 17)
  for top in (17, 40):
    np.testing.assert_array_equal(
      objectives.divergence(one, other, top), objectives.divergence(one, other)
    )


@pytest.mark.parametrize("top", [None, 4])
def test_its_gradient_is_finite_and_that_of_differences(top):
  one, other = _logits(2, 1, 9), _logits(3, 1, 9)
  own = jax.grad(lambda x: objectives.divergence(one, x, top).sum())(other)
  for i in range(9):
    moved = np.stack([other.astype(np.float64)] * 2)
    moved[0, 0, i] += 1e-5
    moved[1, 0, i] -= 1e-5
    high, low = (_divergence(one, x, top).sum() for x in moved)
    assert own[0, i] == pytest.approx((high - low) / 2e-5, abs=2e-4)


def test_a_certain_teacher_and_a_far_one_leave_numbers():
  """Where all probability is on the ids that are told apart, or nearly none is."""
  far = np.asarray([[90.0, -90.0, -90.0, -90.0]], np.float32)
  for one, other in ((far, -far), (-far, far), (far, far)):
    for top in (None, 1, 2):
      value, gradient = jax.value_and_grad(
        lambda x, one=one, top=top: objectives.divergence(one, x, top).sum()
      )(other)
      assert np.isfinite(value) and np.isfinite(gradient).all()
  assert objectives.divergence(far, far)[0] == 0


@pytest.fixture(scope="module")
def taught():
  """A problem whose teacher has the backbone's weights as its own."""
  own = Teacher(weight=0.5, t5=testing.CONFIG)
  problem = testing.hypertuning(SPEC, teacher=own)
  params, frozen = (
    jax.tree.map(lambda x: x, testing.make_trainer(problem).init(0)).params,
    testing.t5_params(seed=3),
  )
  frozen = {"backbone": frozen, teaching.TEACHER: frozen}
  batch = testing.batch(4, 2)

  def loss(params, frozen):
    total, weight, metrics = problem.loss(params, frozen, batch, None)
    return total, (weight, metrics)

  both = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
  return problem, params, frozen, batch, both(params, frozen)


@pytest.mark.slow
def test_the_loss_has_the_divergence_from_a_t5_with_the_demonstrations(taught):
  problem, params, frozen, batch, ((total, (weight, metrics)), _) = taught
  t5_of = t5.T5(testing.CONFIG)
  given = {"params": frozen["backbone"]}
  read = np.concatenate(
    [np.repeat(batch.demonstrations, 2, 0), batch.encoder_input_tokens], 1
  )
  inside = t5_of.apply(given, read, batch.decoder_input_tokens)
  outside = t5_of.apply(
    given,
    batch.encoder_input_tokens,
    batch.decoder_input_tokens,
    problem.write(params, batch.demonstrations),
  )
  apart = _divergence(inside, outside) * batch.decoder_loss_weights
  log_p = np.log(_softmax(outside))
  targets = batch.decoder_target_tokens[..., None]
  picked = np.take_along_axis(log_p, targets, -1)[..., 0]
  plain = -(picked * batch.decoder_loss_weights).sum()
  assert apart.sum() > 0.1
  assert total == pytest.approx(plain + 0.5 * apart.sum(), rel=1e-4)
  assert metrics["teacher_divergence"][0] == pytest.approx(
    apart.sum(), rel=1e-3
  )
  assert metrics["loss"][0] == total
  assert weight == batch.decoder_loss_weights.sum()


def test_adapters_are_not_held_to_a_t5_that_moves():
  with pytest.raises(ValueError, match=r"DO_NO_HARM. is 0.5: it holds"):
    testing.hypertuning(SPEC, do_no_harm=0.5, train_backbone=True)


@pytest.mark.slow
def test_a_teacher_has_no_gradient(taught):
  *_, (_, (_, of_frozen)) = taught
  assert all(not x.any() for x in jax.tree.leaves(of_frozen["teacher"]))


@pytest.mark.slow
def test_the_backbone_teaches_as_a_copy_of_it_does(taught):
  """Gradients too: none passes through what the backbone said as teacher."""
  problem, params, frozen, batch, wanted = taught
  alike = dataclasses.replace(problem, teacher=Teacher(weight=0.5))

  def loss(params, backbone):
    return alike.loss(params, {"backbone": backbone}, batch, None)[0]

  found, gradients = jax.jit(jax.value_and_grad(loss, (0, 1)))(
    params, frozen["backbone"]
  )
  assert float(found) == pytest.approx(float(wanted[0][0]), rel=1e-6)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    gradients,
    (wanted[1][0], wanted[1][1]["backbone"]),
  )


def _answered(batch, answer_length=None):
  teacher = Teacher(targets="teacher", answer_length=answer_length)
  given = {"backbone": testing.t5_params(seed=3)}
  return teacher.teach(testing.CONFIG, given, batch)[0]


@pytest.mark.slow
def test_a_teachers_answers_are_the_targets():
  """Those of a T5 that reads the demonstrations before each input."""
  batch = testing.batch(3, 2)
  batch = dataclasses.replace(
    batch, decoder_target_tokens=np.zeros_like(batch.decoder_target_tokens)
  )
  batch.encoder_input_tokens[4] = 0  # a row that only fills up
  found = _answered(batch)
  read = np.concatenate(
    [np.repeat(batch.demonstrations, 2, 0), batch.encoder_input_tokens], 1
  )
  wanted = decoding.generate(
    t5.T5(testing.CONFIG), testing.t5_params(seed=3), read, 5, decoding.Greedy
  ).tokens
  wanted = np.where(np.arange(6)[:, None] == 4, 0, wanted)
  np.testing.assert_array_equal(found.decoder_target_tokens, wanted)
  np.testing.assert_array_equal(found.decoder_loss_weights, wanted != 0)
  np.testing.assert_array_equal(
    found.decoder_input_tokens[:, 1:], wanted[:, :-1]
  )


@pytest.mark.slow
def test_answers_have_the_length_that_is_given_whatever_targets_have():
  long = _answered(testing.batch(2, targets=5), 7).decoder_target_tokens
  short = _answered(testing.batch(2, targets=3), 7).decoder_target_tokens
  assert long.shape == (2, 7)
  np.testing.assert_array_equal(long, short)


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"train_backbone": True, "teacher": Teacher()}, "which .* moves"),
    (
      {
        "teacher": Teacher(t5=dataclasses.replace(testing.CONFIG, vocab_size=9))
      },
      "Teacher.t5 has vocab_size 9, the backbone 40",
    ),
  ],
)
def test_a_teacher_that_cannot_teach_is_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    testing.hypertuning(SPEC, **changes)


def test_data_without_demonstrations_has_no_teacher():
  batch = dataclasses.replace(testing.batch(2), demonstrations=None)
  with pytest.raises(ValueError, match="teacher reads demonstrations"):
    _answered(batch)


@pytest.mark.slow
@pytest.mark.parametrize("targets", teaching.TARGETS)
@pytest.mark.parametrize("axes", [{}, {"replica": 2, "fsdp": 2}])
def test_a_taught_batch_is_its_microbatches_on_any_mesh(targets, axes):
  teacher = Teacher(weight=0.7, top=5, targets=targets, answer_length=6)
  problem = testing.hypertuning(SPEC, teacher=teacher)
  batch, found = testing.batch(8, 2), []
  for parts, own in ((1, {}), (2, axes)):
    trainer = testing.make_trainer(
      problem,
      num_devices=4 if own else 1,
      axes=own,
      num_microbatches=parts,
    )
    state = trainer.init(0)
    given = trainer.layout.place(batch)
    _, metrics = trainer.train_step(state, given)
    found.append(jax.device_get(metrics))
  whole, parts = found
  for name in ("loss", "teacher_divergence", "gradient_norm"):
    assert parts[name][0] == pytest.approx(whole[name][0], rel=1e-4), name
    assert parts[name][1] == whole[name][1]
  assert whole["teacher_divergence"][0] > 0


def _with_text(batch, seed=5):
  """A text beside each context, of different lengths."""
  other = testing.batch(batch.num_contexts, inputs=6, targets=4, seed=seed)
  return dataclasses.replace(
    batch,
    unrelated_inputs=other.encoder_input_tokens,
    unrelated_targets=other.decoder_target_tokens,
  )


def _drift(problem, params, backbone, batch):
  """By hand: of each context the mean over its text, once for each target token."""
  t5_of, given = t5.T5(testing.CONFIG), {"params": backbone}
  written = problem.write(params, batch.demonstrations)
  targets = batch.unrelated_targets
  shifted = np.pad(targets, ((0, 0), (1, 0)))[:, :-1]
  plain, adapted = (
    t5_of.apply(given, batch.unrelated_inputs, shifted, *own)
    for own in ((), (written,))
  )
  apart, is_target = _divergence(plain, adapted), targets > 0
  means = (apart * is_target).sum(1) / is_target.sum(1)
  of_targets = batch.decoder_loss_weights.reshape(len(means), -1).sum(1)
  return (means * of_targets).sum()


@pytest.mark.slow
def test_adapters_are_held_to_the_plain_t5_on_the_text_beside_a_context():
  problem = testing.hypertuning(SPEC, do_no_harm=2.0)
  params = testing.make_trainer(problem).init(0).params
  backbone = testing.t5_params(seed=3)
  batch = _with_text(testing.batch(4, 2))
  loss = jax.jit(
    lambda batch: problem.loss(params, {"backbone": backbone}, batch, None)
  )
  total, _, metrics = loss(batch)
  drift = _drift(problem, params, backbone, batch)
  assert drift > 0.1
  assert float(metrics["drift"][0]) == pytest.approx(drift, rel=1e-3)
  plain = dataclasses.replace(problem, do_no_harm=0.0)
  without, *_ = jax.jit(plain.loss)(params, {"backbone": backbone}, batch, None)
  assert float(total) == pytest.approx(float(without) + 2 * drift, rel=1e-4)
  # A batch is its halves.
  halves = [
    jax.tree.map(lambda x, i=i: x.reshape(2, -1, *x.shape[1:])[i], batch)
    for i in (0, 1)
  ]
  parts = [float(loss(half)[0]) for half in halves]
  assert float(total) == pytest.approx(sum(parts), rel=1e-5)


def test_without_text_nothing_can_be_held():
  problem, batch = testing.hypertuning(SPEC, do_no_harm=1.0), testing.batch(2)
  state = testing.make_trainer(problem).abstract
  with pytest.raises(ValueError, match=r"FewShotEpisodes\.unrelated"):
    jax.eval_shape(
      lambda params, frozen: problem.loss(params, frozen, batch, None),
      state.params,
      state.frozen,
    )
