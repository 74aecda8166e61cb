"""What a run folder says of itself: its record and its parameters."""

import enum
import pathlib
import re
from collections.abc import Sequence

from hyperjax.artifacts import run_file
from hyperjax.artifacts.run_record import RunRecord
from hyperjax.data import files

CONFIG, MODEL_INFO = "config.gin", run_file.MODEL_INFO


class Beginning(enum.Enum):
  """What a run began with; in words, what adapters are then to begin with."""

  HYPERMODEL = "what a hypermodel writes"
  SHARED = "a shared adapter"
  FOLDER = "an adapter folder"
  T5 = "random values"


# Folders that are no runs, by a file that they have.
_FOLDERS = {
  "adapter.json": Beginning.FOLDER,
  "config.json": Beginning.T5,
}


def parameters(folder: pathlib.Path) -> dict[str, int]:
  """How many are trained and frozen, of model-info.txt."""
  path = folder / MODEL_INFO
  if not path.is_file():
    return {}
  found = re.findall(
    r"^(trained|frozen): ([0-9,]{1,40}) parameters$",
    "\n".join(files.read_lines(path)),
    re.MULTILINE,
  )
  return {kind: int(count.replace(",", "") or 0) for kind, count in found}


class Ancestors:
  """What runs began with: a folder where it was, or one of the given runs.

  A run that was moved is still known by the folder that its record names.
  """

  def __init__(self, given: Sequence[pathlib.Path]):
    self._records: dict[pathlib.Path, RunRecord | None] = {}
    self._moved = {
      pathlib.Path(record.folder): folder
      for folder in given
      if (record := self.record(folder)) is not None and record.folder
    }
    self.used: list[pathlib.Path] = []  # files that were read for it

  def record(self, folder: pathlib.Path) -> RunRecord | None:
    """The record of the run in a folder, if there is one."""
    if folder not in self._records:
      self._records[folder] = run_file.read(folder)
    return self._records[folder]

  def of(self, folder: pathlib.Path) -> pathlib.Path | None:
    """What a run began with, if it is still there."""
    record = self.record(folder)
    if record is None or record.initial_checkpoint is None:
      return None
    path = pathlib.Path(record.initial_checkpoint)
    return path if files.is_folder(path) else self._moved.get(path)

  def beginning(self, folder: pathlib.Path) -> Beginning | None:
    """What a run began with; None where that is gone."""
    initial = self.of(folder)
    if initial is None:
      return None
    for file, kind in _FOLDERS.items():
      if (initial / file).is_file():
        return kind
    record = self.record(initial)
    if record is None:
      return None
    self._use(initial)
    if record.problem.writes_adapters:
      return Beginning.HYPERMODEL
    if record.problem.trains_adapters:
      return Beginning.SHARED
    return Beginning.T5 if record.problem.trains_t5_alone else None

  def is_hyperpretrained(self, folder: pathlib.Path) -> bool | None:
    """Whether a run, or one that it began with, read windows of text.

    None where that cannot be followed to its beginning.
    """
    seen: set[pathlib.Path] = set()
    while folder not in seen:
      seen.add(folder)
      own = self.record(folder)
      if own is None:
        return None
      if own.data is not None and own.data.is_hyperpretraining:
        self._use(folder)
        return True
      # A T5 is where a hypermodel begins.
      if self.beginning(folder) is Beginning.T5:
        return False
      initial = self.of(folder)
      if initial is None:
        return False if own.initial_checkpoint is None else None
      folder = initial
    return None

  def _use(self, folder: pathlib.Path) -> None:
    for path in run_file.sources(folder):
      if path not in self.used:
        self.used.append(path)
