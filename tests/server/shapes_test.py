"""Which shapes there are, and that every batch has one."""

import pytest

from hyperjax.batch import Lengths
from hyperjax.server.shapes import Shapes


def shapes(most_rows=64, parts=1, **lengths):
  given = {"inputs": 40, "targets": 8, "demonstrations": 100} | lengths
  return Shapes(Lengths(**given), most_rows, lambda n: -(-n // parts) * parts)


def test_lengths_double_up_to_an_input_and_then_grow_by_four():
  """140 tokens have room in 256; of 64 tokens 64 * 40 / 64 rows are as many."""
  by_length = {}
  for rows, length in shapes().all:
    by_length.setdefault(length, []).append(rows)
  assert by_length == {
    16: [1, 4, 16, 64],
    32: [1, 4, 16, 64],
    40: [1, 4, 16, 64],
    64: [1, 4, 16, 40],
    256: [1, 4, 10],
  }


def test_rows_divide_over_the_parts_of_a_mesh():
  found = shapes(parts=8)
  assert {rows % 8 for rows, _ in found.all} == {0}
  assert found.rows_of(1, 16) == 8 and found.rows_of(9, 16) == 16


@pytest.mark.parametrize("tokens", [1, 16, 17, 40, 41, 140, 256])
def test_every_batch_has_a_shape(tokens):
  found = shapes()
  length = found.length_of(tokens)
  assert tokens <= length <= found.longest
  for count in range(1, found.most_rows(length) + 1):
    rows = found.rows_of(count, length)
    assert count <= rows <= max(4 * count, 4) and (rows, length) in found.all


def test_demonstrations_in_rows_of_their_own_are_counted():
  found = shapes(num_demonstrations=3)
  assert found.longest == 512  # 40 + 3 * 100


def test_no_batch_is_wider_than_there_is_use_for():
  assert shapes(demonstrations=60_000).longest == 4096
