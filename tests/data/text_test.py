import dataclasses

import numpy as np
import pytest

from hyperjax.batch import Lengths
from hyperjax.data import pairs, text
from hyperjax.data.text import Caclm, CaclmLengths, PrefixLm, cut_window
from tests.data import rows

CUT = CaclmLengths(before=4, prompt=2, continuation=3, after=5)
LENGTHS = Lengths(inputs=2, targets=3, demonstrations=11)


def test_a_window_is_cut_in_four():
  parts = cut_window(np.arange(14), CUT)
  assert [part.tolist() for part in parts] == [
    [0, 1, 2, 3],
    [4, 5],
    [6, 7, 8],
    [9, 10, 11, 12, 13],
  ]


def test_a_short_window_keeps_its_proportions():
  parts = cut_window(np.arange(7), CUT)
  assert [len(part) for part in parts] == [2, 1, 1, 3]
  assert np.concatenate(parts).tolist() == list(range(7))


def test_the_hypermodel_reads_a_and_d_and_the_backbone_continues_b():
  source = Caclm([rows.documents("text", [60, 45, 200], 1000)], CUT, LENGTHS)
  for index in range(60):
    context = source[index]
    (b,), (c,) = context.inputs, context.targets
    read = context.demonstrations
    a, d = read[:4], read[5:10]
    assert read[4] == read[10] == rows.EOS
    window = np.concatenate([a, b, c, d])
    np.testing.assert_array_equal(np.diff(window), 1)


def test_a_and_d_may_be_encoded_separately():
  separate = Lengths(
    inputs=2, targets=3, demonstrations=6, num_demonstrations=2
  )
  tasks = [rows.documents("text", [60], 1000)]
  joined = Caclm(tasks, CUT, LENGTHS)[0].demonstrations
  a, d = list(Caclm(tasks, CUT, separate)[0].demonstrations or ())
  assert (len(a), len(d)) == (5, 6)
  np.testing.assert_array_equal(np.concatenate([a, d]), joined)
  one = Lengths(inputs=2, targets=3, demonstrations=6, num_demonstrations=1)
  with pytest.raises(ValueError, match="encoded separately, which takes 2"):
    Caclm(tasks, CUT, one)


def test_an_epoch_covers_the_text_about_once():
  lengths = [140, 280, 560]
  source = Caclm([rows.documents("text", lengths, 1000)], CUT, LENGTHS)
  slots = -(-(sum(lengths) + 3) // CUT.total)
  begins = [int(source[index].demonstrations[0]) for index in range(slots)]
  documents = np.bincount([begin // 1000 for begin in begins], minlength=4)[1:]
  # In proportion to length, to within the window that a border may take.
  assert np.abs(documents - np.array(lengths) / CUT.total).max() <= 2
  assert len(set(begins)) >= slots - 3
  later = [
    int(source[slots + index].demonstrations[0]) for index in range(slots)
  ]
  assert begins != later


def test_too_short_documents_are_passed_over_and_counted():
  source = Caclm([rows.documents("text", [5] * 40 + [50], 100)], CUT, LENGTHS)
  for index in range(20):
    assert source[index].demonstrations[0] >= 100 * 41
  assert source.num_skipped > 0


def test_a_short_document_may_make_a_short_window():
  source = Caclm(
    [rows.documents("text", [7, 7], 100)], CUT, LENGTHS, min_length=7
  )
  context = source[0]
  assert len(context.inputs[0]) == 1 and len(context.demonstrations) == 7


@pytest.mark.parametrize(
  "make, message",
  [
    (
      lambda: Caclm([rows.documents("text", [9])], CUT, LENGTHS),
      "longest document has 10 tokens; a window needs 14",
    ),
    (
      lambda: Caclm([rows.documents("t", [50])], CUT, Lengths(2, 3, 10)),
      r"\['demonstrations'\] is 10, too short",
    ),
    (
      lambda: Caclm([rows.numbered("pairs", 9)], CUT, Lengths(1, 3, 11)),
      r"\['inputs'\] is 1",
    ),
    (lambda: CaclmLengths(prompt=0), r"CaclmLengths\.prompt"),
    (lambda: CaclmLengths(before=0, after=0), "nothing is left"),
  ],
)
def test_what_cannot_be_cut_is_refused(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_prefix_lm_continues_a_window_from_anywhere():
  lengths = Lengths(inputs=6, targets=8)
  source = PrefixLm([rows.documents("text", [90, 150], 1000)], lengths)
  cuts = set()
  for index in range(80):
    context = source[index]
    (inputs,), (targets,) = context.inputs, context.targets
    np.testing.assert_array_equal(np.diff(np.append(inputs, targets)), 1)
    assert 1 <= len(inputs) <= 6 and 1 <= len(targets) <= 8
    cuts.add(len(inputs))
  assert cuts == {1, 2, 3, 4, 5, 6}


def test_text_to_text_tasks_are_not_cut_as_text():
  task = rows.numbered("pairs", 30, length=40)
  with pytest.raises(ValueError, match=r"'pairs' has the features.*plain text"):
    text.PrefixLm([task], Lengths(8, 8))


def test_windows_too_short_for_their_parts_are_refused():
  task = rows.documents("some", [600])
  lengths = Lengths(32, 128, demonstrations=400)
  with pytest.raises(
    ValueError, match=r"min_length is 2: .*nothing of B or of"
  ):
    text.Caclm([task], text.CaclmLengths(), lengths, min_length=2)
  with pytest.raises(ValueError, match=r"PrefixLmWindows.*at least 2"):
    text.PrefixLm([task], lengths, min_length=1)


def test_pairs_need_inputs_and_targets():
  with pytest.raises(ValueError, match=r"'some' has the features.*are needed"):
    pairs.Pairs([rows.documents("some", [9])], Lengths(8, 8))


@pytest.mark.parametrize(
  "least, name",
  [
    (Lengths(1, 3, 6, 2), "inputs"),
    (Lengths(2, 2, 6, 2), "targets"),
    (Lengths(2, 3, 5, 2), "demonstrations"),
    (Lengths(2, 2, 11), "targets"),
  ],
)
def test_lengths_hold_every_part_of_a_window(least, name):
  """A and D of five and one more each, in a row together or in two."""
  tasks = [rows.documents("text", [60])]
  with pytest.raises(
    ValueError, match=rf"\['{name}'\] is {getattr(least, name)}"
  ):
    Caclm(tasks, CUT, least)
  enough = dataclasses.replace(least, **{name: getattr(least, name) + 1})
  assert len(Caclm(tasks, CUT, enough)[0].inputs[0]) == 2


def test_where_nearly_all_documents_are_too_short_it_is_said(monkeypatch):
  monkeypatch.setattr(text, "_MAX_DRAWS", 3)
  source = Caclm([rows.documents("text", [5] * 2000 + [14])], CUT, LENGTHS)
  with pytest.raises(
    ValueError,
    match="'text': 3 windows in turn fell in documents of fewer than 14",
  ):
    for index in range(5):
      source[index]
  assert source.num_skipped % 3 == 0 and source.num_skipped


def test_the_least_length_of_a_window_is_no_more_than_the_whole():
  source = Caclm(
    [rows.documents("text", [14], 100)], CUT, LENGTHS, min_length=99
  )
  _, parts = source.parts(0)
  assert np.concatenate(parts).tolist() == list(range(100, 114))
  assert source.size == 14


def test_a_window_leaves_out_the_end_of_its_document():
  source = PrefixLm(
    [rows.documents("text", [4, 6], 100)], Lengths(5, 5), min_length=4
  )
  for index in range(10):
    _, ids = source.window(index)
    assert ids.tolist() in (list(range(100, 104)), list(range(200, 206)))
    assert ids.dtype == np.int32


def test_text_without_ends_is_separated_by_one_and_read_to_its_last_id():
  class NoEnd:
    eos_id = None

  task = dataclasses.replace(
    rows.documents("text", [13], 100), vocabulary=NoEnd()
  )
  source = Caclm([task], CUT, LENGTHS)
  assert source.window(0)[1].tolist() == [*range(100, 113), rows.EOS]
  read = source[0].demonstrations
  assert read[4] == 1 and read[-2:].tolist() == [1, 1]


def test_a_prefix_is_never_the_whole_window():
  """Of two tokens one is read and one predicted, as far as there is room."""
  source = PrefixLm(
    [rows.documents("text", [2, 2, 3], 100)], Lengths(9, 1), min_length=2
  )
  assert (source.size, source._min_length) == (10, 2)
  cuts = [
    (len(source[i].inputs[0]), len(source[i].targets[0])) for i in range(60)
  ]
  assert set(cuts) == {(1, 1), (2, 1)}


def test_a_window_is_of_512_tokens_with_a_short_prompt():
  cut = CaclmLengths()
  assert (cut.before, cut.prompt, cut.continuation, cut.after) == (
    *(176, 32, 128, 176),
  )
  assert cut.total == 512
