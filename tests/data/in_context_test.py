"""In-context learning, by text: what the encoder of the T5 reads."""

import numpy as np

from hyperjax.batch import Lengths, assemble
from hyperjax.data import episodes
from hyperjax.data.store import store
from hyperjax.models import forward
from hyperjax.tasks import records


def _task(rule):
  vocabulary = records.vocabulary()
  rows = [
    {name: [*vocabulary.encode(row[name]), 1] for name in ("inputs", "targets")}
    for row in records.rule_rows(rule, "train")
  ]
  return store.Task(
    records.task_name(rule),
    "train",
    store.in_memory(rows, ("inputs", "targets")),
    vocabulary=vocabulary,
  )


def test_inputs_hold_the_demonstrations_whole_and_never_the_target():
  """For every target of many episodes; some drop demonstrations to fit."""
  vocabulary = records.vocabulary()
  tasks = [_task(rule) for rule in (5, 300, 700)]
  lengths = Lengths(inputs=8, targets=8, demonstrations=40)
  source = episodes.Episodes(tasks, episodes.FewShot((1, 6), 2), lengths, 0)
  num_dropped = 0
  for index in range(40):
    batch = assemble([source[index]], lengths)
    read = forward.in_front(batch.demonstrations, batch.encoder_input_tokens, 0)
    episode = source.episode(index)
    num_dropped += episode.num_dropped
    rule = records.rules()[(5, 300, 700)[episode.task]]
    for ids, target in zip(np.asarray(read), episode.targets, strict=True):
      texts = _texts(vocabulary, ids)
      shown, query = (
        list(zip(texts[:-1:2], texts[1:-1:2], strict=True)),
        texts[-1],
      )
      own = tasks[episode.task].rows
      assert shown == [
        tuple(
          vocabulary.decode(own.row(row, name))
          for name in ("inputs", "targets")
        )
        for row in episode.demonstrations
      ]
      for given, answer in shown:
        words = dict(zip(records.FIELDS, given.split(), strict=True))
        assert answer == rule.apply(words)
      assert query == vocabulary.decode(own.row(target, "inputs"))
      # Its own pair is nowhere, and nothing follows the question.
      assert query not in [given for given, _ in shown]
      assert len(texts) == 2 * len(shown) + 1
  assert num_dropped


def _texts(vocabulary, ids):
  """What stands between ends of sequence."""
  ids = ids[ids != 0].tolist()
  assert ids[-1] == 1
  texts, part = [], []
  for i in ids:
    if i == 1:
      texts.append(vocabulary.decode(part))
      part = []
    else:
      part.append(i)
  return texts
