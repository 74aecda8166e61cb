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

from hyperjax import paths
from hyperjax.batch import Lengths
from hyperjax.data import files, instructions, joining
from hyperjax.data.store import store
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

  # Ids as in training: int32 [length], or one row for each that is encoded.
  tokens: np.ndarray | Sequence[np.ndarray]
  kept: Sequence[Example]
  dropped: Sequence[tuple[Example, int, int]]  # tokens it takes, tokens left
  instruction: str | None = None


def read(path: pathlib.Path) -> list[Example]:
  """The examples of a file, at least one.

  Raises:
    ValueError: a line breaks a rule; the message names file, line and rule.
  """
  path = paths.fetched(path)
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
  examples: Sequence[Example],
  vocabulary: Vocabulary,
  lengths: Lengths,
  instruction: str | None = None,
  readers: Sequence[str] = (),
) -> Fitted:
  """Those examples that have room together, in their order, joined.

  Args:
    examples: of one task.
    vocabulary: the hypermodel's.
    lengths: of what it reads.
    instruction: what says in words what the task is.
    readers: which models read it, of `instructions.READERS`.

  Raises:
    ValueError: there are none, or none fits; no model reads an instruction.
  """
  if instruction is not None and not readers:
    raise ValueError(
      "an instruction is given, but this model was trained without any "
      "(FewShotEpisodes.instruction_readers)"
    )
  is_enough = instruction is not None and instructions.HYPERMODEL in readers
  if not examples and not is_enough:
    raise ValueError("an adapter needs at least one example, got none")
  task = as_task(examples, vocabulary, instruction)
  room = joining.Room.of(task, readers, lengths)
  sizes = joining.joined_lengths(task) if examples else np.zeros(0, np.int32)
  kept, _ = room.keep_fitting(range(len(examples)), sizes)
  if examples and not len(kept):
    raise ValueError(
      f"none of {len(examples)} examples fits: the shortest takes "
      f"{sizes.min()} tokens, this model has room for {room.num_ids}"
    )
  dropped, left = [], room.num_ids
  for row, example in enumerate(examples):
    if row not in kept:
      # Of separate rows none is left where an example would have fitted in one.
      is_row_lacking = lengths.are_separate and sizes[row] <= left
      here = 0 if is_row_lacking else left
      dropped.append((example, int(sizes[row]), here))
    elif not lengths.are_separate:
      left -= int(sizes[row])
  return Fitted(
    room.place(task, kept),
    [examples[row] for row in kept],
    dropped,
    instruction,
  )


def as_task(
  examples: Sequence[Example], vocabulary: Vocabulary, instruction: str | None
) -> store.Task:
  """Examples as the stored rows of a task."""
  rows = [
    {
      joining.INPUTS: encode(vocabulary, example.input),
      joining.TARGETS: encode(vocabulary, example.output),
    }
    for example in examples
  ]
  ids = None
  if instruction is not None:
    ids = np.asarray(vocabulary.encode(instruction), np.int32)
  return store.Task(
    "examples",
    "given",
    store.in_memory(rows, (joining.INPUTS, joining.TARGETS)),
    vocabulary=vocabulary,
    instruction=ids,
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
