"""P3's subsets from their own files, and T0's mixtures of them."""

import dataclasses
import json
import logging
import pathlib

import numpy as np
import pytest
import seqio

from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.tasks import p3, p3_files, p3_rows, records, t0
from hyperjax.tasks.p3 import P3
from tests import conftest
from tests.tasks import p3_folder

pytestmark = pytest.mark.seqio

RECORDS = "train.tfrecord-00000-of-00001"


def _open(provider, name, split="train"):
  cache_dir = str(pathlib.Path(provider.data_dir) / "cache")
  tasks = SeqioTasks(name, split, (provider,), cache_dir, keep_records=True)
  (task,) = tasks.open()
  return task.rows


def _records(rows):
  return [rows.record(i) for i in range(len(rows))]


def test_stored_ids_are_read_with_one_end_of_sequence_each(tmp_path, data):
  p3_folder.write(
    data / "a",
    p3_folder.PAIR,
    [p3_folder.pair("alice paris", " red"), p3_folder.pair("bruno", "( ")],
  )
  rows = _open(p3_folder.provider(tmp_path), "p3_a")
  encode = records.vocabulary().encode
  assert rows.row(0, "inputs").tolist() == [*encode("alice paris"), 1]
  assert rows.row(0, "targets").tolist() == [*encode(" red"), 1]
  assert rows.row(1, "inputs").tolist() == [*encode("bruno"), 1]
  assert rows.row(1, "targets").tolist() == [*encode("( "), 1]


def test_a_record_has_references_choices_and_number(tmp_path, data):
  choices = ["red", "green"]
  p3_folder.write(
    data / "a",
    p3_folder.WITH_CHOICES,
    [
      p3_folder.pair("bruno", "blue", answer_choices=[]),
      p3_folder.pair("alice", "\nred ", answer_choices=choices),
    ],
  )
  assert _records(_open(p3_folder.provider(tmp_path), "p3_a")) == [
    {
      "references": ["blue"],
      "choices": [],
      "id": "0",
      "inputs_pretokenized": "bruno",
      "targets_pretokenized": "blue",
    },
    {
      "references": ["red"],
      "choices": ["red", "green"],
      "id": "1",
      "inputs_pretokenized": "alice",
      "targets_pretokenized": "\nred ",
    },
  ]


def _of_another_vocabulary(row):
  return row | {"inputs": [n + 1 for n in row["inputs"]]}


def test_ids_of_another_vocabulary_are_refused_and_made_from_text_on_request(
  tmp_path, data
):
  row = p3_folder.pair("alice paris", "red")
  p3_folder.write(
    data / "a", p3_folder.PAIR, [row, _of_another_vocabulary(row)]
  )
  provider = p3_folder.provider(tmp_path)
  with pytest.raises(
    ValueError, match=rf'{RECORDS}, record 1: .*tokens to "text"'
  ):
    _open(provider, "p3_a")
  conftest.forget_tasks()
  rows = _open(dataclasses.replace(provider, tokens="text"), "p3_a")
  for i in range(2):
    assert rows.row(i, "inputs").tolist() == [*row["inputs"], 1]
    assert rows.row(i, "targets").tolist() == row["targets"]


@pytest.mark.parametrize(
  "name, split",
  [
    ("a", "train"),
    ("a_score_eval", "validation"),
    ("a_score_eval", "demonstrations"),
  ],
)
def test_a_subset_is_stored_as_its_text_is_tokenised(
  tmp_path, data, name, split
):
  texts = [("alice paris", "red"), ("bruno", "oslo"), ("alice", "blue")]
  p3_folder.write(
    data / "a",
    p3_folder.WITH_CHOICES,
    [p3_folder.pair(*text, answer_choices=["red", "oslo"]) for text in texts],
  )
  choices = [
    p3_folder.choice(row, i, text, answer, is_correct=answer == wanted)
    for row, (text, wanted) in enumerate(texts)
    for i, answer in enumerate(("red", "oslo", "blue"))
  ]
  p3_folder.write(
    data / "a_score_eval", p3_folder.SCORED, choices, "validation"
  )
  opened = []
  for kind in ("stored", "text"):
    provider = p3_folder.provider(tmp_path, tokens=kind)
    tasks = SeqioTasks(
      f"p3_{name}", split, (provider,), str(tmp_path / kind), False, True
    )
    opened += tasks.open()
    conftest.forget_tasks()
  stored, made = (task.rows for task in opened)
  assert len(stored) == 3
  np.testing.assert_array_equal(stored.tokens, made.tokens)
  assert _records(stored) == _records(made)


def test_seqio_reads_what_is_stored(tmp_path, data):
  """Own ids and the tf.data pipeline agree, records of all types included."""
  row = p3_folder.pair("carla oslo", "blue", answer_choices=["blue", "red"])
  p3_folder.write(data / "a", p3_folder.WITH_CHOICES, [row])
  scored = [
    p3_folder.choice(0, 0, "david", "red", True),
    p3_folder.choice(0, 1, "david", "blue"),
  ]
  p3_folder.write(data / "a_score_eval", p3_folder.SCORED, scored)
  provider = p3_folder.provider(tmp_path)
  for name, split in (
    ("p3_a", "train"),
    ("p3_a_score_eval", "train"),
    ("p3_a_score_eval", "demonstrations"),
  ):
    rows = _open(provider, name, split)
    dataset = seqio.TaskRegistry.get(name).get_dataset(
      None, split, shuffle=False
    )
    (example,) = dataset.as_numpy_iterator()
    for feature in ("inputs", "targets"):
      assert example[feature].tolist() == rows.row(0, feature).tolist()
    if name == "p3_a_score_eval":
      assert example["is_correct"].tolist() == [True, False]
      assert example["weight"] == 1.0


def test_rows_without_a_label_are_left_out_and_counted(tmp_path, data, caplog):
  rows = [
    p3_folder.pair("alice", "red"),
    p3_folder.pair("bruno", "<NO LABEL>"),
  ] * 2
  p3_folder.write(data / "a", p3_folder.PAIR, rows, "test")
  with caplog.at_level(logging.WARNING):
    kept = _records(_open(p3_folder.provider(tmp_path), "p3_a", "test"))
  assert [row["id"] for row in kept] == ["0", "2"]
  assert "2 of 4 rows have no label" in caplog.text


def test_blank_targets_are_left_out_and_counted(tmp_path, data, caplog):
  rows = [p3_folder.pair("alice", "red"), p3_folder.pair("bruno", " \n")]
  p3_folder.write(data / "a", p3_folder.PAIR, rows)
  with caplog.at_level(logging.WARNING):
    kept = _records(_open(p3_folder.provider(tmp_path), "p3_a"))
  assert [row["id"] for row in kept] == ["0"]
  assert f"{RECORDS}: 1 of 2 rows have a blank target" in caplog.text


def test_choices_of_an_example_become_one_row_whatever_their_order(
  tmp_path, data
):
  rows = [
    p3_folder.choice(7, 1, "bruno", "blue", True),
    p3_folder.choice(2, 2, "alice", "green"),
    p3_folder.choice(2, 0, "alice", "red"),
    p3_folder.choice(7, 0, "bruno", "pink"),
    p3_folder.choice(2, 1, "alice", "blue"),
    p3_folder.choice(7, 2, "bruno", "blue", True),
    p3_folder.choice(7, 3, "bruno", "red"),
  ]
  p3_folder.write(data / "a_score_eval", p3_folder.SCORED, rows, "validation")
  task = _open(p3_folder.provider(tmp_path), "p3_a_score_eval", "validation")
  assert _records(task) == [
    {
      "references": [],
      "choices": ["red", "blue", "green"],
      "is_correct": [False, False, False],
      "weight": 1.0,
      "id": "2",
      "inputs_pretokenized": "alice",
      "targets_pretokenized": "red",
    },
    {
      "references": ["blue", "blue"],
      "choices": ["pink", "blue", "blue", "red"],
      "is_correct": [False, True, True, False],
      "weight": 1.0,
      "id": "7",
      "inputs_pretokenized": "bruno",
      "targets_pretokenized": "blue",
    },
  ]
  encode = records.vocabulary().encode
  assert task.row(1, "inputs").tolist() == [*encode("bruno"), 1]
  assert task.row(1, "targets").tolist() == [*encode("blue"), 1]


@pytest.mark.parametrize(
  "rows, message",
  [
    (
      [p3_folder.choice(-1, 0, "alice", "red")],
      r"train\.tfrecord-00000-of-00001, record 0: 'idx' must be .*\[-1, 0\]",
    ),
    (
      [p3_folder.choice(3, 0, "alice", "red", weight=float("nan"))],
      "example 3: 'weight' must be 0 or more, got nan",
    ),
    (
      [
        p3_folder.choice(3, 0, "alice", "red"),
        p3_folder.choice(3, 2, "alice", "blue"),
      ],
      "example 3: its choices must be numbered from 0, each once; got 0, 2",
    ),
    (
      [p3_folder.choice(3, 1, "alice", "red")],
      "example 3: .*; got 1",
    ),
    (
      [
        p3_folder.choice(3, 0, "alice", "red"),
        p3_folder.choice(3, 0, "alice", "blue"),
      ],
      "example 3: .*; got 0, 0",
    ),
    (
      [
        p3_folder.choice(3, 0, "alice", "red"),
        p3_folder.choice(3, 1, "bruno", "blue"),
      ],
      "example 3: its choices differ in their inputs",
    ),
    (
      [
        p3_folder.choice(3, 0, "alice", "red"),
        p3_folder.choice(3, 1, "alice", "red", weight=2.0),
      ],
      "example 3: its choices differ in their weight",
    ),
    (
      [p3_folder.choice(3, 0, "alice", "red") | {"idx": [3]}],
      r"train\.tfrecord-00000-of-00001, record 0: 'idx' must be .*\[3\]",
    ),
  ],
)
def test_broken_groups_are_refused_by_example(tmp_path, data, rows, message):
  p3_folder.write(data / "a_score_eval", p3_folder.SCORED, rows)
  if "idx" not in message:
    message = f"'a_score_eval', split 'train', {message}"
  with pytest.raises(ValueError, match=message):
    _open(p3_folder.provider(tmp_path), "p3_a_score_eval")


def test_anlis_own_names_of_splits_are_those_of_its_round(tmp_path, data):
  row = p3_folder.pair("alice", "red")
  folder = data / "anli_x_r2"
  for split in ("train_r2", "dev_r2", "test_r2"):
    p3_folder.write(folder, p3_folder.PAIR, [row], split)
  provider = p3_folder.provider(tmp_path)
  splits = provider.subsets()["anli_x_r2"].splits
  assert set(splits) == {"train", "validation", "test"}
  assert len(_open(provider, "p3_anli_x_r2", "validation")) == 1
  p3_folder.write(folder, p3_folder.PAIR, [row], "validation")
  with pytest.raises(
    ValueError, match=r"'dev_r2' and 'validation' are both 'validation'"
  ):
    provider.subsets()


def test_demonstrations_of_a_scored_task_are_the_ordinary_train_rows(
  tmp_path, data
):
  shown = p3_folder.pair("alice", "red", answer_choices=["blue", "red"])
  p3_folder.write(data / "a", p3_folder.WITH_CHOICES, [shown])
  p3_folder.write(
    data / "a_score_eval",
    p3_folder.SCORED,
    [p3_folder.choice(0, 0, "bruno", "red")],
    "test",
  )
  (record,) = _records(
    _open(p3_folder.provider(tmp_path), "p3_a_score_eval", "demonstrations")
  )
  assert record["inputs_pretokenized"] == "alice"
  assert record["is_correct"] == [False, True]


def test_a_scored_task_without_a_pool_is_reported(tmp_path, data, caplog):
  p3_folder.write(
    data / "a_score_eval",
    p3_folder.SCORED,
    [p3_folder.choice(0, 0, "bruno", "red")],
    "test",
  )
  provider = p3_folder.provider(tmp_path)
  with caplog.at_level(logging.WARNING):
    provider.register()
  assert "1 of 1 subsets have no train split" in caplog.text
  assert (
    "no subset is there for mixtures p3_t0_train, p3_t0_eval" in caplog.text
  )
  with pytest.raises(ValueError, match="no split 'demonstrations', only test"):
    _open(provider, "p3_a_score_eval", "demonstrations")


def _cut(path):
  path.write_bytes(path.read_bytes()[:-7])


def _flip(path):
  content = bytearray(path.read_bytes())
  content[20] ^= 1
  path.write_bytes(content)


def _empty(folder):
  (folder / RECORDS).write_bytes(b"")
  _change(folder / "stats.train.json", "examples", 0)


def _change(path, name, value):
  content = json.loads(path.read_text())
  if value is None:
    del content[name]
  else:
    content[name] = value
  path.write_text(json.dumps(content))


@pytest.mark.parametrize(
  "damage, message",
  [
    (lambda f: (f / "COMPLETED").unlink(), r"a/COMPLETED is missing"),
    (
      lambda f: (f / RECORDS).rename(f / "train.tfrecord-00001-of-00002"),
      r"a/train\.tfrecord-00001-of-00002 is one of several shards",
    ),
    (lambda f: (f / RECORDS).unlink(), rf"a/{RECORDS} is missing"),
    (
      lambda f: (f / "info.train.json").unlink(),
      rf"a/{RECORDS} is one of several shards, or has no info",
    ),
    (
      lambda f: _cut(f / RECORDS),
      rf"a/{RECORDS} is damaged or cut.*record 1, at byte",
    ),
    (
      lambda f: _flip(f / RECORDS),
      rf"a/{RECORDS} is damaged or cut.*corrupted",
    ),
    (
      lambda f: (f / RECORDS).write_text("version https://git-lfs.github.com"),
      rf"a/{RECORDS} is a pointer of Git LFS",
    ),
    (
      lambda f: _change(f / "stats.train.json", "examples", 3),
      rf"a/{RECORDS} has 2 records, .*a/stats\.train\.json says 3",
    ),
    (
      lambda f: _change(f / "stats.train.json", "examples", None),
      r"a/stats\.train\.json has no 'examples'",
    ),
    (
      lambda f: _change(f / "stats.train.json", "examples", True),
      r"a/stats\.train\.json: 'examples' must be a count, got True",
    ),
    (
      lambda f: _empty(f),
      rf"a/{RECORDS} has no record",
    ),
    (
      lambda f: _change(f / "info.train.json", "num_shards", 2),
      r"a/info\.train\.json: 'num_shards' must be 1, got 2",
    ),
    (
      lambda f: _change(
        f / "info.train.json",
        "features",
        p3_folder.PAIR | {"inputs": {"dtype": "int32", "shape": [3]}},
      ),
      r"info\.train\.json: 'inputs': 'shape' must be \[\] or \[null\], got \[3\]",
    ),
    (
      lambda f: _change(
        f / "info.train.json",
        "features",
        p3_folder.PAIR | {"inputs": {"dtype": "int64", "shape": [None]}},
      ),
      r"info\.train\.json: its features are inputs int64\[\], .*; P3's are",
    ),
    (
      lambda f: (f / "stats.train.json").unlink(),
      r"a/stats\.train\.json cannot be read",
    ),
    (
      lambda f: _change(f / "info.train.json", "features", None),
      r"a/info\.train\.json has no 'features'",
    ),
    (
      lambda f: _change(f / "info.train.json", "features", ["inputs"]),
      r"a/info\.train\.json: 'features' must be an object",
    ),
    (
      lambda f: _change(
        f / "info.train.json",
        "features",
        p3_folder.PAIR | {"inputs": {"dtype": "int32"}},
      ),
      r"a/info\.train\.json: 'inputs' has no 'shape'",
    ),
    (
      lambda f: _change(f / "info.train.json", "features", p3_folder.SCORED),
      r"a/info\.train\.json: its features are idx int32\[\].*; P3's are",
    ),
    (
      lambda f: _change(
        f / "info.train.json", "features", p3_folder.WITH_CHOICES
      ),
      rf"a/{RECORDS}, record 0: 'answer_choices' is missing, .*info\.train\.json "
      "it is bytes_list",
    ),
  ],
)
def test_a_subset_that_is_not_whole_is_refused_by_file(
  tmp_path, data, damage, message
):
  p3_folder.write(
    data / "a",
    p3_folder.PAIR,
    [p3_folder.pair("alice", "red"), p3_folder.pair("bruno", "blue")],
  )
  damage(data / "a")
  with pytest.raises(ValueError, match=message):
    _open(p3_folder.provider(tmp_path, train_sizes="official"), "p3_a")


@pytest.mark.parametrize(
  "row, message",
  [
    ({"extra": 3}, "record 0: 'extra' is int64_list, .*it is missing"),
    ({"inputs": "alice"}, "record 0: 'inputs' is bytes_list, .*int64_list"),
    ({"targets": [5]}, "record 0: the stored targets"),
  ],
)
def test_a_record_that_is_not_as_its_info_says_is_refused(
  tmp_path, data, row, message
):
  p3_folder.write(
    data / "a", p3_folder.PAIR, [p3_folder.pair("alice", "red") | row]
  )
  with pytest.raises(ValueError, match=f"{RECORDS}, {message}"):
    _open(p3_folder.provider(tmp_path), "p3_a")


def test_records_further_on_are_checked_too(tmp_path, data):
  good = [p3_folder.pair("alice", "red")] * 20
  for name, bad, message in (
    ("a", {"targets": [5]}, r"record 20: its target ids do not end"),
    ("b", {"inputs": []}, r"record 20: no input ids"),
    ("d", {"targets": [1]}, r"record 20: no target ids"),
    ("e", {"targets_pretokenized": b"\xff"}, r"record 20: not UTF-8"),
    ("f", {"inputs_pretokenized": b"\xff"}, r"record 20: not UTF-8"),
    ("c", {"targets": "red"}, r"record 20, is not what .*info"),
  ):
    p3_folder.write(data / name, p3_folder.PAIR, [*good, good[0] | bad])
    split = p3_files.Split(data / name, "train")
    with pytest.raises(ValueError, match=f"{RECORDS}, {message}"):
      list(p3_rows.rows(split, records.vocabulary()))


def test_subsets_may_lie_directly_in_the_folder_but_once(tmp_path, data):
  p3_folder.write(
    data.parent / "a", p3_folder.PAIR, [p3_folder.pair("alice", "red")]
  )
  (data.parent / ".cache").mkdir()  # what is no subset is nobody's business
  provider = p3_folder.provider(tmp_path)
  assert list(provider.subsets()) == ["a"]
  p3_folder.write(data / "a", p3_folder.PAIR, [p3_folder.pair("alice", "red")])
  with pytest.raises(ValueError, match=r"'a' is in .*data/a and in .*p3/a"):
    provider.subsets()


def test_missing_folders_and_lists_are_refused(tmp_path, data):
  with pytest.raises(ValueError, match=r"DATA_DIR: there is no folder .*p3"):
    P3(str(tmp_path)).register()
  with pytest.raises(
    ValueError, match=r"DATA_DIR: no folder in .* is a subset"
  ):
    p3_folder.provider(tmp_path).register()
  p3_folder.write(data / "a", p3_folder.PAIR, [p3_folder.pair("alice", "red")])
  (tmp_path / "p3" / "t0_datasets.json").unlink()
  with pytest.raises(ValueError, match=r"no t0_datasets\.json and no datasets"):
    P3(str(tmp_path)).register()


@pytest.mark.parametrize(
  "name, message",
  [
    ("tokens", r"P3\.tokens must be 'stored' or 'text', got 'none'"),
    ("train_sizes", r"P3\.train_sizes must be 'stats' or 'official'"),
  ],
)
def test_unknown_settings_are_refused(name, message):
  with pytest.raises(ValueError, match=message):
    P3("/data", **{name: "none"})


def test_task_names_are_the_subsets():
  assert p3.task_name("imdb_x") == "p3_imdb_x"
  assert t0.ordinary("super_glue_wic_a_score_eval") == "super_glue_wic_a"
  assert t0.ordinary("imdb_x") == "imdb_x"
