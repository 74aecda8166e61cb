"""A benchmark's own figures of predictions, and the files that hold these.

`sni`, `metaicl` and `p3` beside it read each benchmark's files and know its
figures; here is what they share. Every figure is a percentage.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hyperjax.data import files

# A line of a file, for what refuses it.
Row = tuple[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Report:
  """Figures of one benchmark, as they are printed and written."""

  benchmark: str
  overall: dict[str, Any]
  # Name of a group ("tasks") -> name in it -> figures, the same for each.
  groups: dict[str, dict[str, dict[str, Any]]]
  notes: list[str]  # what was left out, or counted as wrong, and how often
  extra: dict[str, Any] = dataclasses.field(default_factory=dict)  # JSON only

  def content(self) -> dict[str, Any]:
    """All of it, as JSON values."""
    return {
      "benchmark": self.benchmark,
      "overall": self.overall,
      **self.groups,
      "notes": self.notes,
      **self.extra,
    }

  def to_json(self) -> str:
    return json.dumps(self.content(), indent=1, ensure_ascii=False) + "\n"

  def table(self) -> str:
    """Lines of text: all, then each group, then the notes."""
    parts = [_table(self.benchmark, {"all": self.overall})]
    parts += [_table(name, rows) for name, rows in self.groups.items() if rows]
    parts += [f"note: {note}" for note in self.notes]
    return "\n\n".join(parts)


def headline(content: Mapping[str, Any]) -> str:
  """What `Report.content` says of all, with the notes, as lines of text."""
  whole = Report(content["benchmark"], content["overall"], {}, content["notes"])
  return whole.table()


def benchmark_folder(data_dir: pathlib.Path, name: str) -> pathlib.Path:
  """`data_dir`/`name` where there is one, else `data_dir` itself."""
  files.require_folder(data_dir, "--data_dir")
  own = data_dir / name
  return own if own.is_dir() else data_dir


def prediction_files(
  paths: Sequence[pathlib.Path], endings: Sequence[str]
) -> list[pathlib.Path]:
  """Files as given; of a folder those with one of the endings, sorted.

  seqio's files of metrics, which lie beside its predictions, are left out.

  Raises:
    ValueError: one is not there, or a folder has none.
  """
  found: list[pathlib.Path] = []
  for path in paths:
    if not path.is_dir():
      if not path.is_file():
        raise ValueError(f"{path}: there is no such file of predictions")
      found.append(path)
      continue
    inside = [
      file
      for file in sorted(path.iterdir())
      if file.name.endswith(tuple(endings))
      and not file.name.endswith("-metrics.jsonl")
    ]
    if not inside:
      raise ValueError(f"{path} has no file *{' or *'.join(endings)}")
    found += inside
  return list(dict.fromkeys(found))


def rows(path: pathlib.Path) -> Iterator[Row]:
  """Objects of a file of JSON lines with their places; at least one.

  Raises:
    ValueError: there is none, or a line is not a JSON object.
  """
  number = 0
  for number, row in files.read_json_lines(path):
    yield f"{path}, line {number}", row
  if not number:
    raise ValueError(f"{path} is empty")


def counted(number: int, noun: str) -> str:
  """Such as "1 task" and "2 tasks"."""
  return f"{number} {noun}" + ("" if number == 1 else "s")


def _table(title: str, rows_: Mapping[str, Mapping[str, Any]]) -> str:
  columns = list(next(iter(rows_.values())))
  shown = [
    [_shown(row[column]) for column in columns] for row in rows_.values()
  ]
  widths = [
    max(len(column), *(len(cells[i]) for cells in shown))
    for i, column in enumerate(columns)
  ]
  first = max(len(title), *map(len, rows_))
  lines = [title.ljust(first) + _cells(columns, widths)]
  for name, cells in zip(rows_, shown, strict=True):
    lines.append(name.ljust(first) + _cells(cells, widths))
  return "\n".join(lines)


def _cells(cells: Sequence[str], widths: Sequence[int]) -> str:
  return "".join(
    "  " + cell.rjust(width) for cell, width in zip(cells, widths, strict=True)
  )


def _shown(value: Any) -> str:
  if value is None:
    return "-"
  return f"{value:.4f}" if isinstance(value, float) else str(value)
