"""Orders, episodes and batches, for any sizes, rates and rows."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperjax import batch
from hyperjax.batch import Context, Lengths
from hyperjax.data import joining, order
from hyperjax.data.episodes import Episodes, FewShot
from hyperjax.serving import examples
from hyperjax.tasks import records
from tests.data import rows

SEEDS = st.integers(0, 2**31)
IDS = st.lists(st.integers(2, 30), max_size=5)


@given(st.integers(1, 3000), SEEDS, st.integers(0, 5))
def test_a_permutation_sends_every_position_to_another(size, seed, stream):
  found = order.permuted(np.arange(size), size, seed, stream)
  np.testing.assert_array_equal(np.sort(found), np.arange(size))
  for position in {0, size // 2, size - 1}:
    one = order.permuted_one(position, size, seed, stream)
    assert one == found[position]


@given(
  st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6),
  SEEDS,
  st.integers(0, 3000),
)
def test_tasks_come_at_their_rates_whichever_is_asked_first(rates, seed, block):
  """To one a block, and counted through; from any position as from the first."""
  size = order.TaskOrder.block_size
  tasks, later = order.TaskOrder(rates, seed), order.TaskOrder(rates, seed)
  assert later[block * size + 7] == tasks[block * size + 7]
  wanted = np.asarray(rates) / sum(rates) * size
  begins = later._before(block)
  np.testing.assert_allclose(begins, wanted * block, atol=1 + block)
  chosen = np.asarray([tasks[block * size + i] for i in range(0, size, 1)])
  for task in range(len(rates)):
    counts = chosen[chosen[:, 0] == task, 1]
    assert abs(len(counts) - wanted[task]) <= 1 + 1e-6
    # Each of them once, from where the earlier blocks end.
    np.testing.assert_array_equal(counts, begins[task] + np.arange(len(counts)))


@st.composite
def _tasks(draw):
  """Tasks of at least four different inputs, some twice, some too long."""
  found = []
  for name in "abc"[: draw(st.integers(1, 3))]:
    texts = draw(st.lists(IDS, min_size=4, max_size=7, unique_by=tuple))
    texts += draw(st.lists(st.sampled_from(texts), max_size=2))
    long = draw(st.lists(st.just([9] * 60), max_size=2))
    pairs = [(text, [40 + i]) for i, text in enumerate([*texts, *long])]
    rate = draw(st.floats(0.1, 5))
    found.append(rows.task(name, draw(st.permutations(pairs)), rate))
  return found


@given(
  _tasks(),
  st.integers(1, 3),
  st.tuples(st.integers(1, 3), st.integers(0, 4)),
  SEEDS,
  st.integers(0, 5000),
  st.booleans(),
)
def test_episodes_promise_what_they_promise(
  tasks, targets, counts, seed, first, is_separate
):
  """Each is of its position alone; no demonstration is cut, or has a target."""
  low, high = counts[0], counts[0] + counts[1]
  lengths = Lengths(9, 5, 20, high if is_separate else 0)
  few_shot = FewShot((low, high), targets)
  source = Episodes(tasks, few_shot, lengths, seed)
  resumed = Episodes(tasks, few_shot, lengths, seed)
  assert len(source.tasks) == len(tasks)
  for index in reversed(range(first, first + 6)):
    episode, again = source.episode(index), resumed.episode(index)
    np.testing.assert_array_equal(episode.demonstrations, again.demonstrations)
    np.testing.assert_array_equal(episode.targets, again.targets)
    own = source.tasks[episode.task].rows
    shown = episode.demonstrations
    asked = {tuple(own.row(i, "inputs")) for i in episode.targets}
    assert len(set(episode.targets)) == targets
    assert len(set(shown)) == len(shown) >= 1
    assert not asked & {tuple(own.row(i, "inputs")) for i in shown}
    assert len(shown) + episode.num_dropped <= high
    _check_read(source[index], own, episode, lengths)


def _check_read(context, own, episode, lengths):
  """What is read is the rows': demonstrations whole, inputs cut to their end."""
  whole = [
    [*own.row(i, "inputs"), *own.row(i, "targets")]
    for i in episode.demonstrations
  ]
  if lengths.are_separate:
    assert [x.tolist() for x in context.demonstrations] == whole
    assert max(map(len, whole)) <= lengths.demonstrations
  else:
    assert context.demonstrations.tolist() == [*itertools.chain(*whole)]
    assert len(context.demonstrations) <= lengths.demonstrations
  for row, ids in zip(episode.targets, context.inputs, strict=True):
    wanted = own.row(row, "inputs").tolist()
    if len(wanted) > lengths.inputs:
      wanted = [*wanted[: lengths.inputs - 1], rows.EOS]
    assert ids.tolist() == wanted


@given(_tasks(), st.integers(1, 3), SEEDS, st.integers(0, 40))
def test_an_epoch_has_each_row_once_but_for_a_last_part_group(
  tasks, targets, seed, epoch
):
  source = Episodes(tasks, FewShot((1, 2), targets), Lengths(9, 5, 20), seed)
  seen = collections.defaultdict(list)
  wanted = [len(task.rows) // targets for task in source.tasks]
  index = 0
  while any(len(seen[i]) < 2 * n for i, n in enumerate(wanted)):
    episode = source.episode(index)
    seen[episode.task].append(episode.targets)
    index += 1
  for task, groups in enumerate(wanted):
    for begin in (0, groups):
      drawn = np.concatenate(seen[task][begin : begin + groups])
      assert len(set(drawn)) == len(drawn) == groups * targets


@given(
  st.lists(
    st.tuples(
      st.lists(st.tuples(IDS, IDS), min_size=2, max_size=2),
      st.lists(IDS, max_size=3),
    ),
    min_size=1,
    max_size=4,
  ),
  st.integers(0, 3),
  st.booleans(),
)
def test_a_batch_holds_its_rows_and_their_targets_shifted(
  contexts, more, is_separate
):
  lengths = Lengths(5 + more, 5 + more, 15 + more, 3 if is_separate else 0)
  made = batch.assemble(
    [
      Context(
        [np.asarray(a, np.int32) for a, _ in own],
        [np.asarray(b, np.int32) for _, b in own],
        [np.asarray(x, np.int32) for x in shown]
        if is_separate
        else np.asarray([*itertools.chain(*shown)], np.int32),
      )
      for own, shown in contexts
    ],
    lengths,
  )
  assert made.num_contexts == len(contexts)
  flat = [row for own, _ in contexts for row in own]
  for i, (inputs, targets) in enumerate(flat):
    assert np.trim_zeros(made.encoder_input_tokens[i], "b").tolist() == inputs
    wanted = made.decoder_target_tokens[i]
    assert np.trim_zeros(wanted, "b").tolist() == targets
    # One behind: what is read at a position is the target of the one before.
    assert made.decoder_input_tokens[i].tolist() == [0, *wanted[:-1]]
    assert made.decoder_loss_weights[i].sum() == len(targets)
  for found, (_, shown) in zip(made.demonstrations, contexts, strict=True):
    kept = [x for x in np.atleast_2d(found).tolist() if any(x)]
    ids = [[id_ for id_ in row if id_] for row in kept]
    if is_separate:
      assert ids == [x for x in shown if x]
    else:
      assert [*itertools.chain(*ids)] == [*itertools.chain(*shown)]


WORDS = ["alice", "paris", "red", "seven", "london", "then", ";", "is"]
TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)


@given(
  st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8),
  st.integers(0, 40),
  st.integers(0, 4),
)
def test_fitted_examples_are_all_read_or_named_as_dropped(pairs, room, rows_):
  """In their order, each whole; what was dropped had no room where it came."""
  given_ = [examples.Example(*pair, i) for i, pair in enumerate(pairs)]
  vocabulary = records.vocabulary()
  sizes = [
    len(vocabulary.encode(a)) + len(vocabulary.encode(b)) + 2 for a, b in pairs
  ]
  lengths = Lengths(9, 9, room, rows_)
  if min(sizes) > room:
    with pytest.raises(ValueError, match=r"none of \d+ examples fits"):
      examples.fit(given_, vocabulary, lengths)
    return
  fitted = examples.fit(given_, vocabulary, lengths)
  dropped = [example for example, _, _ in fitted.dropped]
  assert sorted([*fitted.kept, *dropped], key=lambda x: x.line) == given_
  assert [x.line for x in fitted.kept] == sorted(x.line for x in fitted.kept)
  ids = [
    [
      *examples.encode(vocabulary, x.input),
      *examples.encode(vocabulary, x.output),
    ]
    for x in fitted.kept
  ]
  if rows_:
    assert [x.tolist() for x in fitted.tokens] == ids
    assert len(ids) <= rows_ and all(len(x) <= room for x in ids)
  else:
    assert fitted.tokens.tolist() == [*itertools.chain(*ids)]
  for example, size, left in fitted.dropped:
    taken = sum(sizes[x.line] for x in fitted.kept if x.line < example.line)
    assert size == sizes[example.line] > left
    if not rows_:
      assert left == room - taken


@given(
  st.lists(st.tuples(IDS, IDS, st.booleans()), min_size=1, max_size=6),
  st.data(),
)
def test_joined_rows_come_apart_as_they_were(pairs, data):
  """Whether they end or not, and in any order and number."""
  stored = [
    {"inputs": [*a, *[1] * ends], "targets": [*b, *[1] * (not ends)]}
    for a, b, ends in pairs
  ]
  task = rows.store.Task(
    "a", "train", rows.store.in_memory(stored, ("inputs", "targets"))
  )
  chosen = data.draw(st.lists(st.integers(0, len(pairs) - 1), max_size=5))
  joined = joining.join(task, chosen)
  assert len(joined) == joining.joined_lengths(task)[chosen].sum()
  found = joining.split_joined(task, chosen, joined)
  assert [(a.tolist(), b.tolist()) for a, b in found] == [
    ([*pairs[i][0], 1], [*pairs[i][1], 1]) for i in chosen
  ]


@given(st.text(max_size=30), TEXTS)
def test_ids_of_a_decoded_text_are_its_ids(text, words):
  """Of any text that the vocabulary knows; a decode never fails on its ids."""
  own = records.vocabulary()
  ids = own.encode(words)
  assert own.encode(own.decode(ids)) == ids
  assert own.decode([*ids, own.eos_id, 5]) == own.decode(ids)
  ids = own.encode(text)
  assert all(0 <= id_ < own.size for id_ in ids)
  if own.unknown_id not in ids:
    assert own.encode(own.decode(ids)) == ids


@given(
  st.lists(st.integers(0, 30), max_size=9), st.integers(1, 9), st.booleans()
)
def test_a_trimmed_row_is_its_beginning_and_its_end(ids, length, is_closed):
  ids = np.asarray([*ids, *[1] * is_closed], np.int32)
  found = batch.trim(ids, length, 1)
  assert len(found) == min(len(ids), length)
  assert found.tolist()[:-1] == ids.tolist()[: max(len(found) - 1, 0)]
  if is_closed:
    assert found[-1] == 1


@given(
  st.lists(st.lists(IDS, max_size=4), min_size=1, max_size=4).filter(any),
)
def test_padded_choices_hold_each_of_them(choices):
  padded = batch.pad_choices(choices)
  rows_, width, length = padded.shape
  assert rows_ == len(choices)
  assert {width & (width - 1), length & (length - 1)} == {0}
  for own, found in zip(choices, padded, strict=True):
    ids = [np.trim_zeros(x, "b").tolist() for x in found]
    assert ids == [*own, *[[]] * (width - len(own))]
