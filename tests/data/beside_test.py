"""Texts beside episodes that have nothing to do with them."""

import dataclasses

import numpy as np
import pytest

from hyperjax.batch import assemble
from hyperjax.data import buckets, sources
from tests.data import rows

FEATURES = {"demonstrations": 40, "inputs": 6, "targets": 5}
BESIDE = {"inputs": 9, "targets": 7}


EPISODES = rows.Tasks((rows.numbered("a", 30), rows.numbered("b", 30, 100)))
TEXT = rows.Tasks((rows.documents("text", [200, 300], first=3000),))


def _data(**changes):
  options = {
    "num_demonstrations": (2, 4),
    "num_targets": 2,
    "unrelated": sources.PrefixLmWindows(TEXT, BESIDE, min_length=4),
  }
  return sources.FewShotEpisodes(EPISODES, FEATURES, **(options | changes))


def test_beside_each_episode_stands_a_text_by_its_number():
  """The rest of an episode is as it is without; in any order it is the same."""
  data = _data()
  source, text = data.open(3), data.unrelated.open(3)
  plain = _data(unrelated=None).open(3)
  backwards = {i: data.open(3)[i] for i in (7, 2, 0)}
  for i, again in backwards.items():
    context = source[i]
    for own, before in zip(context.inputs, plain[i].inputs, strict=True):
      np.testing.assert_array_equal(own, before)
    np.testing.assert_array_equal(
      context.demonstrations, plain[i].demonstrations
    )
    for found, own, other in zip(
      context.unrelated[:2],
      (text[i].inputs[0], text[i].targets[0]),
      again.unrelated[:2],
      strict=True,
    ):
      np.testing.assert_array_equal(found, own)
      assert len(own) and own.min() >= 3000
      np.testing.assert_array_equal(found, other)


def test_a_batch_has_a_text_for_each_context():
  source = _data().open(0)
  contexts = [source[i] for i in range(3)]
  batch = assemble(contexts, source.lengths, pad_id=2)
  assert batch.unrelated_inputs.shape == (3, 9)
  assert batch.unrelated_targets.shape == (3, 7)
  for row, context in zip(batch.unrelated_inputs, contexts, strict=True):
    own = context.unrelated.inputs
    assert row.tolist() == [*own, *[2] * (9 - len(own))]
  plain = _data(unrelated=None).open(0)
  without = assemble([plain[0]], plain.lengths)
  assert without.unrelated_inputs is without.unrelated_targets is None


def test_what_only_fills_a_microbatch_has_no_text():
  source = _data().open(0)
  bucket = buckets.Bucket(4, source.lengths)
  (batch,) = buckets.Microbatches(source, 3, (bucket,))(0)
  assert batch.unrelated_targets.any(axis=1).tolist() == [True] * 3 + [False]
  assert batch.unrelated_targets.shape == (4, 7)


def test_it_is_among_what_a_run_reads():
  data = _data()
  assert sources.task_sets(data) == [EPISODES, TEXT]


def test_rows_with_demonstrations_are_no_text():
  with pytest.raises(
    ValueError, match=r"FewShotEpisodes\.unrelated must be rows by themselves"
  ):
    _data(unrelated=_data(unrelated=None))


def test_a_text_of_another_vocabulary_is_refused():
  class Words:
    size, eos_id = 50, 1

    def __init__(self, name):
      self.description = {"kind": "words", "name": name}

  def named(tasks, name):
    return rows.Tasks(
      tuple(dataclasses.replace(x, vocabulary=Words(name)) for x in tasks.tasks)
    )

  beside = sources.PrefixLmWindows(named(TEXT, "theirs"), BESIDE)
  data = dataclasses.replace(
    _data(), tasks=named(EPISODES, "ours"), unrelated=beside
  )
  with pytest.raises(ValueError, match="unrelated text, 'some', has the vocab"):
    data.open(0)
