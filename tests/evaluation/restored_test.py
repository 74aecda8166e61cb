"""What answers an evaluation: what a run trained, as its record says."""

import dataclasses

import jax
import pytest

from hyperjax import adapters, sharding
from hyperjax.evaluation import restored
from hyperjax.models import problems
from hyperjax.models.teaching import Teacher
from tests import served_example

CONFIG = served_example.CONFIG


def _load(folder, problem, **options):
  layout = sharding.MeshSpec().build(jax.devices()[:1])
  return restored.load(str(folder), problem, [], layout, **options)


def test_a_t5_that_computes_otherwise_than_the_trained_one_is_refused(served):
  """Its arrays have the same shapes, and would mean something else."""
  problem = problems.LanguageModel(CONFIG)
  assert _load(served / "backbone", problem).trainer.problem == problem
  other = dataclasses.replace(CONFIG, mlp_activations=("relu", "linear"))
  with pytest.raises(ValueError, match=r"mlp_activations.*something else"):
    _load(served / "backbone", problems.LanguageModel(other))


def test_a_t5_that_was_trained_itself_does_not_answer_in_eight_bits(served):
  problem = problems.LanguageModel(CONFIG)
  with pytest.raises(
    ValueError, match=r"quantization is 'int8', but LanguageModel trains"
  ):
    _load(served / "backbone", problem, quantization="int8")
  found = _load(served / "backbone", problem, quantization="none")
  assert found.trainer.problem == problem


def test_a_run_says_what_it_is_and_no_other_kind_may_be_asked_for(served):
  found = _load(served / "lora", None)
  assert found.trainer.problem.adapters == served_example.SPECS["lora"]
  assert found.params.keys() == {"hypermodel"}
  assert found.frozen.keys() == {"backbone"}
  with pytest.raises(ValueError, match=r"is a run of LoraSpec.*PrefixSpec"):
    _load(served / "lora", None, adapters=adapters.PrefixSpec(3))
  # Of the same kind its sizes are the run's.
  again = _load(served / "lora", None, adapters=adapters.LoraSpec(9))
  assert again.trainer.problem.adapters == served_example.SPECS["lora"]


def test_a_teacher_of_its_own_is_not_asked_for_where_its_pupil_answers(served):
  problem = _load(served / "lora", None).trainer.problem
  taught = dataclasses.replace(problem, teacher=Teacher(t5=CONFIG))
  found = _load(served / "lora", taught)
  assert found.trainer.problem == problem
  assert found.frozen.keys() == {"backbone"}
