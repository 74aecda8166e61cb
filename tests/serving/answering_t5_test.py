"""What a T5 is given of inputs: their ids, padded, after an instruction."""

import dataclasses

import jax
import numpy as np
import pytest

from hyperjax import sharding
from hyperjax.artifacts import adapter_folder
from hyperjax.artifacts.run_record import BackboneRef
from hyperjax.batch import Lengths
from hyperjax.data import instructions
from hyperjax.models import decoding
from hyperjax.serving import answering_t5, backbone
from hyperjax.tasks import records
from tests import testing

PIECES = records.vocabulary()
CONFIG = dataclasses.replace(testing.CONFIG, vocab_size=90)
SPEC = testing.SPECS["lora"]


LENGTHS = Lengths(24, 4)


def _t5(lengths=LENGTHS, devices=1):
  layout = sharding.MeshSpec().build(jax.devices()[:devices])

  def read():
    raise AssertionError("no weights are needed")

  return answering_t5.AnsweringT5(
    backbone.Backbone(CONFIG, PIECES, lengths, layout, read, "ab" * 32)
  )


def _adapter(**said):
  info = adapter_folder.Info(
    spec=SPEC,
    config=CONFIG,
    backbone=BackboneRef("ab" * 32, "/t5"),
    tokenizer=None,
    lengths={},
    origin={},
    instruction=said or None,
  )
  abstract = SPEC.abstract(CONFIG)
  arrays = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), abstract)
  return adapter_folder.Adapter(info, arrays)


def _ids(text):
  return [*PIECES.encode(text), 1]


def test_inputs_are_padded_to_a_power_of_two_and_the_last_is_repeated():
  t5 = _t5()
  tokens, cut = t5._tokens(["alice", "paris red"], [None], 4)
  assert (tokens.shape, cut) == ((4, 16), [])
  rows = [
    _ids("alice"),
    _ids("paris red"),
    _ids("paris red"),
    _ids("paris red"),
  ]
  assert [np.trim_zeros(row, "b").tolist() for row in tokens] == rows
  # Seventeen ids take what there is room for; more are cut, and keep an end.
  words = " ".join(["red"] * 40)
  tokens, cut = t5._tokens(["red", words], [None], 2)
  assert (tokens.shape, cut) == ((2, 24), [1])
  assert tokens[1].tolist() == [*PIECES.encode(words)[:23], 1]
  texts = (" ".join(["red"] * n) for n in range(1, 40))
  whole = next(text for text in texts if len(_ids(text)) == 24)
  assert t5._tokens([whole], [None], 1)[1] == []
  tokens, _ = _t5(Lengths(90, 4))._tokens([words], [None], 1)
  assert tokens.shape == (1, 64)
  tokens, _ = _t5(Lengths(9, 4))._tokens(["red"], [None], 1)
  assert tokens.shape == (1, 9)


BOTH = list(instructions.READERS)


@pytest.mark.parametrize(
  "said, before",
  [
    ({"text": "name then city ;", "readers": ["backbone"]}, "name then city ;"),
    ({"text": "name then city ;", "readers": BOTH}, "name then city ;"),
    ({"text": "name then city ;", "readers": ["hypermodel"]}, ""),
    ({"text": "name", "ids": [7, 8, 9], "readers": BOTH}, [7, 8, 9]),
    ({"text": "name", "ids": [], "readers": BOTH}, ""),
  ],
)
def test_an_instruction_stands_before_the_input_as_the_t5_read_it(said, before):
  """By its own ids where those of the text are others."""
  tokens, _ = _t5()._tokens(["alice", "red"], [_adapter(**said), None], 2)
  ids = before if isinstance(before, list) else PIECES.encode(before)
  assert np.trim_zeros(tokens[0], "b").tolist() == [*ids, *_ids("alice")]
  assert np.trim_zeros(tokens[1], "b").tolist() == _ids("red")


def test_an_instruction_takes_half_of_the_room_of_an_input():
  given = _adapter(text="name", ids=list(range(10, 40)), readers=BOTH)
  tokens, cut = _t5()._tokens(["alice"], [given], 1)
  assert tokens[0].tolist()[:12] == list(range(10, 22)) and cut == []
  assert np.trim_zeros(tokens[0], "b").tolist()[12:] == _ids("alice")


@pytest.mark.parametrize(
  "count, batch_size, devices, rows",
  [(3, 32, 1, 4), (3, 3, 1, 3), (1, 32, 2, 2), (5, 6, 4, 8), (4, 4, 1, 4)],
)
def test_rows_are_a_power_of_two_or_the_batch_and_of_whole_parts(
  count, batch_size, devices, rows
):
  t5 = _t5(devices=devices)
  t5.backbone.__dict__["_placed"] = ({}, "")
  setting, _ = t5._setting(["red"] * count, [None] * count, batch_size)
  assert setting.tokens.shape == (rows, 16)
  assert setting.tokens.sharding.is_equivalent_to(t5.backbone.layout.batch, 2)


def test_adapters_are_one_context_or_one_for_each_row():
  t5 = _t5(devices=2)
  one = jax.tree.leaves(t5._stacked([_adapter()], 4))
  assert {leaf.shape[1] for leaf in one} == {1}
  assert all(leaf.sharding.is_fully_replicated for leaf in one)
  own = [_adapter(), None, _adapter()]
  each = jax.tree.leaves(t5._stacked(own, 4))
  assert {leaf.shape[1] for leaf in each} == {4}
  assert {len(leaf.sharding.device_set) for leaf in each} == {2}
  assert not any(leaf.sharding.is_fully_replicated for leaf in each)
  with pytest.raises(ValueError, match="2 inputs, 3 adapters"):
    t5.predict(["a", "b"], own)


def test_options_are_greedy_in_batches_of_32_as_long_as_in_training():
  found = answering_t5.Options()
  assert (found.decoder, found.max_length) == (decoding.Greedy, None)
  assert (found.batch_size, found.seed) == (32, 0)
  assert answering_t5.BATCH_SIZE == 32
