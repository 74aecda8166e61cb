"""Any registered seqio task as stored tokens."""

import dataclasses
import logging
import os
import pathlib
import re

import numpy as np
import pytest

from hyperjax.data.store import seqio_rows, seqio_store
from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.tasks import records

pytestmark = pytest.mark.seqio

seqio = pytest.importorskip("seqio")
import tensorflow as tf  # noqa: E402

from hyperjax.data import seqio_features  # noqa: E402
from hyperjax.data.store import mixtures, seqio_key, seqio_tasks  # noqa: E402

FEATURE = seqio_tasks.text_feature(str(records.VOCABULARY), extra_ids=0)
PAIR = {"inputs": FEATURE, "targets": FEATURE}
LINES = [
  {"inputs": "alice paris", "targets": "red"},
  {"inputs": "bruno rome", "targets": "green green"},
  {"inputs": "carla oslo", "targets": "blue"},
  {"inputs": "david delhi", "targets": "( pink )"},
]


def _tf_source(lines):
  def dataset(split, shuffle_files=False):
    del split, shuffle_files
    return tf.data.Dataset.from_tensor_slices(
      {name: [line[name] for line in lines] for name in lines[0]}
    )

  return seqio.FunctionDataSource(dataset, splits=("train",))


def _add(name, preprocessors=None, lines=LINES, **options):
  """A task as a user registers one: a tf.data source, seqio's preprocessors."""
  if preprocessors is None:
    preprocessors = [
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos,
    ]
  seqio.TaskRegistry.add(
    name,
    source=_tf_source(lines),
    preprocessors=preprocessors,
    output_features=PAIR,
    **options,
  )


def _texts(task):
  decode = records.vocabulary().decode
  return [
    tuple(decode(task.rows.row(i, name)) for name in ("inputs", "targets"))
    for i in range(len(task.rows))
  ]


def test_a_registered_task_is_stored_as_its_pipeline_yields_it(tmp_path):
  _add("store_plain")
  (task,) = SeqioTasks("store_plain", cache_dir=str(tmp_path)).open()
  assert _texts(task) == [(x["inputs"], x["targets"]) for x in LINES]
  assert all(task.rows.row(i, "targets")[-1] == 1 for i in range(4))


def test_the_direct_way_yields_the_ids_of_the_pipeline(tmp_path):
  lines = [
    *LINES,
    {"inputs": "  odd   spacing\nand unknown ", "targets": "über <extra_id_0>"},
    {"inputs": "", "targets": ""},
  ]
  source = seqio_tasks.RowsSource(
    lambda split: iter(lines),
    ("train",),
    {"inputs": 0, "targets": 0},
    lambda s: 1,
  )
  seqio_tasks.add_task("store_direct", source, PAIR, "test")
  _add("store_slow", lines=lines)
  (direct,) = SeqioTasks("store_direct", cache_dir=str(tmp_path)).open()
  (slow,) = SeqioTasks("store_slow", cache_dir=str(tmp_path)).open()
  assert seqio_tasks.is_direct(seqio.TaskRegistry.get("store_direct"))
  assert not seqio_tasks.is_direct(seqio.TaskRegistry.get("store_slow"))
  np.testing.assert_array_equal(direct.rows.tokens, slow.rows.tokens)
  np.testing.assert_array_equal(direct.rows.offsets, slow.rows.offsets)


def test_ids_that_come_with_a_row_are_stored_as_they_are(tmp_path):
  row = {
    "inputs": seqio_tasks.Tokenized("alice", np.array([9, 8, 1])),
    "targets": "red",
    "is_right": [True],
  }
  source = seqio_tasks.RowsSource(
    lambda split: iter([row]),
    ("train",),
    {"inputs": 0, "targets": 0, "is_right": (1, "bool")},
    lambda split: 0,
  )
  seqio_tasks.add_task("store_ids", source, PAIR, "test")
  tasks = SeqioTasks("store_ids", cache_dir=str(tmp_path), keep_records=True)
  (task,) = tasks.open()
  assert task.rows.row(0, "inputs").tolist() == [9, 8, 1]
  red = records.vocabulary().encode("red")
  assert task.rows.row(0, "targets").tolist() == [*red, 1]
  assert task.rows.record(0) == {
    "is_right": [True],
    "inputs_pretokenized": "alice",
    "targets_pretokenized": "red",
  }


def test_a_second_opening_makes_nothing_and_needs_no_seqio(
  tmp_path, monkeypatch
):
  _add("store_twice")
  tasks = SeqioTasks("store_twice", cache_dir=str(tmp_path))
  tasks.open()
  monkeypatch.setattr(seqio_store, "_make", None)
  tasks.open()
  monkeypatch.setattr(seqio_rows, "import_seqio", None)
  cached = SeqioTasks("store_twice", cache_dir=str(tmp_path), use_cached=True)
  (task,) = cached.open()
  assert _texts(task)[0] == ("alice paris", "red")
  assert task.vocabulary.decode([5]) == records.vocabulary().decode([5])


def test_what_determines_tokens_determines_the_key(tmp_path):
  def key(name):
    task = seqio.TaskRegistry.get(name)
    return seqio_key.key(seqio_key.describe_task(task, "train") | {"task": 0})

  def first(dataset, size):
    return dataset.take(size)

  import functools

  steps = [seqio.preprocessors.tokenize, seqio.preprocessors.append_eos]
  _add("key_a", [functools.partial(first, size=2), *steps])
  _add("key_b", [functools.partial(first, size=2), *steps])
  _add("key_c", [functools.partial(first, size=3), *steps])
  _add("key_d", [functools.partial(first, size=2), *steps], lines=LINES[:3])
  assert key("key_a") == key("key_b")
  assert len({key("key_a"), key("key_c"), key("key_d")}) == 3


THRESHOLD = 3


def _limit(x):
  return x + THRESHOLD


def _by_global(dataset):
  return dataset.map(_limit)


def test_a_constant_that_a_preprocessor_uses_is_part_of_the_key(monkeypatch):
  import sys

  def key():
    return seqio_key.key(seqio_key.describe(_by_global))

  before = key()
  assert key() == before
  monkeypatch.setattr(sys.modules[__name__], "THRESHOLD", 4)
  assert key() != before
  monkeypatch.setattr(sys.modules[__name__], "THRESHOLD", 3)
  monkeypatch.setattr(sys.modules[__name__], "_limit", lambda x: x - THRESHOLD)
  assert key() != before


@pytest.mark.parametrize(
  "one, other",
  [
    (re.compile("a"), re.compile("b")),
    (pathlib.Path("/a"), pathlib.Path("/b")),
    (np.int64(1), np.int64(2)),
    (np.arange(3), np.arange(3) + 1),
    (tf.constant([1]), tf.constant([2])),
    (range(3), range(9)),
    ({"a": (1, 2)}, {"a": (1, 3)}),
    (lambda x: x + 1, lambda x: x + 2),
    (
      seqio.SentencePieceVocabulary(str(records.VOCABULARY), 100),
      seqio.SentencePieceVocabulary(
        str(records.VOCABULARY), 100, reverse_extra_ids=False
      ),
    ),
  ],
  ids=lambda value: type(value).__name__,
)
def test_what_a_preprocessor_closes_over_is_part_of_the_key(one, other):
  def holding(value):
    import string  # a module in the closure is no obstacle

    def preprocess(dataset):
      return dataset.map(lambda x: (x, value, string))

    return seqio_key.key(seqio_key.describe(preprocess))

  assert holding(one) == holding(one) != holding(other)


def test_what_cannot_be_keyed_is_refused_by_name(tmp_path):
  lines = iter(LINES)
  _add("key_iterator", [lambda dataset: (dataset, lines)[0]])
  with pytest.raises(ValueError, match=r"'key_iterator' depends on a .*iterat"):
    SeqioTasks("key_iterator", cache_dir=str(tmp_path)).open()


def test_sentencepiece_with_other_options_goes_the_way_of_its_pipeline(
  tmp_path,
):
  """Sentinels in the other order: other ids, and decoded to the same text."""
  own = seqio.SentencePieceVocabulary(
    str(records.VOCABULARY), 10, reverse_extra_ids=False
  )
  feature = seqio.Feature(own, required=False)
  source = seqio_tasks.RowsSource(
    lambda split: iter([{"inputs": "alice", "targets": "<extra_id_0> red"}]),
    ("train",),
    {"inputs": 0, "targets": 0},
    lambda split: 0,
  )
  features = {"inputs": feature, "targets": feature}
  seqio_tasks.add_task("store_sentinels", source, features, "test")
  (task,) = SeqioTasks("store_sentinels", cache_dir=str(tmp_path)).open()
  ids = task.rows.row(0, "targets")
  assert ids.tolist() == [*own.encode("<extra_id_0> red"), 1]
  assert own.encode("<extra_id_0>")[-1] == own.vocab_size - 10
  assert "<extra_id_0>" in task.vocabulary.decode(ids)


@dataclasses.dataclass(frozen=True)
class _Fruit:
  """A data set whose folder is a setting."""

  fruit: str

  def register(self):
    source = seqio_tasks.RowsSource(
      lambda split: iter([{"inputs": self.fruit, "targets": "red"}] * 2),
      ("train",),
      {"inputs": 0, "targets": 0},
      lambda split: self.fruit,
    )
    seqio_tasks.add_task("store_fruit", source, PAIR, self)


def test_two_data_sets_of_one_name_are_never_mixed_up(tmp_path):
  def tasks(fruit, **options):
    return SeqioTasks(
      "store_fruit",
      providers=(_Fruit(fruit),),
      cache_dir=str(tmp_path),
      **options,
    )

  def first_input(opened):
    return _texts(opened[0])[0][0]

  tasks("alice").open()
  tasks("alice").open()  # once more is no conflict
  with pytest.raises(ValueError, match=r"'store_fruit' is registered already"):
    tasks("bruno").open()
  seqio.TaskRegistry.remove("store_fruit")  # as another process would begin
  tasks("bruno").open()
  for fruit in ("alice", "bruno"):
    assert first_input(tasks(fruit, use_cached=True).open()) == fruit
  with pytest.raises(ValueError, match=r"made with .*alice.*carla.*asked for"):
    tasks("carla", use_cached=True).open()
  with pytest.raises(ValueError, match="CACHE_DIR of its own"):
    mixtures.open_mixture(tmp_path, "store_fruit", "train")


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path):
  _add("store_plain")
  (tmp_path / "file").write_text("")
  tasks = SeqioTasks("store_plain", cache_dir=str(tmp_path / "file" / "cache"))
  with pytest.raises(ValueError, match=r"CACHE_DIR .*cannot be written"):
    tasks.open()


def test_a_missing_vocabulary_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"DATA_DIR: there is no vocabulary /no"):
    seqio_tasks.text_feature("/nowhere/spiece.model", 100)


def test_a_changed_source_file_is_noticed(tmp_path):
  path = tmp_path / "lines.txt"
  path.write_text("alice\nbruno\n")
  seqio.TaskRegistry.add(
    "key_file",
    source=seqio.TextLineDataSource({"train": str(path)}),
    preprocessors=[
      _as_pair,
      *seqio_tasks.PREPROCESSORS,
    ],
    output_features=PAIR,
  )
  tasks = SeqioTasks("key_file", cache_dir=str(tmp_path / "cache"))
  assert len(tasks.open()[0].rows) == 2
  path.write_text("alice\nbruno\ncarla\n")
  os.utime(path, ns=(1, 1))
  assert len(tasks.open()[0].rows) == 3


def _as_pair(dataset):
  return dataset.map(lambda text: {"inputs": text, "targets": text})


def test_random_preprocessors_are_refused(tmp_path):
  @seqio.map_over_dataset(num_seeds=1)
  def shuffle_words(example, seed):
    words = tf.strings.split(example["inputs"])
    words = tf.random.experimental.stateless_shuffle(words, seed)
    return example | {"inputs": tf.strings.reduce_join(words, separator=" ")}

  lines = [{"inputs": "one two three four five six", "targets": "red"}] * 4
  _add("store_random", [shuffle_words, *seqio_tasks.PREPROCESSORS], lines)
  with pytest.raises(
    ValueError, match=r"'store_random': inputs.*random numbers"
  ):
    SeqioTasks("store_random", cache_dir=str(tmp_path)).open()
  assert not (tmp_path / "store_random").exists() or not any(
    (tmp_path / "store_random").iterdir()
  )


def test_rates_of_a_mixture_are_kept(tmp_path):
  _add("mix_a")
  _add("mix_b")
  _add("mix_off")
  seqio.MixtureRegistry.add(
    "mixed", [("mix_a", 3.0), ("mix_b", 0.5), ("mix_off", 0.0)]
  )
  opened = SeqioTasks("mixed", cache_dir=str(tmp_path)).open()
  assert [(task.name, task.rate) for task in opened] == [
    ("mix_a", 3.0),
    ("mix_b", 0.5),
  ]
  again = SeqioTasks("mixed", cache_dir=str(tmp_path), use_cached=True).open()
  assert [(task.name, task.rate) for task in again] == [
    ("mix_a", 3.0),
    ("mix_b", 0.5),
  ]


@pytest.mark.parametrize(
  "name, split, message",
  [
    ("store_plane", "train", r"'store_plane'.*nearest: store_plain"),
    ("store_plain", "tset", r"'store_plain' has no split 'tset', only train"),
  ],
)
def test_unknown_names_and_splits_are_refused(tmp_path, name, split, message):
  _add("store_plain")
  with pytest.raises(ValueError, match=message):
    SeqioTasks(name, split, cache_dir=str(tmp_path)).open()


def test_inputs_and_targets_must_share_a_vocabulary(tmp_path):
  _add("store_two")
  task = seqio.TaskRegistry.get("store_two")
  bytes_feature = seqio.Feature(seqio.ByteVocabulary())
  seqio.TaskRegistry.remove("store_two")
  seqio.TaskRegistry.add(
    "store_two",
    source=task.source,
    preprocessors=task.preprocessors,
    output_features=PAIR | {"inputs": bytes_feature},
  )
  with pytest.raises(ValueError, match="different vocabularies"):
    SeqioTasks("store_two", cache_dir=str(tmp_path)).open()


def test_a_vocabulary_that_is_no_sentencepiece_file_works_too(tmp_path):
  feature = seqio.Feature(seqio.ByteVocabulary())
  seqio.TaskRegistry.add(
    "store_bytes",
    source=_tf_source(LINES),
    preprocessors=list(seqio_tasks.PREPROCESSORS),
    output_features={"inputs": feature, "targets": feature},
  )
  (task,) = SeqioTasks("store_bytes", cache_dir=str(tmp_path)).open()
  ids = task.rows.row(0, "inputs")
  assert ids.tolist() == [*(b + 3 for b in b"alice paris"), 1]
  assert task.vocabulary.decode(ids) == "alice paris"
  assert task.eos_id == 1


def test_metric_functions_of_a_task_score_its_answers(tmp_path):
  def shout(text, **unused):
    return text.upper()

  _add("store_scored", metric_fns=[_share_equal], postprocess_fn=shout)
  tasks = SeqioTasks("store_scored", cache_dir=str(tmp_path), keep_records=True)
  (task,) = tasks.open()
  found = task.scoring.score(["red", "x"], ["RED", "y"], [{}, {}])
  assert found == {"share_equal": 0.5}


def _share_equal(targets, predictions):
  pairs = list(zip(targets, predictions, strict=True))
  return {"share_equal": sum(a == b for a, b in pairs) / len(pairs)}


def test_a_failure_while_storing_leaves_no_store(tmp_path):
  def broken(split):
    yield LINES[0]
    raise ValueError("line 2: no")

  source = seqio_tasks.RowsSource(
    broken, ("train",), {"inputs": 0, "targets": 0}, lambda split: 0
  )
  seqio_tasks.add_task("store_broken", source, PAIR, "test")
  with pytest.raises(ValueError, match="line 2: no"):
    SeqioTasks("store_broken", cache_dir=str(tmp_path)).open()
  assert not list((tmp_path / "store_broken").iterdir())
  with pytest.raises(ValueError, match="no stored tokens"):
    mixtures.open_mixture(tmp_path, "store_broken", "train")


def test_one_call_makes_a_few_shot_task_for_seqio_pipelines(tmp_path, caplog):
  _add("store_plain")
  lengths = {"demonstrations": 20, "inputs": 4, "targets": 4}
  seqio_features.add_few_shot_task(
    "few_shot_plain",
    SeqioTasks("store_plain", cache_dir=str(tmp_path)),
    lengths,
    num_demonstrations=(2, 3),
  )
  converter = seqio_features.HyperTuningFeatureConverter()
  with caplog.at_level(logging.ERROR):
    dataset = seqio.get_dataset(
      "few_shot_plain",
      lengths,
      dataset_split="train",
      feature_converter=converter,
      shuffle=True,
    )
  decode = records.vocabulary().decode
  answers = {x["inputs"]: x["targets"] for x in LINES}
  for example in dataset.take(8).as_numpy_iterator():
    shapes = {name: value.shape for name, value in example.items()}
    assert shapes == {
      "demonstrations": (20,),
      "encoder_input_tokens": (4,),
      "decoder_input_tokens": (4,),
      "decoder_target_tokens": (4,),
      "decoder_loss_weights": (4,),
    }
    asked = decode(example["encoder_input_tokens"])
    target = example["decoder_target_tokens"]
    assert decode(target) == answers[asked]
    np.testing.assert_array_equal(
      example["decoder_input_tokens"][1:], target[:-1]
    )
    np.testing.assert_array_equal(example["decoder_loss_weights"], target > 0)
    ids = example["demonstrations"]
    parts = np.split(ids, np.flatnonzero(ids == 1) + 1)[:-1]
    texts = [decode(part) for part in parts]
    assert 2 <= len(texts) / 2 <= 3 and asked not in texts
    for shown, answer in zip(texts[::2], texts[1::2], strict=True):
      assert answers[shown] == answer


def test_a_seed_of_seqios_draws_other_episodes_only_where_it_shuffles(tmp_path):
  _add("store_plain")
  lengths = {"demonstrations": 20, "inputs": 4, "targets": 4}
  seqio_features.add_few_shot_task(
    "few_shot_seeded",
    SeqioTasks("store_plain", cache_dir=str(tmp_path)),
    lengths,
    num_demonstrations=(1, 3),
    num_episodes=16,
  )

  def drawn(shuffle, seed):
    dataset = seqio.get_dataset(
      "few_shot_seeded",
      lengths,
      dataset_split="train",
      feature_converter=seqio_features.HyperTuningFeatureConverter(),
      shuffle=shuffle,
      seed=seed,
    )
    return [
      example["demonstrations"].tolist()
      for example in dataset.as_numpy_iterator()
    ]

  plain = drawn(shuffle=False, seed=None)
  assert len(plain) == 16
  assert drawn(shuffle=False, seed=7) == plain
  assert drawn(shuffle=True, seed=7) == drawn(shuffle=True, seed=7) != plain
  assert drawn(shuffle=True, seed=7) != drawn(shuffle=True, seed=8)


def test_the_converter_never_packs():
  with pytest.raises(ValueError, match="cannot pack"):
    seqio_features.HyperTuningFeatureConverter(pack=True)
