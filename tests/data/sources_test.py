"""What training data is, as its descriptions say; and who shares a batch."""

import dataclasses

import numpy as np
import pytest

from hyperjax.batch import Lengths
from hyperjax.data import pairs, sources, text
from hyperjax.tasks import records
from tests import testing
from tests.data import rows

FEATURES = {"inputs": 4, "targets": 3, "demonstrations": 12}
SNI = {"inputs": 1024, "targets": 128, "demonstrations": 1024}


PAIRS = rows.Tasks(
  (rows.numbered("a", 5, 10), rows.numbered("b", 7, 100)), "abc"
)
TEXT = rows.Tasks((rows.documents("t", [60, 45, 70], 1000),))


def test_episodes_draw_from_the_other_split_by_name():
  shown = rows.Tasks(
    (rows.numbered("b", 9, 300), rows.numbered("a", 9, 200)), split="shown"
  )
  data = sources.FewShotEpisodes(
    PAIRS, FEATURES, (2, 3), 2, demonstrations=shown
  )
  assert data.rows_per_context == 2
  source = data.open(3)
  assert (source.seed, source.lengths) == (3, Lengths(4, 3, 12))
  assert source.few_shot == data.few_shot
  assert [task.name for task in source.tasks] == ["a", "b"]
  for index in range(20):
    context, which = source[index], source.episode(index).task
    low = (200, 300)[which]
    assert all(low <= x < low + 9 for x in context.demonstrations[::4])
    assert len(context.inputs) == 2
  lacking = dataclasses.replace(
    data, demonstrations=rows.Tasks(TEXT.tasks, split="x")
  )
  with pytest.raises(
    ValueError,
    match=r"FewShotEpisodes\.demonstrations, split 'x': no demonstrations for "
    r"task 'a' \(and 1 more\)",
  ):
    lacking.open(0)
  assert sources.task_sets(data) == [PAIRS, shown]
  assert sources.task_sets(sources.FewShotEpisodes(PAIRS, FEATURES)) == [PAIRS]
  assert sources.task_sets(sources.TextPairs(PAIRS, FEATURES)) == [PAIRS]


def test_episodes_that_cannot_be_are_refused_when_they_are_described():
  with pytest.raises(ValueError, match="must be from 1 on where the hyperm"):
    sources.FewShotEpisodes(PAIRS, FEATURES, (0, 3))
  told = sources.FewShotEpisodes(
    PAIRS, FEATURES, (0, 3), instruction_readers=("hypermodel",)
  )
  assert told.few_shot.instruction_readers == ("hypermodel",)


def _contexts(source, count=12):
  return [
    [np.asarray(x).tolist() for x in (*source[i].inputs, *source[i].targets)]
    for i in range(count)
  ]


def test_each_description_opens_its_source_with_its_seed():
  cut = text.CaclmLengths(4, 2, 3, 5)
  lengths = Lengths(4, 3, 12)
  for data, wanted in (
    (
      sources.CaclmWindows(TEXT, FEATURES, cut, 9),
      lambda seed: text.Caclm(TEXT.tasks, cut, lengths, seed, 9),
    ),
    (
      sources.PrefixLmWindows(TEXT, FEATURES, 5),
      lambda seed: text.PrefixLm(TEXT.tasks, lengths, seed, 5),
    ),
    (
      sources.TextPairs(PAIRS, FEATURES),
      lambda seed: pairs.Pairs(PAIRS.tasks, lengths, seed),
    ),
    (
      sources.TasksSideBySide(PAIRS, FEATURES, 2, 6, 3),
      lambda seed: pairs.SideBySide(
        PAIRS.tasks, lengths, pairs.PerTask(3, 3), seed
      ),
    ),
  ):
    for seed in (0, 7):
      assert _contexts(data.open(seed)) == _contexts(wanted(seed))
    assert _contexts(data.open(0)) != _contexts(data.open(7))
    assert data.rows_per_context == len(data.open(0)[0].inputs)


def test_tasks_side_by_side_are_shown_as_many_demonstrations_as_are_asked():
  data = sources.TasksSideBySide(PAIRS, FEATURES, 2, 2, num_demonstrations=2)
  assert np.count_nonzero(data.open(0).demonstrations()[0]) == 2 * 4
  told = dataclasses.replace(data, instruction_readers=("hypermodel",))
  with pytest.raises(ValueError, match=r"'a' .* has no instruction"):
    told.open(0)


@pytest.mark.parametrize(
  "count, wanted",
  [(1, "a"), (2, "ae"), (3, "ace"), (4, "abde"), (5, "abcde"), (9, "abcde")],
)
def test_tasks_are_taken_evenly_spaced(count, wanted):
  tasks = [rows.numbered(name, 3) for name in "abcde"]
  found = sources.evenly_spaced(tasks, count)
  assert "".join(task.name for task in found) == wanted
  assert sources.evenly_spaced(tasks, None) == tasks


def test_as_many_tasks_as_there_are_may_be_trained():
  data = sources.TasksSideBySide(PAIRS, FEATURES, 2, 2)
  assert data.chosen() == list(PAIRS.tasks)
  with pytest.raises(
    ValueError, match="NUM_TASKS is 3; abc, split 'train', has 2 tasks"
  ):
    sources.TasksSideBySide(PAIRS, FEATURES, 3, 3).chosen()


def test_a_batch_is_of_whole_contexts():
  assert sources.num_contexts(12, 3, "BATCH_SIZE") == 4
  with pytest.raises(
    ValueError, match="BATCH_SIZE is 13 rows; it must be a multiple of the 3"
  ):
    sources.num_contexts(13, 3, "BATCH_SIZE")


def test_a_tokenizer_has_no_more_ids_than_there_are_embeddings():
  own = records.vocabulary()
  task = dataclasses.replace(PAIRS.tasks[0], vocabulary=own)

  def check(vocab_size):
    config = dataclasses.replace(testing.CONFIG, vocab_size=vocab_size)
    problem = testing.problems.LanguageModel(config)
    sources.check_tasks([PAIRS.tasks[1], task], problem)

  check(own.size)
  with pytest.raises(
    ValueError, match=r"'a': its vocabulary has 84 ids, T5Config\.vocab_size is"
  ):
    check(own.size - 1)


@pytest.mark.parametrize(
  "features, rows, contexts, devices, wanted",
  [
    # 1,024 + 1,024 + 128 tokens a context: seven of them are 15,232.
    (SNI, 1, 256, 64, 1),  # four on each device
    (SNI, 1, 256, 16, 4),  # of sixteen, four at a time: eight would be 17,408
    (SNI, 1, 256, 1, 64),
    (SNI, 1, 15, 1, 3),  # five at a time: no other part is equal
    # Targets that share demonstrations: 1,024 + 4 * 1,152 are 5,632, two 11,264.
    (SNI, 4, 16, 1, 8),
    # Each of eight demonstrations in a row of 1,024: not even one has so few.
    ({**SNI, "num_demonstrations": 16}, 1, 8, 2, 4),
    (
      {"inputs": 512, "targets": 114},
      1,
      64,
      1,
      4,
    ),  # 26 fit, 16 are equal parts
  ],
)
def test_a_device_holds_so_many_tokens_of_a_batch_and_no_more(
  features, rows, contexts, devices, wanted
):
  data = sources.TextPairs(PAIRS, features)
  if "demonstrations" in features:
    data = sources.FewShotEpisodes(PAIRS, features, (1, 16), rows)
  found = sources.num_microbatches(data, contexts, devices, 16384)
  assert found == wanted


@pytest.mark.parametrize(
  "rows, devices, wanted",
  [
    # A row of each of eight tasks is 8 * (1,024 + 128) tokens: 9,216.
    (1, 1, 1),
    (6, 1, 6),  # two are 18,432
    (6, 2, 2),  # of four tasks on each device three rows are 13,824
    (6, 8, 1),
    (2, 1, 2),
  ],
)
def test_tasks_side_by_side_are_taken_some_rows_of_each_at_a_time(
  rows, devices, wanted
):
  data = sources.TasksSideBySide(PAIRS, SNI, 8, 8 * rows)
  assert sources.num_microbatches(data, 8, devices, 16384) == wanted


def test_demonstrations_before_each_input_count_for_each_row():
  """Of four targets 4 * (1,024 + 1,152) are 8,704 tokens: of 16 contexts one at once."""
  data = sources.FewShotEpisodes(PAIRS, SNI, (1, 16), 4)
  assert sources.num_microbatches(data, 16, 1, 16384) == 8
  assert sources.num_microbatches(data, 16, 1, 16384, True) == 16
