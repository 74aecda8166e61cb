"""What a run's record says of its data."""

import dataclasses

import pytest

from hyperjax.artifacts import recording, resuming
from hyperjax.artifacts.run_record import TaskShare
from hyperjax.data import sources
from hyperjax.data.store import mixtures, store
from tests import runs_example


def _record(tokens, text, min_length=2):
  """Of a run with windows of `text` beside its episodes."""
  run = runs_example.multitask(tokens, tokens / "run", None)
  windows = sources.PrefixLmWindows(
    mixtures.StoredTasks("text", str(text)),
    {"inputs": 6, "targets": 6},
    min_length=min_length,
  )
  data = dataclasses.replace(run.data, unrelated=windows)
  run = dataclasses.replace(run, data=data)
  return recording.opened(recording.described(run, 1), data.open(0))


def _write_text(cache_dir, num_rows):
  own = cache_dir / "news" / "train"
  info = {"task": "news", "split": "train", "vocabulary": None}
  rows = [{"targets": [3, 4, 5, 6, 7, 1]}] * num_rows
  store.write(own, rows, ("targets",), info, 32, False)
  folders = [("news", 1.0, own)]
  mixtures.write_mixture(cache_dir, "text", "train", False, folders)


def test_text_beside_episodes_stays_what_it_was(tmp_path):
  tokens, text, other = (tmp_path / x for x in ("tokens", "text", "other"))
  runs_example.write_tasks(tokens)
  _write_text(text, 40)
  _write_text(other, 17)
  record = _record(tokens, text)
  assert record.data.unrelated == (TaskShare("news", 1.0, 40),)
  assert resuming.changes(record, _record(tokens, text), "run") == []
  for now, row in (
    (_record(tokens, other), "data.unrelated +news 1.0 40 +news 1.0 17 +its"),
    (
      _record(tokens, text, 3),
      r"data.settings.unrelated.min_length +2 +3 +its contexts",
    ),
  ):
    with pytest.raises(ValueError, match=row):
      resuming.changes(record, now, "run")
