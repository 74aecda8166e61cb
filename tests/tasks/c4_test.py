import dataclasses
import functools
import gzip
import json
import logging

import numpy as np
import pytest

from hyperjax.batch import Lengths
from hyperjax.data import feed, text
from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.tasks import c4, records

DOCUMENTS = ["alice paris", "bruno rome red", "carla oslo"]


def _write(path, lines, opener=open):
  with opener(path, "wt") as file:
    file.writelines(line + "\n" for line in lines)


def _corpus(tmp_path, num_shards=4, documents=30):
  """C4's own layout: shard s has documents whose first word is its own."""
  folder = tmp_path / "en"
  folder.mkdir()
  words = ["alice", "bruno", "carla", "david", "paris", "rome"]
  for s in range(num_shards):
    own = [f"{words[s]} " + "red " * (1 + i % 7) for i in range(documents)]
    name = f"c4-train.{s:05d}-of-{num_shards:05d}.json.gz"
    _write(folder / name, _lines(own), gzip.open)
  name = "c4-validation.00000-of-00001.json.gz"
  _write(folder / name, _lines(DOCUMENTS), gzip.open)
  return sorted(folder.glob("c4-train*"))


def _tasks(tmp_path, name, split="train", cache="cache", **options):
  provider = c4.JsonLinesText(
    str(tmp_path),
    folder="en",
    name=name,
    vocabulary=str(records.VOCABULARY),
    extra_ids=0,
  )
  return SeqioTasks(name, split, (provider,), str(tmp_path / cache), **options)


def _made(tmp_path, cache="cache"):
  """When each shard's tokens were stored, by the shard's number."""
  found = {}
  for path in (tmp_path / cache).glob("*/train-parts/*/info.json"):
    number = int(path.parent.name.split(".")[1].split("-")[0])
    found.setdefault(number, []).append(path.stat().st_mtime_ns)
  return found


def _lines(texts):
  return [json.dumps({"text": text}) for text in texts]


def test_gzipped_and_plain_lines_read_alike(tmp_path):
  plain, zipped = tmp_path / "a.json", tmp_path / "b.json.gz"
  _write(plain, _lines(DOCUMENTS))
  _write(zipped, _lines(DOCUMENTS), gzip.open)
  for path in (plain, zipped):
    assert [row["targets"] for row in c4.rows([path])] == DOCUMENTS


def test_documents_without_text_are_left_out_and_counted(tmp_path, caplog):
  path = tmp_path / "a.json"
  _write(path, [*_lines(["alice", " ", ""]), "", *_lines(["bruno"])])
  with caplog.at_level(logging.WARNING):
    assert len(list(c4.rows([path]))) == 2
  assert "2 documents have no text" in caplog.text


@pytest.mark.parametrize(
  "line, message",
  [
    ("{not json", r"a\.json, line 3: not JSON"),
    ('["text"]', r"a\.json, line 3: a JSON object is needed"),
    ('{"url": "x"}', r"a\.json, line 3 has no 'text', only url"),
    ('{"text": 5}', r"a\.json, line 3: 'text' must be a string, got 5"),
  ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, message):
  path = tmp_path / "a.json"
  _write(path, [*_lines(DOCUMENTS[:2]), line])
  with pytest.raises(ValueError, match=message):
    list(c4.rows([path]))


def test_an_archive_cut_short_is_refused(tmp_path):
  path = tmp_path / "a.json.gz"
  _write(path, _lines(DOCUMENTS * 200), gzip.open)
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(ValueError, match=r"a\.json\.gz cannot be read"):
    list(c4.rows([path]))


@pytest.mark.seqio
def test_a_folder_of_files_is_a_task(tmp_path):
  folder = tmp_path / "text"
  folder.mkdir()
  for shard in (0, 1):
    path = folder / f"train.0000{shard}-of-00002.json.gz"
    _write(path, _lines([f"{DOCUMENTS[shard]}"]), gzip.open)
  _write(folder / "validation.00000-of-00001.json", _lines(DOCUMENTS[2:]))
  provider = c4.JsonLinesText(
    str(tmp_path),
    name="c4_test_folder",
    vocabulary=str(records.VOCABULARY),
    extra_ids=0,
  )

  def texts(split):
    tasks = SeqioTasks(
      "c4_test_folder", split, (provider,), str(tmp_path / "cache")
    )
    (task,) = tasks.open()
    rows = range(len(task.rows))
    return [task.vocabulary.decode(task.rows.row(i, "targets")) for i in rows]

  assert texts("train") == ["alice paris", "bruno rome red"]
  assert texts("validation") == ["carla oslo"]


@pytest.mark.seqio
def test_missing_folders_and_files_are_refused(tmp_path):
  provider = c4.JsonLinesText(str(tmp_path), name="c4_test_missing")
  with pytest.raises(ValueError, match=r"DATA_DIR: there is no folder .*text"):
    provider.register()
  (tmp_path / "text").mkdir()
  with pytest.raises(ValueError, match=r"DATA_DIR: there is no vocabulary"):
    provider.register()
  provider = dataclasses.replace(provider, vocabulary=str(records.VOCABULARY))
  tasks = SeqioTasks("c4_test_missing", "train", (provider,), str(tmp_path))
  with pytest.raises(ValueError, match=r"no file in .*text matches"):
    tasks.open()


@pytest.mark.seqio
@pytest.mark.parametrize("num_processes", [1, 2])
def test_shards_in_parts_are_the_documents_in_order(tmp_path, num_processes):
  paths = _corpus(tmp_path)
  name = f"c4_test_parts_{num_processes}"
  tasks = _tasks(tmp_path, name, num_processes=num_processes)
  (task,) = tasks.open()
  texts = [row["targets"].strip() for row in c4.rows(paths)]
  assert len(task.rows) == len(texts) == 120
  decode = task.vocabulary.decode
  assert [decode(task.rows.row(i, "targets")) for i in range(120)] == texts
  assert _made(tmp_path).keys() == {0, 1, 2, 3}
  cached = dataclasses.replace(tasks, use_cached=True).open()
  np.testing.assert_array_equal(cached[0].rows.tokens[:], task.rows.tokens[:])
  (held_out,) = _tasks(tmp_path, name, "validation").open()
  assert [decode(held_out.rows.row(i, "targets")) for i in range(3)] == (
    DOCUMENTS
  )


@pytest.mark.seqio
def test_a_changed_shard_alone_is_made_again(tmp_path):
  paths = _corpus(tmp_path)
  tasks = _tasks(tmp_path, "c4_test_changed")
  tasks.open()
  before = _made(tmp_path)
  _write(paths[2], _lines(["paris", "rome"]), gzip.open)
  (task,) = tasks.open()
  after = _made(tmp_path)
  assert {shard for shard in after if len(after[shard]) > 1} == {2}
  assert all(set(before[shard]) <= set(after[shard]) for shard in before)
  decode = task.vocabulary.decode
  assert len(task.rows) == 92
  assert decode(task.rows.row(60, "targets")) == "paris"


@pytest.mark.seqio
@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_shard_cut_short_is_named_and_the_good_ones_stay(
  tmp_path, num_processes
):
  paths = _corpus(tmp_path)
  content = paths[1].read_bytes()
  paths[1].write_bytes(content[:-20])
  tasks = _tasks(
    tmp_path, f"c4_test_cut_{num_processes}", num_processes=num_processes
  )
  with pytest.raises(
    ValueError, match=r"c4-train\.00001-of-00004\.json\.gz can"
  ):
    tasks.open()
  before = _made(tmp_path)
  assert before.keys() == {0, 2, 3}
  paths[1].write_bytes(content)
  (task,) = tasks.open()
  assert len(task.rows) == 120
  after = _made(tmp_path)
  assert after.pop(1) and after == before


@pytest.mark.seqio
def test_windows_and_batches_are_those_of_a_store_in_one_piece(
  tmp_path, monkeypatch
):
  from hyperjax.data.store import seqio_parts

  _corpus(tmp_path)
  (parts,) = _tasks(tmp_path, "c4_test_windows").open()
  of = seqio_parts.of

  def in_one_piece(task, split):
    read = functools.partial(_chain, of(task, split))
    return [seqio_parts.Part("", None, read, is_portable=False)]

  monkeypatch.setattr(seqio_parts, "of", in_one_piece)
  (one,) = _tasks(tmp_path, "c4_test_windows", cache="one").open()
  assert type(one.rows) is not type(parts.rows)
  cut = text.CaclmLengths(before=2, prompt=1, continuation=1, after=1)
  lengths = Lengths(1, 1, demonstrations=5)
  sources = [text.Caclm([task], cut, lengths, seed=3) for task in (one, parts)]
  for index in range(400):  # several epochs
    windows = [source.window(index)[1].tolist() for source in sources]
    assert windows[0] == windows[1]
  whole, own = _batches(sources[0], None), _batches(sources[1], (1, 2))
  for (batch, position), (part, same) in zip(whole, own, strict=True):
    assert position == same
    np.testing.assert_array_equal(
      batch.demonstrations[1:3], part.demonstrations
    )


def _chain(parts):
  for part in parts:
    yield from part.read()


def _batches(source, own):
  """From a saved position on; of one host of two, or of all."""
  with feed.Feed(source, 4, position=60, own=own) as batches:
    return [next(batches) for _ in range(8)]


def _prepare_tfds(folder, shards, fields=("text",)):
  """A data set as TFDS writes it, from a list of documents for each shard."""
  import tensorflow as tf
  import tensorflow_datasets as tfds

  folder.mkdir(parents=True, exist_ok=True)
  features = tfds.features.FeaturesDict(
    {name: tfds.features.Text() for name in fields}
  )
  infos = []
  for split, own in (("train", shards), ("validation", [DOCUMENTS])):
    for number, documents in enumerate(own):
      name = f"c4-{split}.tfrecord-{number:05d}-of-{len(own):05d}"
      with tf.io.TFRecordWriter(str(folder / name)) as file:
        for document in documents:
          example = dict.fromkeys(fields, document)
          encoded = features.encode_example(example)
          file.write(features.serialize_example(encoded))
    infos.append(
      tfds.core.SplitInfo(
        name=split,
        shard_lengths=list(map(len, own)),
        num_bytes=0,
        filename_template=tfds.core.ShardedFileTemplate(
          dataset_name="c4",
          split=split,
          filetype_suffix="tfrecord",
          data_dir=folder,
        ),
      )
    )
  tfds.folder_dataset.write_metadata(
    data_dir=folder, features=features, split_infos=infos
  )


SHARDS = [["alice paris", "red"], ["bruno rome red"], ["carla oslo", "blue"]]


def _tfds_tasks(tmp_path, name, **options):
  provider = c4.C4Tfds(
    str(tmp_path),
    name=name,
    vocabulary=str(records.VOCABULARY),
    extra_ids=0,
  )
  cache_dir = str(tmp_path / "cache")
  return SeqioTasks(name, "train", (provider,), cache_dir, **options)


@pytest.mark.seqio
@pytest.mark.parametrize(
  "num_processes", [1, pytest.param(2, marks=pytest.mark.slow)]
)
def test_a_data_set_of_tfds_is_read_shard_by_shard(tmp_path, num_processes):
  _prepare_tfds(tmp_path / "c4/en/3.1.0", SHARDS, ("text", "url"))
  tasks = _tfds_tasks(
    tmp_path, f"c4_tfds_{num_processes}", num_processes=num_processes
  )
  (task,) = tasks.open()
  decode = task.vocabulary.decode
  texts = [decode(task.rows.row(i, "targets")) for i in range(len(task.rows))]
  assert texts == [text for shard in SHARDS for text in shard]
  assert all(task.rows.row(i, "targets")[-1] == 1 for i in range(5))
  parts = (tmp_path / "cache").glob("*/train-parts/*/info.json")
  assert {path.parent.name[:33] for path in parts} == {
    f"c4-train.tfrecord-{number:05d}-of-00003-"[:33] for number in range(3)
  }


@pytest.mark.seqio
def test_a_damaged_or_foreign_data_set_of_tfds_is_refused(tmp_path):
  folder = tmp_path / "c4/en/3.1.0"
  with pytest.raises(ValueError, match=r"DATA_DIR: there is no folder"):
    _tfds_tasks(tmp_path, "c4_tfds_none").open()
  folder.mkdir(parents=True)
  with pytest.raises(ValueError, match=r"has no dataset_info\.json"):
    _tfds_tasks(tmp_path, "c4_tfds_none").open()
  _prepare_tfds(folder, SHARDS)
  path = folder / "c4-train.tfrecord-00001-of-00003"
  path.write_bytes(path.read_bytes()[:-3])
  with pytest.raises(ValueError, match=r"00001-of-00003 is .*cut short"):
    _tfds_tasks(tmp_path, "c4_tfds_cut").open()
  assert len(list((tmp_path / "cache").glob("*/*-parts/*/info.json"))) == 2


@pytest.mark.seqio
def test_a_data_set_of_tfds_without_text_is_refused(tmp_path):
  _prepare_tfds(tmp_path / "c4/en/3.1.0", SHARDS, ("words", "url"))
  with pytest.raises(
    ValueError, match=r"no 'text', only .*words.*C4Tfds\.text"
  ):
    _tfds_tasks(tmp_path, "c4_tfds_words").open()


@pytest.mark.seqio
@pytest.mark.parametrize("is_required", [True, False])
def test_a_task_that_seqio_has_cached_is_a_source_of_documents(
  tmp_path, monkeypatch, is_required
):
  """Its own source is never read: it lies elsewhere."""
  import seqio
  import tensorflow as tf

  name = f"c4_cached_{is_required}".lower()
  folder = tmp_path / "seqio" / name
  folder.mkdir(parents=True)
  for number, documents in enumerate(SHARDS):
    path = folder / f"train.tfrecord-{number:05d}-of-00003"
    with tf.io.TFRecordWriter(str(path)) as file:
      for document in documents:
        text = tf.train.Feature(
          bytes_list=tf.train.BytesList(value=[document.encode()])
        )
        features = tf.train.Features(feature={"targets": text})
        file.write(tf.train.Example(features=features).SerializeToString())
  info = {
    "features": {"targets": {"shape": [], "dtype": "string"}},
    "num_shards": 3,
    "seqio_version": "0.0.20",
  }
  (folder / "info.train.json").write_text(json.dumps(info))
  (folder / "stats.train.json").write_text(json.dumps({"examples": 5}))
  (folder / "COMPLETED").write_text("")
  monkeypatch.setattr(seqio.utils, "_GLOBAL_CACHE_DIRECTORIES", [])
  seqio.add_global_cache_dirs([str(tmp_path / "seqio")])
  feature = seqio.Feature(
    seqio.SentencePieceVocabulary(str(records.VOCABULARY), 0)
  )
  seqio.TaskRegistry.add(
    name,
    source=seqio.TextLineDataSource({"train": str(tmp_path / "elsewhere")}),
    preprocessors=[
      seqio.CacheDatasetPlaceholder(required=is_required),
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos,
    ],
    output_features={"targets": feature},
  )
  tasks = SeqioTasks(name, cache_dir=str(tmp_path / "cache"))
  (task,) = tasks.open()
  decode = task.vocabulary.decode
  texts = [decode(task.rows.row(i, "targets")) for i in range(len(task.rows))]
  assert texts == [text for shard in SHARDS for text in shard]
  assert len(list((tmp_path / "cache" / name / "train-parts").iterdir())) == 3


@pytest.mark.seqio
def test_gin_chooses_the_source_and_the_lengths_of_windows(tmp_path):
  from hyperjax import main as program

  settings = {
    "DATA_DIR": str(tmp_path),
    "MODEL_DIR": "unused",
    "INITIAL_CHECKPOINT_PATH": None,
    "hyperjax.data.text.CaclmLengths.before": 3,
    "hyperjax.data.text.CaclmLengths.prompt": 4,
    "hyperjax.data.text.CaclmLengths.continuation": 5,
    "hyperjax.data.text.CaclmLengths.after": 6,
    "hyperjax.data.store.seqio_store.SeqioTasks.num_processes": 3,
  }
  run, _ = program.build(
    "train",
    (
      "adapters/lora.gin",
      "runs/hyperpretrain_c4.gin",
      "models/t5_1_1_small.gin",
      "tasks/c4_tfds.gin",
    ),
    (),
    overrides=[f"--gin.{name}={value!r}" for name, value in settings.items()],
  )
  assert run.data.cut == text.CaclmLengths(3, 4, 5, 6)
  assert run.data.cut.total == 18
  assert run.data.tasks.providers == (c4.C4Tfds(str(tmp_path)),)
  assert run.data.tasks.num_processes == 3


def test_a_count_of_processes_is_a_positive_whole_number():
  with pytest.raises(
    ValueError, match=r"num_processes.*from 1 to 1,048,576, or None, got 0"
  ):
    SeqioTasks("any", num_processes=0)
