"""T5's own vocabulary, on any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperjax.data import vocabulary

# Words of its languages, digits, spaces of all kinds, and anything else.
TEXTS = st.one_of(
  st.lists(
    st.sampled_from(["the", "Übung", "été", "42", "don't", "<extra_id_3>", "▁"])
  ).map(" ".join),
  st.text(st.characters(codec="latin-1")),
  st.text(),
)


@pytest.fixture(scope="module")
def t5(data_dir):
  (path,) = (data_dir / "vocab" / "t5").glob("*.model")
  return vocabulary.SentencePiece(str(path))


@given(text=TEXTS)
def test_ids_of_a_decoded_text_are_its_ids(t5, text):
  """But for what it has no piece for, which no text stands for."""
  ids = t5.encode(text)
  assert all(0 <= id_ < t5.size for id_ in ids)
  decoded = t5.decode(ids)
  assert t5.decode([*ids, t5.eos_id, 5]) == decoded
  if t5.unknown_id not in ids:
    assert t5.encode(decoded) == ids
    assert t5.decode(t5.encode(decoded)) == decoded
