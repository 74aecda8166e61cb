"""What is registered with seqio, and what of it is stored. Needs seqio."""

import collections
import dataclasses
import difflib
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hyperjax.commands import inspect
from hyperjax.commands.inspect import Paint
from hyperjax.data.store import (
  seqio_mixtures,
  seqio_rows,
  seqio_store,
  store,
)

_NEAR = 0.6  # of difflib's ratio


@dataclasses.dataclass(frozen=True)
class ListTasks:
  """Prints registered mixtures and tasks.

  Attributes:
    task_sets: whose providers register theirs first, and where tokens lie.
    filter: only names that hold this text, in any case.
    split: only what has this split.
    counts: add rows and tokens of what is stored, nothing being made.
  """

  task_sets: Sequence[seqio_store.SeqioTasks]
  filter: str = ""
  split: str | None = None
  counts: bool = False

  def execute(self, config: str = "") -> None:
    """Prints them.

    Raises:
      ValueError: nothing is left to list; the nearest names are given.
    """
    del config
    for task_set in self.task_sets:
      task_set.register()
    entries = self._choose(registered())
    folders = list(dict.fromkeys(each.folder for each in self.task_sets))
    paint = Paint.of_terminal()
    stored = Stored(folders) if self.counts else None
    mixtures = [entry for entry in entries if entry.is_mixture]
    tasks = [entry for entry in entries if not entry.is_mixture]
    lines = []
    for some in (mixtures, tasks):
      if some:
        lines += [*_table(some, self.split, stored, paint), ""]
    counts = [_count(len(mixtures), "mixture"), _count(len(tasks), "task")]
    inspect.write([*lines, ", ".join(counts)])

  def _choose(self, entries: "Sequence[Entry]") -> "list[Entry]":
    if not entries:
      raise ValueError(
        "no task is registered: the gin files import no module that registers "
        "any, and SeqioTasks.providers is empty"
      )
    named = [e for e in entries if self.filter.lower() in e.name.lower()]
    if not named:
      near = nearest(self.filter, [entry.name for entry in entries])
      hint = f"; nearest: {', '.join(near)}" if near else ""
      raise ValueError(
        f"--filter={self.filter}: none of {len(entries):,} registered names "
        f"holds it{hint}"
      )
    found = [e for e in named if self.split in (None, *e.splits)]
    if not found:
      splits = sorted({split for entry in named for split in entry.splits})
      raise ValueError(
        f"--split={self.split}: none of {len(named):,} tasks and mixtures has "
        f"it, their splits are {', '.join(splits)}"
      )
    return found


def _count(number: int, name: str) -> str:
  return f"{number:,} {name}{'' if number == 1 else 's'}"


@dataclasses.dataclass(frozen=True)
class Entry:
  """A registered task, or a mixture with its tasks."""

  name: str
  tasks: Sequence[Any]  # seqio tasks, of a task itself
  rates: str = ""
  is_mixture: bool = False

  @property
  def splits(self) -> dict[str, int]:
    """Names of splits, and how many of the tasks have each."""
    return collections.Counter(
      str(split) for task in self.tasks for split in task.splits
    )


def registered() -> list[Entry]:
  """All mixtures, then all tasks, by name."""
  seqio = seqio_rows.import_seqio()
  entries = []
  for name in sorted(seqio.MixtureRegistry.names()):
    mixture = seqio.MixtureRegistry.get(name)
    tasks = list({task.name: task for task in mixture.tasks}.values())
    entries.append(Entry(name, tasks, _rates(mixture, tasks), True))
  for name in sorted(seqio.TaskRegistry.names()):
    entries.append(Entry(name, [seqio.TaskRegistry.get(name)]))
  return entries


def _rates(mixture: Any, tasks: Sequence[Any]) -> str:
  """The rates of a mixture in a few words."""

  def unknown(task: Any, split: str) -> int:
    raise ValueError(
      f"the source does not say how many rows of {split!r} it has"
    )

  try:
    found = seqio_mixtures.rates(mixture, tasks, unknown)
  except ValueError as error:
    return str(error).partition(": ")[2]
  rates = {task.name: x for task, x in zip(tasks, found, strict=True)}
  least, most, total = (
    min(rates.values()),
    max(rates.values()),
    sum(rates.values()),
  )
  if not total > 0:
    return "none is positive: nothing would be drawn"
  if least == most:
    return "equal"
  share = most / total
  name = max(rates, key=lambda name: rates[name])
  return f"{least:g} to {most:g}, most {name} ({share:.1%})"


def nearest(words: str, names: Sequence[str], count: int = 3) -> list[str]:
  """The names a part of which is most like `words`.

  A part has as many pieces, between underscores and the like, as `words` has.
  """
  wanted = _pieces(words)

  def likeness(name: str) -> float:
    pieces = _pieces(name)
    starts = range(max(1, len(pieces) - len(wanted) + 1))
    matcher = difflib.SequenceMatcher(b="_".join(wanted))
    best = 0.0
    for start in starts:
      matcher.set_seq1("_".join(pieces[start : start + len(wanted)]))
      best = max(best, matcher.ratio())
    return best

  scored = sorted((-likeness(name), name) for name in names)
  return [name for score, name in scored[:count] if -score >= _NEAR]


def _pieces(words: str) -> list[str]:
  return re.split(r"[^a-z0-9]+", words.lower())


class Stored:
  """Rows and tokens of stored tasks, from what the stores say of themselves."""

  def __init__(self, folders: Sequence[pathlib.Path]):
    self._folders = folders
    self._found: dict[tuple[str, str], Mapping[str, Any] | None] = {}

  def info(self, task: Any, split: str) -> Mapping[str, Any] | None:
    """Of a task's tokens as they would be used now; None where none are."""
    key = (task.name, split)
    if key not in self._found:
      self._found[key] = self._read(task, split)
    return self._found[key]

  def _read(self, task: Any, split: str) -> Mapping[str, Any] | None:
    for has_records in (False, True):
      for folder in self._folders:
        path, _ = seqio_store.folder_of(task, split, folder, has_records)
        if (path / store.INFO).is_file():
          return store.read_info(path)
    return None


def _table(
  entries: Sequence[Entry],
  split: str | None,
  stored: Stored | None,
  paint: Paint,
) -> list[str]:
  """Lines of entries that are all mixtures or all tasks, under a heading."""
  is_mixture = entries[0].is_mixture
  heading = ["mixture" if is_mixture else "task", "splits"]
  if stored is not None:
    heading[1:] = ["split", "rows", "tokens", ""]
  if is_mixture:
    heading[1:1] = ["tasks"]
    heading += ["rates"]
  rows = [heading]
  for entry in entries:
    own = [f"{len(entry.tasks):,}"] if is_mixture else []
    rates = [entry.rates] if is_mixture else []
    if stored is None:
      splits = ", ".join(_splits(entry))
      rows.append([entry.name, *own, splits, *rates])
      continue
    for name, described in zip(entry.splits, _splits(entry), strict=True):
      if split in (None, name):
        counts = _counts(entry, name, stored)
        rows.append([entry.name, *own, described, *counts, *rates])
  numbers = [
    i for i, name in enumerate(heading) if name in ("tasks", "rows", "tokens")
  ]
  first, *others = _aligned(rows, numbers)
  return [paint.title(first), *others]


def _splits(entry: Entry) -> list[str]:
  """A mixture is read without those of its tasks that lack a split, which say so."""
  total = len(entry.tasks)
  return [
    split if count == total else f"{split} ({count:,} of {total:,} tasks)"
    for split, count in entry.splits.items()
  ]


def _counts(entry: Entry, split: str, stored: Stored) -> list[str]:
  """Rows, tokens, and what is to be said of them."""
  having = [task for task in entry.tasks if split in task.splits]
  try:
    infos = [stored.info(task, split) for task in having]
  except (ValueError, OSError) as error:
    return ["", "", f"cannot be told: {error}"]
  found = [info for info in infos if info is not None]
  if not found:
    return ["", "", "not stored"]
  rows = sum(info["rows"] for info in found)
  tokens = sum(info["tokens"] for info in found)
  is_whole = len(found) == len(infos)
  note = "" if is_whole else f"{len(found):,} of {len(infos):,} tasks stored"
  return [f"{rows:,}", f"{tokens:,}", note]


def _aligned(
  rows: Sequence[Sequence[str]], numbers: Iterable[int]
) -> list[str]:
  """Rows of cells as lines; the columns `numbers` are flushed right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = []
  for row in rows:
    cells = [
      cell.rjust(width) if i in numbers else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    lines.append("  ".join(cell for cell in cells if cell).rstrip())
  return lines
