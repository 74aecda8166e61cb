"""Which rows are answered together: all of them, in few shapes, within bounds."""

import hypothesis
import pytest
from hypothesis import strategies

from hyperjax import adapters
from hyperjax.evaluation import batching
from hyperjax.evaluation.batching import Budget, Row, Shape


def _rows(*lengths, context=0, outputs=1, output_length=2):
  """Rows of a context that are padded to given lengths."""
  return [
    Row(context, i, Shape(outputs, output_length, length))
    for i, length in enumerate(lengths)
  ]


def _described(found):
  """Of each batch its input length, contexts, and rows by context and index."""
  return [
    (
      each.shape.input_length,
      each.contexts,
      [(row.context, row.number) for row in each.rows],
      each.places,
    )
    for each in found
  ]


@pytest.mark.parametrize(
  "length, wanted",
  [(1, 8), (8, 8), (9, 16), (17, 32), (33, 50), (50, 50)],
)
def test_lengths_double_up_to_the_most(length, wanted):
  assert batching.padded(length, 8, 50) == wanted


def test_the_most_is_never_exceeded_by_the_least():
  assert batching.padded(3, 32, 20) == 20


def test_a_row_counts_with_all_its_outputs():
  assert Shape(3, 4, 10).tokens == 22
  budget = Budget(tokens=65, devices=2)
  assert budget.rows(Shape(3, 4, 10)) == 2
  assert budget.rows(Shape(1, 100, 10)) == 1  # one is always answered
  assert budget.total == 130


@pytest.mark.parametrize(
  "tokens, most, wanted",
  [
    (10, 16, 12),  # 13 of 130 tokens, of which two devices divide 12
    (10, 8, 8),
    (10, 3, 2),
    (1000, 16, 2),  # each device reads one
    (0, 16, 16),  # nothing is read
  ],
)
def test_contexts_are_read_together_as_their_tokens_allow(tokens, most, wanted):
  assert Budget(65, 2).contexts(tokens, most) == wanted


def test_rows_without_adapters_of_their_own_are_sorted_by_length_alone():
  """Rows of 8 + 2 and 16 + 2 tokens; two of the longer ones are 36."""
  rows = _rows(8, 16, 8, 16) + _rows(16, 8, context=1)
  found = batching.together(rows, Budget(36, 1), has_contexts=False)
  assert _described(found) == [
    (16, [0, 0], [(0, 1), (0, 3)], [0, 1]),
    # The last place of the longer ones is a shorter one's.
    (16, [1, 0], [(1, 0), (0, 0)], [0, 1]),
    (8, [0, 1], [(0, 2), (1, 1)], [0, 1]),
  ]


def test_blocks_are_of_one_context_and_their_places_are_filled_up():
  """Two blocks of the longest, of four rows each, fit a device."""
  rows = _rows(8, 8, 8, 8, 8) + _rows(8, 8, context=1)
  (found,) = batching.together(rows, Budget(10 * 17, 1))
  assert found.contexts == [0, 0, 1, 1]  # three, and one that fills them up
  assert [row.context for row in found.rows] == [0] * 8 + [1] * 8
  assert [row.number for row in found.rows[:5]] == [0, 1, 2, 3, 4]
  assert {row.number for row in found.rows[4:8]} == {4}
  assert found.places == [0, 1, 2, 3, 4, 8, 9]


def test_fewer_rows_share_a_block_where_two_blocks_would_not_fit():
  rows = _rows(*[8] * 8)
  for tokens, block in ((80, 4), (79, 2), (40, 2), (39, 1), (1, 1)):
    found = list(batching.together(rows, Budget(tokens, 1)))
    sizes = {len(each.rows) // len(each.contexts) for each in found}
    assert sizes == {block}, tokens


def test_a_block_is_no_larger_than_a_context():
  rows = [row for i in range(6) for row in _rows(8, context=i)]
  (found,) = batching.together(rows, Budget(1000, 1))
  assert found.contexts == [0, 1, 2, 3, 4, 5, 5, 5]


def test_devices_get_as_many_blocks_each():
  rows = _rows(*[8] * 9)
  (found,) = batching.together(rows, Budget(1000, 4))
  # Three blocks of four, four, and one row; a power of two on each device.
  assert len(found.contexts) == 4 and len(found.places) == 9


def test_a_device_holds_no_more_than_32_copies_of_adapters():
  rows = [row for i in range(40) for row in _rows(*[8] * 8, context=i)]
  found = list(batching.together(rows, Budget(10**6, 1)))
  assert [len(each.contexts) for each in found] == [32, 32, 16]
  found = list(batching.together(rows, Budget(10**6, 1), False))
  assert [len(each.rows) for each in found] == [128, 128, 64]


def test_rows_with_choices_are_batched_with_those_they_can_hold():
  """Fewer outputs and shorter ones fit in; longer inputs do not."""
  rows = [
    Row(0, 0, Shape(4, 4, 16)),
    Row(0, 1, Shape(2, 4, 16)),
    Row(0, 2, Shape(2, 4, 32)),
  ]
  found = batching.together(rows, Budget(1000, 1), False)
  assert [(x.shape, [row.number for row in x.rows]) for x in found] == [
    (Shape(4, 4, 16), [0]),
    (Shape(2, 4, 32), [2, 1]),
  ]


_SHAPES = strategies.builds(
  Shape,
  strategies.sampled_from([1, 2, 4]),
  strategies.sampled_from([1, 4, 16]),
  strategies.sampled_from([8, 16, 32, 64]),
)


@hypothesis.given(
  strategies.lists(
    strategies.tuples(strategies.integers(0, 4), _SHAPES), max_size=60
  ),
  strategies.integers(1, 600),
  strategies.sampled_from([1, 2, 3, 8]),
  strategies.booleans(),
)
def test_every_row_is_answered_once_in_a_batch_that_holds_it(
  given, tokens, devices, has_contexts
):
  rows = [Row(context, i, shape) for i, (context, shape) in enumerate(given)]
  budget, answered, shapes = Budget(tokens, devices), [], set()
  for each in batching.together(rows, budget, has_contexts):
    size = len(each.rows) // len(each.contexts)
    assert len(each.rows) == size * len(each.contexts)
    assert len(each.contexts) % devices == 0
    for i, row in enumerate(each.rows):
      assert row.context == each.contexts[i // size] or not has_contexts
      assert each.shape.holds(row.shape)
    of_device = len(each.rows) // devices
    assert of_device == 1 or of_device * each.shape.tokens <= tokens
    answered += [each.rows[place].number for place in each.places]
    shapes.add((each.shape, len(each.rows)))
  assert sorted(answered) == list(range(len(rows)))
  # Of each shape a full batch, and of powers of two.
  by_shape = {}
  for shape, count in shapes:
    by_shape.setdefault(shape, set()).add(count)
  assert all(len(counts) <= 8 for counts in by_shape.values())


@pytest.mark.parametrize(
  "sizes, contexts, tokens, wanted",
  [
    ([(1, 10)] * 5, 2, 1000, [(0, 2), (2, 4), (4, 5)]),
    ([(1, 10)] * 5, 16, 20, [(0, 2), (2, 4), (4, 5)]),
    ([(1, 10)] * 5, 16, 21, [(0, 3), (3, 5)]),
    ([(5, 10), (1, 10), (1, 10)], 2, 1000, [(0, 1), (1, 3)]),
    ([(0, 0), (1, 10), (0, 0)], 1, 10, [(0, 2), (2, 3)]),
    ([], 2, 10, []),
  ],
)
def test_groups_are_of_whole_tasks_in_their_order(
  sizes, contexts, tokens, wanted
):
  found = batching.groups(sizes, contexts, tokens)
  assert [(each.start, each.stop) for each in found] == wanted


def test_what_a_row_attends_to_besides_its_own_tokens_counts():
  shape = Shape(outputs=2, output_length=5, input_length=10)
  assert Budget(100, 1).rows(shape) == 5
  assert Budget(100, 1, besides=30).rows(shape) == 2


def test_a_memory_alone_is_attended_to_for_each_token_that_was_read():
  memory = adapters.MemorySpec(7)
  both = adapters.ComposedSpec((adapters.LoraSpec(2), memory))
  found = [
    Budget(100, 1).under(spec).besides
    for spec in (None, adapters.PrefixSpec(3), memory, both)
  ]
  assert found == [0, 0, 7, 7]
