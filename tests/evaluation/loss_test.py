"""Loss on held-out contexts while training."""

import dataclasses

import jax
import numpy as np
import pytest

from hyperjax.batch import assemble
from hyperjax.data import sources
from hyperjax.evaluation.loss import LossEvaluation
from hyperjax.models.t5_layers import T5Config
from tests import testing, trainer_update_test, update_reference
from tests.data import rows

LENGTHS = {"inputs": 3, "targets": 5}


@dataclasses.dataclass(frozen=True)
class _Chain(trainer_update_test.Chain):
  backbone: T5Config = testing.CONFIG


# Targets of one to four tokens and their end: batches differ in weight.
TASKS = rows.Tasks(
  (rows.task("a", [([2], [2 + i % 5] * (1 + i % 4)) for i in range(20)]),)
)
DATA = sources.TextPairs(TASKS, LENGTHS)


@pytest.fixture(scope="module")
def trainer():
  return testing.make_trainer(_Chain(), num_devices=2, num_microbatches=2)


def test_the_loss_is_the_mean_over_the_tokens_of_the_first_batches(trainer):
  """Summed losses over summed weights, in numpy; in parts, on two devices."""
  evaluation = LossEvaluation("held", DATA, 2, 8, seed=9)
  assert evaluation.task_sets == [TASKS]
  state = trainer.init(0)
  found = evaluation.prepare(trainer).run(state)
  source = DATA.open(9)
  whole = assemble([source[i] for i in range(16)], source.lengths)
  params = {
    "embedding": state.params["embedding"],
    "bias": state.params["bias"],
    "decoder/layers/kernel": state.params["decoder"]["layers"]["kernel"],
  }
  sums, _ = update_reference.chain_loss(
    jax.device_get(params),
    np.asarray(state.frozen["out"]),
    whole.decoder_input_tokens,
    whole.decoder_target_tokens,
    whole.decoder_loss_weights,
  )
  weight = sums.pop("weight")
  wanted = {f"held/{name}": total / weight for name, total in sums.items()}
  assert found == pytest.approx(wanted, rel=1e-5)


def test_what_cannot_be_evaluated_is_refused_by_name(trainer):
  with pytest.raises(ValueError, match=r"6 contexts .* multiple of 4"):
    LossEvaluation("held", DATA, 1, 6).prepare(trainer)
  pairs = sources.TasksSideBySide(TASKS, LENGTHS, 1, 2)
  with pytest.raises(ValueError, match=r"batch_size of 'held' is 9 rows; .* 2"):
    LossEvaluation("held", pairs, 1, 9).prepare(trainer)

  class Large:
    size, eos_id = 41, 1

  other = dataclasses.replace(TASKS.tasks[0], vocabulary=Large())
  data = sources.TextPairs(rows.Tasks((other,)), LENGTHS)
  with pytest.raises(ValueError, match=r"41 ids, T5Config.vocab_size is 40"):
    LossEvaluation("held", data, 1, 8).prepare(trainer)
