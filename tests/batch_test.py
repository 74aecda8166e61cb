import numpy as np
import pytest

from hyperjax import batch
from hyperjax.batch import Context, Lengths


def _ids(*values):
  return np.array(values, np.int32)


def test_rows_are_padded_and_targets_shifted():
  contexts = [
    Context([_ids(5, 6), _ids(7)], [_ids(8, 1), _ids(9, 9, 1)], _ids(3, 1)),
    Context([_ids(5), _ids(6)], [_ids(1), _ids(4, 1)], _ids(4, 4, 1)),
  ]
  made = batch.assemble(contexts, Lengths(3, 4, 4))
  assert made.num_contexts == 2
  np.testing.assert_array_equal(
    made.encoder_input_tokens, [[5, 6, 0], [7, 0, 0], [5, 0, 0], [6, 0, 0]]
  )
  np.testing.assert_array_equal(made.decoder_target_tokens[1], [9, 9, 1, 0])
  np.testing.assert_array_equal(made.decoder_input_tokens[1], [0, 9, 9, 1])
  np.testing.assert_array_equal(made.decoder_loss_weights[1], [1, 1, 1, 0])
  np.testing.assert_array_equal(
    made.demonstrations, [[3, 1, 0, 0], [4, 4, 1, 0]]
  )


def test_a_cut_row_keeps_its_end():
  ids = _ids(5, 6, 7, 8, 1)
  np.testing.assert_array_equal(batch.trim(ids, 3, 1), [5, 6, 1])
  np.testing.assert_array_equal(batch.trim(ids, 5, 1), ids)
  np.testing.assert_array_equal(batch.trim(_ids(5, 6, 7), 2, 1), [5, 6])


def test_choices_are_padded_to_powers_of_two_and_lacking_ones_are_empty():
  choices = [[[3, 1]], [], [[4, 1], [5, 1], [6, 7, 1]]]
  padded = batch.pad_choices(choices)
  assert padded.shape == (3, 4, 4)
  assert padded[0].tolist() == [[3, 1, 0, 0], *[[0] * 4] * 3]
  assert not padded[1].any()
  assert padded[2].tolist() == [
    [4, 1, 0, 0],
    [5, 1, 0, 0],
    [6, 7, 1, 0],
    [0, 0, 0, 0],
  ]
  assert batch.pad_choices(choices, max_length=3).shape == (3, 4, 3)
  assert batch.pad_choices([[[1]], [[1]]]).tolist() == [[[1]], [[1]]]


@pytest.mark.parametrize(
  "lengths, message",
  [
    ({"inputs": 4}, "lacks 'targets'"),
    ({"inputs": 4, "targets": 0}, r"\['targets'\] must be"),
    ({"inputs": 4, "targets": 4, "demos": 4}, "'demos'; it may have"),
  ],
)
def test_bad_feature_lengths_are_refused(lengths, message):
  with pytest.raises(ValueError, match=message):
    Lengths.from_features(lengths)
