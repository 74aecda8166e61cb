"""What a run folder says of itself: its config, facts and parameters."""

import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hyperjax.data import files

CONFIG, MODEL_INFO = "config.gin", "model-info.txt"
CHECKPOINTS = "checkpoints"
# Folders that are no runs, by a file that they have.
_FOLDERS = {"adapter folder": "adapter.json", "T5": "config.json"}
_INITIAL = "INITIAL_CHECKPOINT_PATH"
_TEXT_WINDOWS = "CaclmWindows"  # what hyperpretraining reads


def macros(folder: pathlib.Path) -> dict[str, str]:
  """NAME = value of a config.gin; strings without quotes."""
  found = re.findall(r"^([A-Z_0-9]+) = (.+)$", _config(folder), re.MULTILINE)
  return {name: value.strip("'\"") for name, value in found}


def problem(folder: pathlib.Path) -> str:
  """The problem that a config.gin binds; "" where it binds none."""
  own = _config(folder)
  bound = re.search(r"^PROBLEM = @(?:\w+/)*problems\.(\w+)", own, re.MULTILINE)
  found = re.search(
    r"^runs\.Train\.problem = @(?:\w+/)*problems\.(\w+)", own, re.MULTILINE
  )
  found = found or bound
  return found[1] if found else ""


def configuration(folder: pathlib.Path) -> dict[str, Any]:
  """What a config.gin says of its problem, where no checkpoint does any more."""
  own = _config(folder)
  found: dict[str, Any] = {
    name: value == "True"
    for name, value in re.findall(
      r"^\S*problems\.\w+\.(reads_demonstrations|train_backbone) = (True|False)$",
      own,
      re.MULTILINE,
    )
  }
  number = macros(folder).get("NUM_TASKS", "")
  if number.isdigit():
    found["num_tasks"] = int(number)
  return found | {"adapters": _adapters(own)}


def _adapters(own: str) -> dict[str, int]:
  """The size of the adapters that a config.gin names: a rank or a length."""
  kind = re.search(r"^ADAPTERS = @adapters\.(\w+)", own, re.MULTILINE)
  if kind is None:
    return {}
  found = re.search(
    rf"^\S*adapters\.{kind[1]}\.(rank|length) = (\d+)$", own, re.MULTILINE
  )
  return {found[1]: int(found[2])} if found else {}


def parameters(folder: pathlib.Path) -> dict[str, int]:
  """How many are trained and frozen, of model-info.txt."""
  path = folder / MODEL_INFO
  if not path.is_file():
    return {}
  found = re.findall(
    r"^(trained|frozen): ([\d,]+) parameters$", path.read_text(), re.MULTILINE
  )
  return {kind: int(count.replace(",", "")) for kind, count in found}


def _config(folder: pathlib.Path) -> str:
  """A config.gin, with the values that gin put on a line of their own put back."""
  path = folder / CONFIG
  return re.sub(r" \\\n +", " ", path.read_text()) if path.is_file() else ""


def facts(folder: pathlib.Path) -> pathlib.Path | None:
  """What the last whole checkpoint says of itself: orbax's JSON, as a file."""
  found = [
    path
    for path in (folder / CHECKPOINTS).glob("*/facts/metadata")
    if path.parent.parent.name.isdigit()
  ]
  return max(found, key=lambda x: int(x.parent.parent.name), default=None)


def origin(path: pathlib.Path) -> Mapping[str, Any]:
  """The origin in such a file."""
  return files.field(files.read_json(path), "origin", str(path))


class Ancestors:
  """What runs began with: a folder where it was, or one of the given runs.

  A run that was moved is still known by the MODEL_DIR of its config.
  """

  def __init__(self, given: Sequence[pathlib.Path]):
    self._moved = {
      pathlib.Path(named): folder
      for folder in given
      if (named := macros(folder).get("MODEL_DIR"))
    }
    self.used: list[pathlib.Path] = []  # files that were read for it

  def of(self, folder: pathlib.Path) -> pathlib.Path | None:
    """What a run began with, if it is still there."""
    initial = macros(folder).get(_INITIAL, "None")
    if initial == "None":
      return None
    path = pathlib.Path(initial)
    return path if path.is_dir() else self._moved.get(path)

  def kind(self, folder: pathlib.Path) -> str:
    """What a run began with: a run's problem, a key of `_FOLDERS`, or ""."""
    initial = self.of(folder)
    if initial is None:
      return ""
    for kind, file in _FOLDERS.items():
      if (initial / file).is_file():
        return kind
    found = facts(initial)
    if found is None:
      self._use(initial / CONFIG)
      return problem(initial)
    self._use(found)
    return origin(found)["problem"]

  def is_hyperpretrained(self, folder: pathlib.Path) -> bool | None:
    """Whether a run, or one that it began with, read windows of text.

    None where that cannot be followed to its beginning.
    """
    seen: set[pathlib.Path] = set()
    while folder not in seen:
      seen.add(folder)
      own = macros(folder)
      if _TEXT_WINDOWS in own.get("DATA", ""):
        self._use(folder / CONFIG)
        return True
      # A T5 is where a hypermodel begins.
      if self.kind(folder) in ("T5", "LanguageModel", "FullFineTuning"):
        return False
      initial = self.of(folder)
      if initial is None:
        return False if own.get(_INITIAL) == "None" else None
      folder = initial
    return None

  def _use(self, path: pathlib.Path) -> None:
    if path.is_file() and path not in self.used:
      self.used.append(path)
