"""`hyperjax score`: a benchmark's own figures for predictions made elsewhere.

`official_sni`, `official_metaicl` and `official_p3` read each benchmark's files
and know its figures; here is what they share. Every figure is a percentage.
"""

import argparse
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The benchmarks and their options."""
  names = parser.add_subparsers(
    dest="benchmark", metavar="BENCHMARK", required=True
  )
  sni = _add_benchmark(
    names,
    "sni",
    "Super-NaturalInstructions: ROUGE-L and exact match",
    "JSON lines with 'id' and 'prediction', or Tk-Instruct's with 'Instance'",
  )
  sni.add_argument(
    "--references",
    type=pathlib.Path,
    metavar="FILE",
    help="the authors' reference file: JSON lines with 'id' and 'references'",
  )
  sni.add_argument(
    "--split_list",
    default="default",
    metavar="NAME",
    help="the list of splits/ whose test tasks count, with --data_dir",
  )
  metaicl = _add_benchmark(
    names,
    "metaicl",
    "MetaICL: macro-F1 or accuracy over tasks and seeds",
    "TASK-test-METHOD-k=16-s=SEED.txt, a prediction on each line, or JSON "
    "lines with 'task', 'prediction', 'output' and 'seed'",
  )
  metaicl.add_argument(
    "--setting",
    metavar="NAME",
    help="score its target tasks, such as hr_to_lr, and those of unseen domains",
  )
  _add_benchmark(
    names,
    "p3",
    "P3: T0's rank classification over templates and data sets",
    "TASK-STEP.jsonl as seqio writes them, or JSON lines with 'task', 'idx', "
    "'is_correct', 'score' and 'length'",
  )


def _add_benchmark(
  names: Any, name: str, summary: str, format_: str
) -> argparse.ArgumentParser:
  parser = names.add_parser(
    name, help=summary, description=summary + ".", allow_abbrev=False
  )
  parser.add_argument(
    "files",
    nargs="+",
    type=pathlib.Path,
    metavar="FILE",
    help=f"predictions, or a folder of them: {format_}",
  )
  parser.add_argument(
    "--data_dir",
    type=pathlib.Path,
    metavar="FOLDER",
    help=f"the folder that holds {name}/, or the benchmark's own",
  )
  parser.add_argument(
    "--json", metavar="OUT", help="also written here; - prints it instead"
  )
  parser.add_argument(
    "-v", "--verbose", action="store_true", help="more log, tracebacks"
  )
  return parser


def run(arguments: argparse.Namespace) -> None:
  """Scores what the arguments name, prints the table, writes the JSON.

  Raises:
    ValueError: a file is missing or broken; the message names file and line.
  """
  if arguments.json == "-":
    print(_score(arguments).to_json(), end="")
    return
  if arguments.json:
    files.require_folder(pathlib.Path(arguments.json).parent, "--json")
    if pathlib.Path(arguments.json).is_dir():
      raise ValueError(f"--json must name a file, {arguments.json} is a folder")
  result = _score(arguments)
  if arguments.json:
    files.replace(pathlib.Path(arguments.json), result.to_json())
  print(result.table())


def _score(arguments: argparse.Namespace) -> Report:
  folder = arguments.data_dir
  if folder is not None:
    folder = benchmark_folder(folder, arguments.benchmark)
  if arguments.benchmark == "sni":
    from hyperjax.evaluation import official_sni

    return official_sni.score_files(
      arguments.files, folder, arguments.references, arguments.split_list
    )
  if arguments.benchmark == "metaicl":
    from hyperjax.evaluation import official_metaicl

    return official_metaicl.score_files(
      arguments.files, folder, arguments.setting
    )
  from hyperjax.evaluation import official_p3

  return official_p3.score_files(arguments.files, folder)


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
