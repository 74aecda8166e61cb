"""Which stores a mixture is made of: what was noted is found again."""

import json

import numpy as np
import pytest

from hyperjax.data import vocabularies
from hyperjax.data.store import mixtures, store
from hyperjax.tasks import records

PIECES = records.vocabulary()


def _stored(cache_dir, name, has_records=False):
  folder = cache_dir / name / f"train-{has_records}"
  rows = [{"inputs": [5], "targets": [6, 1], "record": {"of": name}}]
  info = {
    "task": name,
    "split": "train",
    "vocabulary": PIECES.description,
    "instruction": [7, 8],
  }
  names = ("inputs", "targets")
  store.write(folder, rows, names, info, PIECES.size, has_records)
  return folder


def _noted(cache_dir, *given, has_records=False, made_with=None):
  """A mixture "m" of tasks and their rates."""
  folders = [
    (name, rate, _stored(cache_dir, name, has_records)) for name, rate in given
  ]
  mixtures.write_mixture(
    cache_dir, "m", "train", has_records, folders, made_with
  )


@pytest.fixture
def cache_dir(tmp_path):
  vocabularies.keep_copy(PIECES, tmp_path / store.VOCABULARIES)
  return tmp_path


def test_a_mixture_has_its_tasks_with_their_rates(cache_dir):
  _noted(cache_dir, ("b", 0.25), ("a", 3))
  first, second = mixtures.open_mixture(cache_dir, "m", "train")
  assert (first.name, first.split, first.rate) == ("b", "train", 0.25)
  assert (second.name, second.rate) == ("a", 3)
  np.testing.assert_array_equal(first.rows.row(0, "targets"), [6, 1])
  np.testing.assert_array_equal(first.instruction, [7, 8])
  assert first.vocabulary.identity == PIECES.identity
  assert first.rows.record(0) == {}


def test_records_are_had_where_they_are_asked_for(cache_dir):
  stored = mixtures.StoredTasks("m", str(cache_dir), "train", keep_records=True)
  _noted(cache_dir, ("a", 1))
  with pytest.raises(
    ValueError, match=r"split 'train', with records, in .*; it"
  ):
    stored.open()
  _noted(cache_dir, ("a", 1), has_records=True)
  [task] = stored.open()
  assert task.rows.record(0) == {"of": "a"}
  # Those without them are read where either would do.
  [task] = mixtures.open_mixture(cache_dir, "m", "train")
  assert task.rows.record(0) == {}


def test_what_is_not_stored_is_refused_with_what_is(cache_dir):
  with pytest.raises(
    ValueError, match=r"'m', split 'train' in .* holds none\."
  ):
    mixtures.open_mixture(cache_dir, "m", "train")
  _noted(cache_dir, ("a", 1))
  for name, split in (("n", "train"), ("m", "test")):
    with pytest.raises(ValueError, match=r"it holds m \(train\)\. Make them"):
      mixtures.open_mixture(cache_dir, name, split)


def test_mixtures_of_other_settings_are_kept_apart(cache_dir):
  _noted(cache_dir, ("a", 1), made_with={"n": 1})
  assert len(mixtures.open_mixture(cache_dir, "m", "train")) == 1
  _noted(cache_dir, ("a", 1), ("b", 1), made_with={"n": 2})
  for n in (1, 2):
    found = mixtures.open_mixture(cache_dir, "m", "train", made_with={"n": n})
    assert len(found) == n
  with pytest.raises(
    ValueError,
    match=r'made with \{"n": 1\} and \{"n": 2\}; \{"n": 3\} is asked for',
  ):
    mixtures.open_mixture(cache_dir, "m", "train", made_with={"n": 3})
  with pytest.raises(
    ValueError, match=r'made with \{"n": 1\} and \{"n": 2\}: keep each in'
  ):
    mixtures.open_mixture(cache_dir, "m", "train")
  # Made again, it is noted in the same place.
  _noted(cache_dir, ("b", 1), made_with={"n": 1})
  [task] = mixtures.open_mixture(cache_dir, "m", "train", made_with={"n": 1})
  assert task.name == "b"


LACKING = object()


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("mixture", LACKING, "has no 'mixture'"),
    ("mixture", 3, "'mixture' must be"),
    ("split", LACKING, "has no 'split'"),
    ("split", None, "'split' must be"),
    ("records", LACKING, "has no 'records'"),
    ("records", 1, "'records' must be true or false, got 1"),
    ("made_with", LACKING, "has no 'made_with'"),
    ("tasks", LACKING, "has no 'tasks'"),
    ("tasks", {"a": 1}, "'tasks' must be"),
  ],
)
def test_a_damaged_note_is_named_with_its_field(
  cache_dir, field, value, message
):
  _noted(cache_dir, ("a", 1))
  [path] = (cache_dir / mixtures.MIXTURES).glob("*.json")
  content = json.loads(path.read_text())
  content[field] = value
  if value is LACKING:
    del content[field]
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match=message) as said:
    mixtures.open_mixture(cache_dir, "m", "train")
  assert str(said.value).startswith(str(path))


@pytest.mark.parametrize(
  "field, value, message",
  [
    ("task", LACKING, "has no 'task'"),
    ("task", 3, "'task' must be"),
    ("folder", LACKING, "has no 'folder'"),
    ("folder", "no", "no holds no stored tokens"),
    ("rate", LACKING, "has no 'rate'"),
    ("rate", -0.5, "'rate' must be a number of 0 or more, got -0.5"),
    ("rate", True, "'rate' must be a number of 0 or more, got True"),
    ("rate", "1", "'rate' must be"),
    ("rate", 1.1e300, r"'rate' must be .*, got 1\.1e\+300"),
  ],
)
def test_a_damaged_task_of_a_note_is_named(cache_dir, field, value, message):
  _noted(cache_dir, ("b", 1e300), ("a", 0))
  assert len(mixtures.open_mixture(cache_dir, "m", "train")) == 2
  [path] = (cache_dir / mixtures.MIXTURES).glob("*.json")
  content = json.loads(path.read_text())
  content["tasks"][1][field] = value
  if value is LACKING:
    del content["tasks"][1][field]
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match=message) as said:
    mixtures.open_mixture(cache_dir, "m", "train")
  assert str(said.value).startswith(f"{path}, task 1")


@pytest.mark.parametrize(
  "given, message",
  [
    ({"split": 3}, r"StoredTasks\.split must be a text, got 3"),
    (
      {"keep_records": "no"},
      r"StoredTasks\.keep_records must be True or False",
    ),
  ],
  ids=str,
)
def test_what_names_no_stored_tasks_is_refused_where_it_is_said(given, message):
  with pytest.raises(ValueError, match=message):
    mixtures.StoredTasks("m", "cache", **given)
