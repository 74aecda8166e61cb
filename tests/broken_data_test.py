"""Broken files of the benchmarks, met through the command line.

Each gives one line that names the file and the line, record or entry in it, or is
left out, counted and reported.
"""

import json
import logging

import pytest

from hyperjax import main
from hyperjax.tasks import records

pytestmark = [
  pytest.mark.seqio,
  pytest.mark.usefixtures("no_configuration"),
]
pytest.importorskip("seqio")

from tests.tasks import p3_folder  # noqa: E402

WORDS = records.VALUES["name"][:4]
BOM = b"\xef\xbb\xbf"


def _inspect(root, task, file, data_set, *given):
  """Exit status of `hyperjax inspect TASK`, which reads all of its train rows."""
  return main.main(
    [
      "inspect",
      task,
      "--split=train",
      f"--gin_file=tasks/{file}.gin",
      f"--gin.DATA_DIR={root}",
      f"--gin.CACHE_DIR={root / 'cache'}",
      f"--gin.{data_set}.vocabulary={records.VOCABULARY}",
      f"--gin.{data_set}.extra_ids=0",
      "--lengths=demonstrations=24,inputs=6,targets=6",
      "--num_demonstrations=1,2",
      *given,
    ]
  )


def _assert_refused(status, capsys, *parts):
  said = capsys.readouterr().err.strip()
  assert status == 1 and len(said.splitlines()) == 1, said
  for part in parts:
    assert part in said


def _write(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  if not isinstance(content, (str, bytes)):
    content = json.dumps(content)
  path.write_bytes(content.encode() if isinstance(content, str) else content)


INSTANCES = [
  {"id": word, "input": word, "output": ["red"], "extra": None}
  for word in WORDS
]
TASK = {
  "Categories": ["Kind"],
  "Definition": ["Do it."],
  "Positive Examples": [{"input": "emma", "output": "blue"}],
  "Instances": INSTANCES,
}


def _sni(root, task=TASK, train="a", test="b"):
  for name, content in (("a", task), ("b", TASK)):
    _write(root / "sni" / "tasks" / f"{name}.json", content)
  for split, names in (("train", train), ("test", test)):
    _write(root / "sni" / "splits" / "default" / f"{split}_tasks.txt", names)
  return _inspect(
    root, "sni_train", "superni", "superni.SuperNaturalInstructions"
  )


def _with(instance):
  return TASK | {"Instances": [INSTANCES[0], instance]}


@pytest.mark.parametrize(
  "changed, parts",
  [
    ({"task": ""}, ["a.json: not JSON"]),
    ({"task": json.dumps(TASK)[:-9]}, ["a.json: not JSON"]),
    ({"task": BOM + json.dumps(TASK).encode()}, ["a.json begins with a byte"]),
    ({"task": b'{"Instances": "\xff"}'}, ["a.json: not UTF-8"]),
    ({"task": [TASK]}, ["a.json: a JSON object is needed"]),
    ({"task": TASK | {"Instances": {}}}, ["a.json: 'Instances' has no entry"]),
    (
      {"task": _with("alice")},
      ["a.json, Instances 1: a JSON object is needed"],
    ),
    (
      {"task": _with({"input": "x", "output": []})},
      ["a.json, Instances 1: 'output' must be a string or a list of them"],
    ),
    (
      {"task": _with({"input": None, "output": "x"})},
      ["a.json, Instances 1: 'input' must be a string, got None"],
    ),
    (
      {"task": TASK | {"Instances": INSTANCES[:1]}},
      ["'sni_a', split 'train', has 1 rows; an episode needs 2"],
    ),
    ({"train": b"a\xff"}, ["train_tasks.txt: not UTF-8"]),
    ({"train": BOM + b"a"}, ["train_tasks.txt begins with a byte order"]),
    ({"train": ""}, ["train_tasks.txt: no task of it is here"]),
    ({"train": "a\na\n"}, ["train_tasks.txt names 'a' more than once"]),
    ({"train": "a\nb\n"}, ["b (of 1) is in the train and in the test list"]),
    ({"train": "a\nc\n"}, ["train_tasks.txt names 1 tasks without a file"]),
  ],
)
def test_broken_super_natural_instructions(tmp_path, capsys, changed, parts):
  _assert_refused(_sni(tmp_path, **changed), capsys, *parts)


def test_odd_super_natural_instructions_are_read_or_counted(
  tmp_path, capsys, caplog
):
  older = {"input": "emma", "output": "blue", "id": 7}
  blank = {"input": "noah", "output": ["", "blue"]}
  instances = [*INSTANCES, older, blank]
  task = TASK | {"Instances": instances, "Definition": "Do it."}
  with caplog.at_level(logging.WARNING):
    assert _sni(tmp_path, task, train="a\r\n\r\n") == 0
  assert "a.json: 1 of 6 instances have a blank output" in caplog.text
  assert "context 0: sni_a" in capsys.readouterr().out


LINES = [
  {"task": "s", "input": word, "output": "red", "options": ["red", "blue"]}
  for word in WORDS
]
CONFIG = {"task_type": "multi-choice", "options": None}
LISTS = {"train": ["s"], "test": [], "unseen_domain_test": []}
JSONL = "s_16384_100_train.jsonl"


def _lines(*changed):
  """The good lines and then others, as a file."""
  rows = [*LINES, *(LINES[0] | fields for fields in changed)]
  return "".join(json.dumps(row) + "\n" for row in rows)


def _metaicl(root, lines=None, config=CONFIG, lists=LISTS):
  folder = root / "metaicl"
  _write(folder / "data" / "s" / JSONL, _lines() if lines is None else lines)
  _write(folder / "config" / "tasks" / "s.json", config)
  _write(folder / "config" / "own.json", lists)
  setting = "--gin.METAICL_SETTING=own"
  return _inspect(
    root, "metaicl_own_train", "metaicl", "metaicl.MetaICL", setting
  )


@pytest.mark.parametrize(
  "changed, parts",
  [
    ({"lines": ""}, [f"{JSONL} is empty"]),
    ({"lines": _lines()[:-9]}, [f"{JSONL}, line 4: not JSON"]),
    (
      {"lines": BOM + _lines().encode()},
      [f"{JSONL}, line 1 begins with a byte"],
    ),
    (
      {"lines": _lines().encode() + b'{"task": "\xff"}\n'},
      [f"{JSONL}, line 5: not UTF-8"],
    ),
    (
      {"lines": _lines() + '{"task": "s", "input": "x", "output": "y"}'},
      [f"{JSONL}, line 5 has no 'options'"],
    ),
    (
      {"lines": _lines({"options": None})},
      [f"{JSONL}, line 5: 'options' must be a list of strings, got None"],
    ),
    (
      {"lines": _lines({"output": 3})},
      [f"{JSONL}, line 5: 'output' must be a string, got 3"],
    ),
    (
      {"lines": _lines({"task": "t"})},
      [f"{JSONL}, line 5: 'task' must be 's', got 't'"],
    ),
    ({"config": ""}, ["s.json: not JSON"]),
    ({"config": {"task_type": None}}, ["s.json: 'task_type' must be a string"]),
    ({"lists": LISTS | {"train": "s"}}, ["own.json: 'train' must be a list"]),
    (
      {"lists": LISTS | {"train": ["s", "s"]}},
      ["own.json: 'train' names 's' 2"],
    ),
    ({"lists": LISTS | {"train": ["t"]}}, ["own.json, 'train': 1 of 1 tasks"]),
  ],
)
def test_broken_metaicl(tmp_path, capsys, changed, parts):
  _assert_refused(_metaicl(tmp_path, **changed), capsys, *parts)


def test_odd_metaicl_lines_are_read_or_counted(tmp_path, capsys, caplog):
  lines = _lines(
    {"output": " "},
    {"output": "green"},
    {"input": " emma", "output": " red", "options": [" red", "blue "]},
  )
  with caplog.at_level(logging.WARNING):
    assert _metaicl(tmp_path, "\n" + lines.replace("\n", "\r\n")) == 0
  for message in (
    "1 of 7 lines have a blank output and are left out; the first is line 6",
    "1 of 7 lines have an output that is not among the options and are left "
    "out; the first is line 7",
  ):
    assert f"{JSONL}: {message}" in caplog.text
  assert "context 0: metaicl_s" in capsys.readouterr().out


RECORDS = "train.tfrecord-00000-of-00001"


def _p3(root, damage):
  folder = root / "p3" / "data" / "a"
  rows = [p3_folder.pair(word, "red") for word in WORDS]
  p3_folder.write(folder, p3_folder.PAIR, rows)
  p3_folder.provider(root)
  damage(folder)
  return _inspect(root, "p3_a", "p3", "p3.P3")


def _bytes(change):
  """Damage to the file of records."""

  def damage(folder):
    path = folder / RECORDS
    path.write_bytes(change(bytearray(path.read_bytes())))

  return damage


def _flip(position):
  def change(content):
    content[position] ^= 1
    return content

  return _bytes(change)


def _text(name, content):
  return lambda folder: _write(folder / name, content)


INFO = {"features": p3_folder.PAIR, "num_shards": 1}


@pytest.mark.parametrize(
  "damage, parts",
  [
    (_bytes(lambda x: b""), [f"{RECORDS} has 0 records", "says 4"]),
    (
      _bytes(lambda x: x[:-3]),
      [f"{RECORDS} is damaged or cut short: record 3, at byte"],
    ),
    (
      _bytes(lambda x: x[:6]),
      [f"{RECORDS} is damaged or cut short: record 0, at byte 0, ends at"],
    ),
    (_bytes(lambda x: b"<html>" * 9), [f"{RECORDS} is damaged or cut short"]),
    (_flip(9), [f"{RECORDS} is damaged or cut short: corrupted", "(record 0)"]),
    (
      _flip(-1),
      [f"{RECORDS} is damaged or cut short: corrupted", "(record 3)"],
    ),
    (_text("stats.train.json", '{"examples": 5}'), ["has 4 records", "says 5"]),
    (
      _text("stats.train.json", '{"examples": "4"}'),
      ["must be a count, got '4'"],
    ),
    (_text("stats.train.json", "{"), ["stats.train.json: not JSON"]),
    (_text("info.train.json", ""), ["info.train.json: not JSON"]),
    (
      _text("info.train.json", INFO | {"features": {}}),
      ["info.train.json: its features are ; P3's are"],
    ),
    (
      _text("info.train.json", {"features": p3_folder.SCORED}),
      ["info.train.json: its features are idx int32[]"],
    ),
    (
      _text("info.train.json", {"features": p3_folder.WITH_CHOICES}),
      [f"{RECORDS}, record 0: 'answer_choices' is missing"],
    ),
    (
      _text("info.train.json", INFO | {"num_shards": 3}),
      ["info.train.json: 'num_shards' must be 1, got 3"],
    ),
    (lambda folder: (folder / "COMPLETED").unlink(), ["COMPLETED is missing"]),
    (
      _text("../../t0_datasets.json", BOM + b"[]"),
      ["begins with a byte order"],
    ),
    (_text("../../t0_datasets.json", "[3]"), ["t0_datasets.json, entry 0"]),
  ],
)
def test_broken_p3(tmp_path, capsys, damage, parts):
  _assert_refused(_p3(tmp_path, damage), capsys, *parts)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\n\x05\n\x03a"])
def test_a_broken_vocabulary_is_named(tmp_path, capsys, content):
  _write(tmp_path / "own.model", content)
  status = _inspect(
    tmp_path,
    "text",
    "text",
    "c4.JsonLinesText",
    f"--gin.c4.JsonLinesText.vocabulary={tmp_path / 'own.model'}",
    f"--gin.c4.JsonLinesText.folder={tmp_path}",
  )
  _assert_refused(status, capsys, "own.model is ", "SentencePiece model")
