"""A run's record in its folder: `run.json`, or what an earlier version left."""

import pathlib

from hyperjax.artifacts import older_runs, typed_json
from hyperjax.artifacts.run_record import RunRecord
from hyperjax.data import files

FILE, FORMAT = "run.json", 1
MODEL_INFO = "model-info.txt"
CHECKPOINTS = older_runs.CHECKPOINTS


def write(folder: pathlib.Path, record: RunRecord) -> None:
  """Writes a run's record, whole."""
  content = {"format": FORMAT, **typed_json.dump(record)}
  files.write_json(folder / FILE, content)


def read(folder: pathlib.Path, step: int | None = None) -> RunRecord | None:
  """The record of the run in a folder; None where it is no run.

  Args:
    folder: of a run, or of anything.
    step: of the checkpoint that is asked about, by default the last; each of an
      earlier version's has a record of its own.

  Raises:
    ValueError: it is damaged, or of another format: the message names file,
      field, rule and what came.
  """
  path = folder / FILE
  if not path.is_file():
    return older_runs.read(folder, step)
  content = files.read_json(path)
  found = content.pop("format", None)
  if found != FORMAT:
    raise ValueError(
      f"{path} has format {found!r}, this version of HyperJAX reads {FORMAT}"
    )
  return typed_json.read(RunRecord, content, str(path))


def sources(folder: pathlib.Path) -> list[pathlib.Path]:
  """The files that `read` reads, of its last checkpoint."""
  path = folder / FILE
  return [path] if path.is_file() else older_runs.sources(folder)
