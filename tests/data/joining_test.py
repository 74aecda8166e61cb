from hyperjax.data import joining
from hyperjax.data.store import store
from tests.data import rows


def test_joined_demonstrations_come_apart_as_they_were():
  """Also where an end of sequence stands inside a row, or none at its end."""
  ids = [([5, 1, 6, 1], [7]), ([], [8, 1]), ([9], [1, 1])]
  pairs = [{"inputs": a, "targets": b} for a, b in ids]
  task = store.Task("a", "train", store.in_memory(pairs, ("inputs", "targets")))
  joined = joining.join(task, [2, 0, 1])
  assert joined.tolist() == [9, 1, 1, 1, 5, 1, 6, 1, 7, 1, 1, 8, 1]
  parts = [
    (given.tolist(), answer.tolist())
    for given, answer in joining.split_joined(task, [2, 0, 1], joined)
  ]
  assert parts == [([9, 1], [1, 1]), ([5, 1, 6, 1], [7, 1]), ([1], [8, 1])]


def test_rows_without_an_end_are_separated_all_the_same():
  own = store.in_memory(
    [{"inputs": [5 + i], "targets": [9, 1]} for i in range(4)],
    ("inputs", "targets"),
  )
  task = store.Task("p3-like", "train", own)
  joined = joining.join(task, [0, 2])
  assert joined.tolist() == [5, 1, 9, 1, 7, 1, 9, 1]
  assert joining.joined_lengths(task).tolist() == [4] * 4


def test_outputs_may_be_shown_with_other_inputs():
  task = rows.numbered("a", 9)
  joined = joining.join(task, [0, 1], [1, 0])
  shown = [10, rows.EOS, 1011, rows.EOS, 11, rows.EOS, 1010, rows.EOS]
  assert joined.tolist() == shown
