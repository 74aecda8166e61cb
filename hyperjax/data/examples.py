"""Files that users give: a few examples of a task, and inputs to answer.

Examples are JSON lines with "input" and "output" (.jsonl), or two columns (.csv,
.tsv). A first row that says "input" and "output" is a header, whatever their
case; any other is an example. A .tsv has no quotes: what is between tabs counts.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hyperjax.data import episodes, files, store
from hyperjax.data.vocabulary import Vocabulary

COLUMNS = ("input", "output")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclasses.dataclass(frozen=True)
class Example:
  """One demonstration as text, and the line it begins on."""

  input: str
  output: str
  line: int = 0


@dataclasses.dataclass(frozen=True)
class Fitted:
  """Examples as the hypermodel reads them."""

  tokens: np.ndarray  # int32 [length], joined as in training
  kept: Sequence[Example]
  dropped: Sequence[tuple[Example, int, int]]  # tokens it takes, tokens left


def read(path: pathlib.Path) -> list[Example]:
  """The examples of a file, at least one.

  Raises:
    ValueError: a line breaks a rule; the message names file, line and rule.
  """
  if path.suffix == ".jsonl":
    found = list(_json_lines(path))
  elif path.suffix in _DELIMITERS:
    found = list(_columns(path))
  else:
    raise ValueError(
      f"{path}: examples are read from .jsonl, .csv and .tsv files, by name"
    )
  if not found:
    raise ValueError(f"{path} holds no example")
  return found


def fit(
  examples: Sequence[Example], vocabulary: Vocabulary, room: int
) -> Fitted:
  """Those examples that have room together, in their order, joined.

  Raises:
    ValueError: there are none, or none fits.
  """
  if not examples:
    raise ValueError("an adapter needs at least one example, got none")
  rows = [
    {
      episodes.INPUTS: encode(vocabulary, example.input),
      episodes.TARGETS: encode(vocabulary, example.output),
    }
    for example in examples
  ]
  stored = store.in_memory(rows, (episodes.INPUTS, episodes.TARGETS))
  task = store.Task("examples", "given", stored, vocabulary=vocabulary)
  sizes = episodes.joined_lengths(task)
  kept, _ = episodes.keep_fitting(range(len(examples)), sizes, room)
  if not len(kept):
    raise ValueError(
      f"none of {len(examples)} examples fits: the shortest takes "
      f"{sizes.min()} tokens, this model reads {room}"
    )
  left, dropped = room, []
  for row, example in enumerate(examples):
    if row in kept:
      left -= int(sizes[row])
    else:
      dropped.append((example, int(sizes[row]), left))
  return Fitted(
    episodes.join(task, kept), [examples[row] for row in kept], dropped
  )


def encode(vocabulary: Vocabulary, text: str) -> list[int]:
  """Ids of a text, with its end where the vocabulary has one."""
  ids = vocabulary.encode(text)
  return ids if vocabulary.eos_id is None else [*ids, vocabulary.eos_id]


def _json_lines(path: pathlib.Path) -> Iterator[Example]:
  for line, row in files.read_json_lines(path):
    yield _example(path, line, [_field(path, line, row, x) for x in COLUMNS])


def _field(path: pathlib.Path, line: int, row: Any, name: str) -> Any:
  return files.field(row, name, f"{path}, line {line}")


def _columns(path: pathlib.Path) -> Iterator[Example]:
  """Rows of two cells; empty lines between them are skipped."""
  is_csv = path.suffix == ".csv"
  line = 0
  try:
    with open(path, encoding="utf-8-sig", newline="") as file:
      reader = csv.reader(
        file,
        delimiter=_DELIMITERS[path.suffix],
        quoting=csv.QUOTE_MINIMAL if is_csv else csv.QUOTE_NONE,
        strict=True,
      )
      is_first = True
      for cells in reader:
        begins, line = line + 1, reader.line_num
        if not cells:
          continue
        if is_first and [cell.strip().lower() for cell in cells] == [*COLUMNS]:
          is_first = False
          continue
        is_first = False
        yield _example(path, begins, cells)
  except (csv.Error, UnicodeDecodeError) as error:
    raise ValueError(f"{path}, line {line + 1}: {error}") from error
  except OSError as error:
    raise ValueError(f"{path} cannot be read: {error}") from error


def _example(path: pathlib.Path, line: int, cells: Sequence[Any]) -> Example:
  where = f"{path}, line {line}"
  if len(cells) != len(COLUMNS):
    raise ValueError(
      f"{where}: two columns are needed, input and output; got {len(cells)}: "
      f"{cells!r:.60}"
    )
  for name, cell in zip(COLUMNS, cells, strict=True):
    files.check_text(cell, f"{where}: {name!r}")
  if not cells[1].strip():
    raise ValueError(f"{where}: 'output' must not be blank, got {cells[1]!r}")
  return Example(cells[0], cells[1], line)
