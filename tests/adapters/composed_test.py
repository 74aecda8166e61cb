"""Several kinds at once: one tree, and each part as it is alone."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from hyperjax import adapters
from hyperjax.artifacts import adapter_folder
from hyperjax.serving import average, update
from hyperjax.serving.examples import Example
from tests import testing
from tests.adapters import written

CONFIG = testing.CONFIG
LORA, PREFIX = adapters.LoraSpec(2), adapters.PrefixSpec(3)
BOTH = adapters.ComposedSpec((LORA, PREFIX))


def _drawn(spec, seed):
  return written.drawn(spec, CONFIG, seed)


def _adapter(spec, arrays, count=1):
  examples = [Example("x", "y", i) for i in range(count)]
  return written.from_examples(spec, CONFIG, arrays, examples)


def _part(arrays, spec):
  """What stands at the places of a spec."""
  places = adapters.nodes(spec.leaves(CONFIG))
  return adapters.assemble(
    {k: x for k, x in adapters.nodes(arrays).items() if k in places}
  )


def test_its_tree_is_that_of_its_parts_and_its_slots_those_of_the_largest():
  found = adapters.path_leaves(BOTH.leaves(CONFIG))
  wanted = [adapters.path_leaves(x.leaves(CONFIG)) for x in (LORA, PREFIX)]
  assert found == wanted[0] | wanted[1]
  assert BOTH.num_slots == 3
  assert hash(BOTH) == hash(adapters.ComposedSpec([LORA, PREFIX]))


@pytest.mark.parametrize(
  "parts, message",
  [
    ((LORA,), "must be two specs of adapters or more"),
    ((BOTH, LORA), "not composed themselves"),
    ((LORA, "prefix"), "ComposedSpec.parts must be"),
    (
      (LORA, adapters.PlacedLoraSpec({"encoder.attention.query": 1})),
      r"several are at encoder\.attention\.query",
    ),
  ],
  ids=["one", "composed", "no spec", "one place"],
)
def test_parts_that_make_no_tree_are_refused(parts, message):
  with pytest.raises(ValueError, match=message):
    adapters.ComposedSpec(parts).leaves(CONFIG)


def test_its_mean_is_that_of_each_part():
  given = [_drawn(BOTH, seed) for seed in (0, 1)]
  found = average.average([_adapter(BOTH, x) for x in given], [1, 3])
  for spec in (LORA, PREFIX):
    own = [_adapter(spec, _part(x, spec)) for x in given]
    wanted = average.average(own, [1, 3])
    found_part = _part(found.arrays, spec)
    assert adapters.distance(wanted.arrays, found_part) < 1e-6
  wider = dataclasses.replace(LORA, rank=4, alpha=32.0)
  assert found.info.spec == adapters.ComposedSpec((wider, PREFIX))


@pytest.mark.parametrize(
  "other",
  [LORA, adapters.ComposedSpec((PREFIX, LORA))],
  ids=["one part", "another order"],
)
def test_it_has_no_mean_with_other_parts(other):
  one = _adapter(BOTH, _drawn(BOTH, 0))
  with pytest.raises(ValueError, match="differ"):
    average.average([one, _adapter(other, _drawn(other, 1))])


@pytest.mark.parametrize(
  "spec",
  [
    BOTH,
    adapters.PlacedLoraSpec(
      {"encoder.attention.query": 1, "encoder.mlp.wo": 3}
    ),
  ],
  ids=["both", "placed"],
)
def test_an_update_is_cut_to_the_slots_of_each_place(spec):
  """A LoRA of fewer ranks than there are slots, such as beside longer prefixes."""
  old, new = (_adapter(spec, _drawn(spec, seed)) for seed in (0, 1))
  found = update.by_mean(old, new)
  assert found.info.spec == spec
  assert jax.tree.map(np.shape, found.arrays) == jax.tree.map(
    np.shape, old.arrays
  )


def test_its_folder_names_each_part_and_reads_back(tmp_path):
  own = _adapter(BOTH, _drawn(BOTH, 0))
  own.save(tmp_path / "a")
  written = json.loads((tmp_path / "a" / "adapter.json").read_text())
  assert written["kind"] == "ComposedSpec"
  assert [part["kind"] for part in written["spec"]["parts"]] == [
    "LoraSpec",
    "PrefixSpec",
  ]
  found = adapter_folder.read(tmp_path / "a")
  assert (found.info, found.identity) == (own.info, own.identity)
  written["spec"]["parts"][1]["length"] = 0
  (tmp_path / "a" / "adapter.json").write_text(json.dumps(written))
  with pytest.raises(ValueError, match=r"spec\.parts\[1\]: PrefixSpec\.length"):
    adapter_folder.read(tmp_path / "a")


def test_what_a_part_cannot_be_exported_to_the_whole_cannot():
  assert set(BOTH.not_exported) >= {"peft", "hf", "orbax", "ct2", "gguf"}
  scaled = adapters.ComposedSpec((LORA, adapters.Ia3Spec(2)))
  assert set(scaled.not_exported) == {"peft", "gguf"}
