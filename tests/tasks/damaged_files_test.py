"""Damaged files of the benchmarks, read as the rows of their tasks."""

import csv
import io
import json

import pytest

pytestmark = pytest.mark.seqio
pytest.importorskip("seqio")

import tensorflow as tf  # noqa: E402

from hyperjax.data import files  # noqa: E402
from hyperjax.tasks import (  # noqa: E402
  c4,
  metaicl_rows,
  p3_files,
  p3_rows,
  records,
  superni,
  t0,
)
from tests import damage  # noqa: E402
from tests.tasks import metaicl_folder, p3_folder  # noqa: E402


def _text(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(content if isinstance(content, str) else json.dumps(content))


def _superni(folder):
  example = {"id": "i", "input": "in", "output": ["yes", "no"]}
  task = {
    "Categories": ["Kind"],
    "Definition": ["Do it."],
    "Positive Examples": [example],
    "Instances": [example, example | {"output": "one"}],
  }
  for name in "ab":
    _text(folder / "sni" / "tasks" / f"{name}.json", task)
  for split, name in (("train", "a"), ("test", "b")):
    _text(folder / "sni" / "splits" / "default" / f"{split}_tasks.txt", name)


def _read_superni(folder):
  provider = superni.SuperNaturalInstructions(
    str(folder), vocabulary=str(records.VOCABULARY), extra_ids=0
  )
  for split, names in provider.task_names().items():
    for name in names:
      path = provider.path(name)
      superni.definition(path)
      for of in (split, "positive"):
        for row in superni._rows(path, of):
          _check_texts(row)


def _check_texts(row):
  for name in ("inputs", "targets"):
    files.check_text(row[name], name)


def _read_metaicl(folder):
  provider = metaicl_folder.MetaICL(
    str(folder),
    vocabulary=str(records.VOCABULARY),
    extra_ids=0,
    setting="own",
    seeds=(100,),
  )
  for role in ("train", "test"):
    for name in provider.task_names()[role]:
      task = provider._task(name, role)
      for split in task.paths:
        for row in metaicl_rows.read(task, split):
          _check_texts(row)


def _p3(folder):
  rows = [p3_folder.pair("alice", "red", answer_choices=["red", "blue"])] * 3
  p3_folder.write(folder / "own", p3_folder.WITH_CHOICES, rows)
  scored = [
    p3_folder.choice(i, j, "alice", word, j == 0)
    for i in range(2)
    for j, word in enumerate(("red", "blue"))
  ]
  p3_folder.write(folder / "scored", p3_folder.SCORED, scored)


def _read_p3(folder):
  split = p3_files.Split(folder / "own", "train")
  for row in p3_rows.rows(split, records.vocabulary()):
    assert isinstance(row["targets"].text, str)
  scored = p3_files.Split(folder / "scored", "train")
  for row in p3_rows.scored_rows(scored, records.vocabulary()):
    assert len(row["choices"]) == len(row["is_correct"])


def _inside(folder):
  """A record alone: what is in it comes in a frame that is whole."""
  _p3(folder)
  (first, *_) = tf.data.TFRecordDataset(str(folder / "own" / RECORDS))
  (folder / "record").write_bytes(first.numpy())


def _read_inside(folder):
  with tf.io.TFRecordWriter(str(folder / "own" / RECORDS)) as writer:
    for _ in range(3):
      writer.write((folder / "record").read_bytes())
  _read_p3(folder)


LINES = [
  p3_folder.line("ag_news", "", "BASE", "", 120_000),
  p3_folder.line("super_glue", "cb", "", "BASE", None),
]


def _t0(folder):
  _text(folder / "t0_datasets.json", LINES)


def _t0_csv(folder):
  content = io.StringIO()
  writer = csv.DictWriter(content, list(LINES[0]))
  writer.writeheader()
  writer.writerows(LINES)
  _text(folder / "datasets.csv", content.getvalue())


def _text_lines(folder):
  _text(folder / "c4.jsonl", '{"text": "a b"}\n{"text": "c", "url": 3}\n')


RECORDS = "train.tfrecord-00000-of-00001"
CASES = [
  damage.Case(
    "Super-NaturalInstructions' task",
    _superni,
    "sni/tasks/a.json",
    _read_superni,
    is_json=True,
  ),
  damage.Case(
    "Super-NaturalInstructions' list",
    _superni,
    "sni/splits/default/train_tasks.txt",
    _read_superni,
  ),
  *(
    damage.Case(
      f"MetaICL's {name}",
      lambda folder: metaicl_folder.write(folder, seeds=(100,)),
      f"metaicl/{file}",
      _read_metaicl,
      is_json=True,
    )
    for name, file in (
      ("setting", "config/own.json"),
      ("task", "config/tasks/held_b.json"),
      ("lines", "data/seen-a/seen-a_16384_100_train.jsonl"),
      ("targets", "data/held_b/held_b_16_100_test.jsonl"),
    )
  ),
  damage.Case("P3's records", _p3, f"own/{RECORDS}", _read_p3),
  damage.Case("P3's record", _inside, "record", _read_inside, named=RECORDS),
  damage.Case(
    "T0's list", _t0, "t0_datasets.json", t0.read_datasets, is_json=True
  ),
  damage.Case("T0's table", _t0_csv, "datasets.csv", t0.read_datasets),
  damage.Case(
    "lines of text",
    _text_lines,
    "c4.jsonl",
    lambda folder: list(c4.rows([folder / "c4.jsonl"])),
    is_json=True,
  ),
]
SLOW = [
  damage.Case("P3's scored records", _p3, f"scored/{RECORDS}", _read_p3),
  damage.Case("P3's info", _p3, "own/info.train.json", _read_p3, is_json=True),
  damage.Case(
    "P3's stats", _p3, "own/stats.train.json", _read_p3, is_json=True
  ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_damaged_file_is_refused_by_name_or_read(tmp_path, case):
  damage.search(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW, ids=str)
def test_others_are_too(tmp_path, case):
  damage.search(case, tmp_path)
