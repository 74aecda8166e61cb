"""Mixtures of seqio tasks mean what seqio has them mean."""

import logging
import pathlib

import pytest

from hyperjax.commands.tasks import ListTasks
from hyperjax.data import vocabularies, vocabulary
from hyperjax.data.store import mixtures, store
from hyperjax.data.store.seqio_store import SeqioTasks
from hyperjax.tasks import records
from tests.data import seqio_cached_task

pytestmark = pytest.mark.seqio

seqio = pytest.importorskip("seqio")
import tensorflow as tf  # noqa: E402

from hyperjax.data.store import seqio_tasks  # noqa: E402

FEATURE = seqio_tasks.text_feature(str(records.VOCABULARY), extra_ids=0)
ROW = {"inputs": "alice paris", "targets": "red"}


def _dataset(count, repeated=False):
  def dataset(split, shuffle_files=False):
    del split, shuffle_files
    rows = tf.data.Dataset.from_tensors(ROW).repeat(count)
    return rows.repeat() if repeated else rows

  return dataset


def _add(
  name, count=2, splits=("train",), feature=FEATURE, source=None, steps=()
):
  """A task whose source does not say how many rows it has."""
  source = source or seqio.FunctionDataSource(_dataset(count), splits=splits)
  return seqio.TaskRegistry.add(
    name,
    source=source,
    preprocessors=[*steps, *seqio_tasks.PREPROCESSORS],
    output_features={"inputs": feature, "targets": feature},
  )


def _rates(name, folder, **options):
  opened = SeqioTasks(name, cache_dir=str(folder), **options).open()
  return {task.name: task.rate for task in opened}


def test_tasks_of_different_vocabularies_are_refused(tmp_path):
  """As seqio itself refuses them, though one of them has a rate of 0."""
  _add("voc_words")
  _add("voc_bytes", feature=seqio.Feature(seqio.ByteVocabulary()))
  seqio.MixtureRegistry.add("voc", [("voc_words", 1.0), ("voc_bytes", 0.0)])
  with pytest.raises(ValueError, match="must use the same vocabulary"):
    seqio.MixtureRegistry.get("voc").get_dataset(None, "train")
  with pytest.raises(
    ValueError,
    match="'voc': its tasks must have one vocabulary for 'inputs'; 'voc_bytes'",
  ):
    _rates("voc", tmp_path)


def test_stored_tokens_of_different_vocabularies_are_no_mixture(tmp_path):

  folders = []
  for number, extra in enumerate((0, 3)):
    own = vocabulary.SentencePiece(str(records.VOCABULARY), extra)
    vocabularies.keep_copy(own, tmp_path / store.VOCABULARIES)
    folder = tmp_path / f"task{number}"
    row = {"inputs": [5], "targets": [6]}
    info = {"task": folder.name, "split": "train"}
    info |= {"vocabulary": own.description}
    store.write(folder, [row], tuple(row), info, own.size, False)
    folders.append((folder.name, 1.0, folder))
  mixtures.write_mixture(tmp_path, "both", "train", False, folders)
  with pytest.raises(ValueError, match="must have one vocabulary; 'task0' has"):
    mixtures.open_mixture(tmp_path, "both", "train")


def test_a_rate_may_be_the_number_of_rows(tmp_path):
  """Of two sources that do not say it; seqio's own function, with a maximum."""

  def at_most_four(task):
    return seqio.mixing_rate_num_examples(task, maximum=4)

  _add("num_two", 2)
  _add("num_five", 5)
  names = ["num_two", "num_five"]
  seqio.MixtureRegistry.add(
    "num", names, default_rate=seqio.mixing_rate_num_examples
  )
  assert _rates("num", tmp_path) == {"num_two": 2.0, "num_five": 5.0}
  seqio.MixtureRegistry.add("num_most", names, default_rate=at_most_four)
  assert _rates("num_most", tmp_path) == {"num_two": 2.0, "num_five": 4.0}
  seqio.MixtureRegistry.add("num_outer", [("num", 14.0), ("num_two", 1.0)])
  assert _rates("num_outer", tmp_path) == {"num_two": 5.0, "num_five": 10.0}


def test_a_rate_may_be_that_of_rows_that_are_cached(tmp_path):
  """seqio's cache says five; its source says nothing."""
  cached = seqio_cached_task
  folder = tmp_path / "lines"
  task = cached.add(cached.NAME, records.VOCABULARY, folder)
  try:
    seqio.MixtureRegistry.add(
      "num_cached", [(task.name, seqio.mixing_rate_num_examples)]
    )
    dirs = (str(pathlib.Path(cached.__file__).parent / "seqio_cached"),)
    assert _rates("num_cached", tmp_path, cache_dirs=dirs) == {task.name: 5.0}
  finally:
    seqio.TaskRegistry.remove(cached.NAME)


@pytest.mark.parametrize(
  "name, rate, message",
  [
    ("raises", lambda task: {}["x"], "cannot be told: KeyError: 'x'"),
    ("nan", lambda task: float("nan"), "must be a number from 0 on, got nan"),
    ("negative", -1.0, "must be a number from 0 on, got -1"),
    (
      "elsewhere",
      lambda task: task.num_input_examples("test"),
      "asks for the rows of split 'test', of which the task has none, only tr",
    ),
  ],
)
def test_a_rate_that_is_none_names_mixture_and_task(
  tmp_path, name, rate, message
):
  _add(f"bad_{name}")
  seqio.MixtureRegistry.add(f"badly_{name}", [(f"bad_{name}", rate)])
  with pytest.raises(ValueError, match=message) as caught:
    _rates(f"badly_{name}", tmp_path)
  for own in (f"mixture 'badly_{name}'", f"task 'bad_{name}'"):
    assert own in str(caught.value)


def test_a_task_without_the_split_is_left_out_with_a_note(tmp_path, caplog):
  _add("split_both", splits=("train", "test"))
  _add("split_train")
  seqio.MixtureRegistry.add("split", ["split_both", "split_train"], 2.0)
  with caplog.at_level(logging.WARNING):
    assert _rates("split", tmp_path, split="test") == {"split_both": 2.0}
  assert "1 of 2 tasks have no split 'test' and are left out: split_train" in (
    caplog.text
  )
  with pytest.raises(
    ValueError,
    match="none of its 2 tasks has a split 'dev'; their splits are test, train",
  ):
    _rates("split", tmp_path, split="dev")


def test_a_mixture_from_which_nothing_would_be_drawn_is_named(tmp_path, capsys):
  _add("empty_task")
  seqio.MixtureRegistry.add("empty", [("empty_task", 0.0)])
  seqio.MixtureRegistry.add("empty_outer", [("empty", 1.0)])
  with pytest.raises(ValueError, match="'empty' has no task with a positive"):
    _rates("empty", tmp_path)
  with pytest.raises(
    ValueError, match="mixture 'empty_outer': mixture 'empty' in it has no task"
  ):
    _rates("empty_outer", tmp_path)
  ListTasks([SeqioTasks("empty", cache_dir=str(tmp_path))], "empty").execute()
  lines = capsys.readouterr().out.splitlines()
  assert lines[1].endswith("none is positive: nothing would be drawn")
  assert lines[2].endswith(
    "mixture 'empty' in it has no task with a positive rate"
  )


def test_rows_without_end_are_refused(tmp_path):
  """By what tf.data says of them; where it says nothing, by their number."""
  endless = seqio.FunctionDataSource(_dataset(1, True), splits=("train",))
  _add("endless", source=endless)
  with pytest.raises(
    ValueError, match="'endless', split 'train': the source h"
  ):
    _rates("endless", tmp_path)

  def again(split, shuffle_files=False):
    del split, shuffle_files
    return tf.data.Dataset.from_generator(
      lambda: iter(lambda: ROW, None),
      output_signature=dict.fromkeys(ROW, tf.TensorSpec((), tf.string)),
    )

  _add("generated", source=seqio.FunctionDataSource(again, splits=("train",)))
  with pytest.raises(
    ValueError, match="'generated', split 'train': there are more than 20 rows"
  ):
    _rates("generated", tmp_path, max_rows=20)
  _add("ends", 3)
  with pytest.raises(
    ValueError, match=r"'ends', .*: there are more than 2 rows"
  ):
    _rates("ends", tmp_path, max_rows=2)
  assert _rates("ends", tmp_path, max_rows=3) == {"ends": 1.0}
  assert not list((tmp_path / "generated").glob("train-*"))


@seqio.map_over_dataset
def _numbered(line):
  """A pair whose targets are a number, as a line's second part should be."""
  parts = tf.strings.split(line, "\t")
  number = tf.strings.to_number(parts[1], tf.int32)
  return {"inputs": parts[0], "targets": tf.strings.as_string(number)}


@pytest.mark.parametrize("num_files", [1, 2])
def test_a_broken_row_names_task_file_and_row(tmp_path, num_files):
  """Where files are read one by one, and where they are one stream."""
  for i in range(num_files):
    lines = [
      "alice\t1",
      "bruno\t2",
      "carla\tthree" if i + 1 == num_files else "x\t3",
    ]
    (tmp_path / f"lines-{i}.txt").write_text("\n".join(lines) + "\n")
  source = seqio.TextLineDataSource({"train": str(tmp_path / "lines-*.txt")})
  name = f"broken_{num_files}"
  _add(name, source=source, steps=[_numbered])
  with pytest.raises(ValueError, match=f"task '{name}': row 3 of ") as caught:
    _rates(name, tmp_path)
  said = str(caught.value)
  assert str(tmp_path / f"lines-{num_files - 1}.txt") in said
  assert "three" in said
  for graph in ("{{", "[[", "[Op", "node"):
    assert graph not in said


def test_a_row_of_pythons_that_is_no_text_names_task_and_row(tmp_path):
  rows = [ROW, {"inputs": "bruno", "targets": None}]
  source = seqio_tasks.RowsSource(
    lambda split: rows, ("train",), dict.fromkeys(ROW, 0), lambda split: 0
  )
  _add("no_text", source=source)
  with pytest.raises(
    ValueError,
    match="task 'no_text', split 'train': row 2 must have a text as 'targets'",
  ):
    _rates("no_text", tmp_path)
