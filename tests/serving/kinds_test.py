"""LoRA with a memory, of a hypermodel that encodes each demonstration by itself."""

import numpy as np
import pytest

from hyperjax import adapters, serving
from hyperjax.artifacts import adapter_folder
from hyperjax.serving import average, export, selection
from tests import served_example

pytestmark = pytest.mark.slow
SPEC = adapters.ComposedSpec(
  (served_example.SPECS["lora"], adapters.MemorySpec(36))
)
PAIRS = served_example.pairs(7)
ASKED = served_example.questions()


@pytest.fixture(scope="module")
def model(served, tmp_path_factory):
  folder = tmp_path_factory.mktemp("kinds") / "both"
  served_example.train(
    folder,
    served / "tokens",
    "both",
    served / "backbone",
    lengths=served_example.SEPARATE,
    adapters=SPEC,
  )
  return serving.load(str(folder))


@pytest.fixture(scope="module")
def written(model):
  return model.adapt(PAIRS)


def test_it_answers_beside_other_kinds_as_it_does_alone(
  served, model, written, tmp_path
):
  """The same from its folder."""
  written.save(tmp_path / "a")
  again = adapter_folder.read(tmp_path / "a")
  other = serving.load(str(served / "lora")).adapt(PAIRS)
  count = len(ASKED)
  mixed = model.predict(
    ASKED * 3, [again] * count + [other] * count + [None] * count
  )
  for i, own in enumerate((written, other, None)):
    assert mixed[i * count : (i + 1) * count] == model.predict(ASKED, own)


def test_positions_are_those_of_the_examples_tokens(model, written):
  [states_MD] = np.asarray(written.arrays.memory.states)[0]
  tokens = [len(ids) for ids in model.fit(PAIRS).tokens]
  assert (states_MD != 0).any(axis=-1).sum() == sum(tokens)


def test_an_update_of_what_was_kept_is_a_reading_of_all(model):
  old = model.adapt(PAIRS[:2], keep_encoded=True)
  found = model.update(old, PAIRS[2:])
  assert model.distance(found, PAIRS).arrays < 1e-4


def test_a_mean_remembers_what_both_read(model):
  """Each example is encoded by itself: so it is the memory of all examples."""
  parts = [model.adapt([pair]) for pair in PAIRS[:2]]
  mean = average.average(parts)
  whole = model.adapt(PAIRS[:2])
  found, wanted = (x.arrays.memory.states[0, 0] for x in (mean, whole))
  found, wanted = (x[(x != 0).any(axis=-1)] for x in (found, wanted))
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_an_update_to_more_tokens_than_a_memory_holds_is_refused(model):
  old = model.adapt(PAIRS, keep_encoded=True)
  with pytest.raises(ValueError, match="of 36 tokens in all"):
    model.update(old, served_example.pairs(7, 6)[3:])


def test_it_is_exported_to_nothing(written, tmp_path):
  written.save(tmp_path / "a")
  for form in ("peft", "hf", "orbax", "ct2", "gguf"):
    with pytest.raises(ValueError, match="memory of 36 cannot be exported"):
      export.export(tmp_path / "a", form, tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_groups_of_examples_are_not_averaged(model):
  pools = [model.pool(served_example.pairs(7, 9))]
  with pytest.raises(ValueError, match="is not of a LoRA"):
    selection.choose(model, selection.all_of(pools), "average")
