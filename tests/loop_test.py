"""The loop: how many steps it takes, and what it writes of them."""

import itertools

import jax
import numpy as np
import pytest

from hyperjax import checkpoints, loop, metrics, optimizers
from tests import testing, trainer_update_test, update_reference

BATCHES = [trainer_update_test._batch(step) for step in range(8)]


class _Hook:
  """Notes at which steps it is asked."""

  def __init__(self):
    self.steps = []

  def run(self, state):
    self.steps.append(int(state.step))
    return {"seen": float(state.step)}


def _train(folder, num_steps, periods, hooks=()):
  """Trains on as many batches as are asked for; the state, and how many were."""
  trainer = testing.make_trainer(
    trainer_update_test.Chain(),
    optimizers.AdamW(
      optimizers.LinearDecay(0.3, decay_steps=5, warmup_steps=1, final=0.1)
    ),
  )
  saver = checkpoints.Checkpoints(folder / "checkpoints", max_to_keep=None)
  log = metrics.RunLog(folder, None)
  positions = itertools.count(8, 8)
  endless = zip(itertools.cycle(BATCHES), positions, strict=False)
  state = loop.train(
    trainer,
    trainer.init(0),
    endless,
    num_steps=num_steps,
    periods=periods,
    saver=saver,
    log=log,
    hooks=hooks,
  )
  log.close()
  facts = {step: saver.facts(step) for step in saver.steps()}
  saver.close()
  return state, facts


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  folder, hook = tmp_path_factory.mktemp("trained"), _Hook()
  periods = loop.Periods(log=2, save=3, evaluate=4)
  state, facts = _train(folder, 5, periods, [hook])
  return folder, state, facts, hook.steps


def test_as_many_updates_are_done_as_were_asked_for(trained):
  _, state, facts, evaluated = trained
  assert int(state.step) == 5
  assert list(facts) == [3, 5]
  assert [found.position for found in facts.values()] == [24, 40]
  assert evaluated == [0, 4, 5]


def test_lines_hold_the_means_of_their_steps_and_the_last_ones_rate(trained):
  """Of all their target tokens together; by hand, in numpy."""
  folder = trained[0]
  lines = metrics.read(folder / metrics.METRICS)
  lines = [line for line in lines if "seen" not in line]
  assert [line["step"] for line in lines] == [2, 4, 5]
  # 0.3 for two steps, then in a straight line to 0.1 at step 5.
  rates = [0.3, 0.3, 0.25, 0.2, 0.15]
  trainer = testing.make_trainer(trainer_update_test.Chain())
  state = trainer.init(0)
  wanted = _reference(jax.device_get(state), rates)
  for line, own in zip(
    lines, (wanted[:2], wanted[2:4], wanted[4:]), strict=True
  ):
    weight = sum(sums["weight"] for sums in own)
    for name in ("loss", "cross_entropy", "token_accuracy"):
      mean = sum(sums[name] for sums in own) / weight
      assert line[name] == pytest.approx(mean, rel=1e-4), (name, line["step"])
    norm = np.mean([sums["gradient_norm"] for sums in own])
    assert line["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    assert line["learning_rate"] == pytest.approx(rates[line["step"] - 1])


def test_what_is_in_no_line_yet_is_in_the_checkpoint(trained):
  """Step 3 is in none when it is saved; step 5 is."""
  folder, _, facts, _ = trained
  assert facts[3].pending.keys() >= {"loss", "gradient_norm"}
  assert facts[3].pending["gradient_norm"][1] == 1
  assert facts[3].pending["loss"][1] == BATCHES[2].decoder_loss_weights.sum()
  assert facts[5].pending == {}
  assert metrics.read(folder / metrics.METRICS)[-2]["step"] == 5


def _reference(state, rates):
  """Metrics of each step as sums."""
  params = {
    "embedding": state.params["embedding"],
    "bias": state.params["bias"],
    "decoder/layers/kernel": state.params["decoder"]["layers"]["kernel"],
  }
  adam, found = update_reference.AdamW(rates), []
  for batch in BATCHES[: len(rates)]:
    sums, grads = update_reference.chain_loss(
      params,
      state.frozen["out"],
      batch.decoder_input_tokens,
      batch.decoder_target_tokens,
      batch.decoder_loss_weights,
    )
    grads = {name: x / sums["weight"] for name, x in grads.items()}
    found.append(sums | {"gradient_norm": update_reference.norm(grads)})
    params = adam.update(params, grads)
  return found
