"""A tokenizer in seqio: the ids of training are those of serving."""

import numpy as np
import pytest

from hyperjax.data import vocabularies
from hyperjax.data.byte_vocabulary import Bytes
from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.serving import examples
from tests import conftest

pytestmark = pytest.mark.seqio

seqio = pytest.importorskip("seqio")

from hyperjax.data.store import seqio_tasks  # noqa: E402
from hyperjax.data.store.seqio_vocabulary import SeqioTokenizer  # noqa: E402

FAMILY = conftest.MODELS / "t5_family"
TEXTS = ("the cat sat", "Grüße <extra_id_0>\tKöln")
PATHS = {
  "bytes": str(FAMILY / "bytes"),
  "tokenizer.json": str(FAMILY / "tokenizer_json_only" / "tokenizer.json"),
}


@pytest.fixture(params=list(PATHS))
def path(request):
  if request.param != "bytes":
    pytest.importorskip("tokenizers")
  return PATHS[request.param]


def test_stored_ids_are_those_of_serving_and_of_seqios_pipeline(path, tmp_path):
  feature = seqio_tasks.text_feature(path, extra_ids=100)
  source = seqio_tasks.RowsSource(
    lambda split: iter([{"inputs": TEXTS[0], "targets": TEXTS[1]}]),
    ("train",),
    {"inputs": 0, "targets": 0},
    lambda split: 1,
  )
  features = {"inputs": feature, "targets": feature}
  seqio_tasks.add_task("own_tokenizer", source, features, "test")
  (task,) = SeqioTasks("own_tokenizer", cache_dir=str(tmp_path)).open()
  served = vocabularies.named(path)
  wanted = [examples.encode(served, text) for text in TEXTS]
  (row,) = seqio.get_mixture_or_task("own_tokenizer").get_dataset(
    {"inputs": 99, "targets": 99}, "train", shuffle=False, use_cached=False
  )
  for name, ids in zip(("inputs", "targets"), wanted, strict=True):
    assert task.rows.row(0, name).tolist() == ids
    np.testing.assert_array_equal(row[name], ids)
  assert task.vocabulary.identity == served.identity
  # Found again where the tokens are, without seqio.
  cached = SeqioTasks("own_tokenizer", cache_dir=str(tmp_path), use_cached=True)
  assert cached.open()[0].vocabulary.identity == served.identity


def test_seqio_reads_it_back(path):
  own = seqio_tasks.text_feature(path, extra_ids=0).vocabulary
  ids = own.encode("the cat")
  assert own.decode([*ids, own.eos_id, 5]) == "the cat"
  assert own.decode_tf(np.array([*ids, own.eos_id])).numpy() == b"the cat"
  assert own.vocab_size == own.tokenizer.size
  assert own == SeqioTokenizer(vocabularies.named(path))
  assert own != SeqioTokenizer(Bytes(3))
