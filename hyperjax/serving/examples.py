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
  rows: tuple[int, ...] = ()  # which of a pool's examples those kept are


def is_known(path: pathlib.Path) -> bool:
  """Whether a file is one of examples, by its name."""
  return path.suffix == ".jsonl" or path.suffix in _DELIMITERS


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
  return Pool(examples, vocabulary, lengths, instruction, readers).fit()


class Pool:
  """Examples of one task as ids, of which some are read; as for `fit`."""

  def __init__(
    self,
    examples: Sequence[Example],
    vocabulary: Vocabulary,
    lengths: Lengths,
    instruction: str | None = None,
    readers: Sequence[str] = (),
  ):
    if instruction is not None and not readers:
      raise ValueError(
        "an instruction is given, but this model was trained without any "
        "(FewShotEpisodes.instruction_readers)"
      )
    self.examples, self._instruction = list(examples), instruction
    self._lengths = lengths
    self._is_told = instruction is not None and (
      instructions.HYPERMODEL in readers
    )
    self._task = as_task(examples, vocabulary, instruction)
    self._room = joining.Room.of(self._task, readers, lengths)
    self._sizes = np.zeros(0, np.int32)
    if examples:
      self._sizes = joining.joined_lengths(self._task)

  def fit(self, rows: Sequence[int] | None = None) -> Fitted:
    """Those of some examples that have room together, in the order of `rows`.

    Raises:
      ValueError: there are none, or none fits.
    """
    rows = range(len(self.examples)) if rows is None else rows
    if not len(rows) and not self._is_told:
      raise ValueError("an adapter needs at least one example, got none")
    kept = self.fitting(rows)
    if len(rows) and not kept:
      shortest = min(int(self._sizes[row]) for row in rows)
      raise ValueError(
        f"none of {len(rows)} examples fits: the shortest takes "
        f"{shortest} tokens, this model has room for {self._room.num_ids}"
      )
    return self.place(kept, rows)

  def fitting(self, rows: Sequence[int]) -> list[int]:
    """Those of `rows`, in their order, that have room together."""
    return self._room.keep_fitting(rows, self._sizes)[0].tolist()

  def place(self, kept: Sequence[int], offered: Sequence[int]) -> Fitted:
    """Examples that have room together, of those that were offered."""
    return Fitted(
      self._room.place(self._task, kept),
      [self.examples[row] for row in kept],
      self._dropped(offered, set(kept)),
      self._instruction,
      tuple(kept),
    )

  def input_ids(self, row: int) -> frozenset[int]:
    """Which ids an example's input has."""
    return frozenset(self._task.rows.row(row, joining.INPUTS).tolist())

  def has_room(self, rows: Sequence[int]) -> bool:
    """Whether something of some examples, or an instruction, can be read."""
    if not len(rows):
      return self._is_told
    return len(self.fitting(rows)) > 0

  def _dropped(
    self, rows: Sequence[int], kept: set[int]
  ) -> list[tuple[Example, int, int]]:
    dropped, left = [], self._room.num_ids
    for row in rows:
      size = int(self._sizes[row])
      if row not in kept:
        # Of separate rows none is left where an example would have fitted in one.
        is_row_lacking = self._lengths.are_separate and size <= left
        here = 0 if is_row_lacking else left
        dropped.append((self.examples[row], size, here))
      elif not self._lengths.are_separate:
        left -= size
    return dropped


def listed(given: Sequence[Example | tuple[str, str]]) -> list[Example]:
  """Examples, also those that are given as input and output."""
  return [x if isinstance(x, Example) else Example(*x) for x in given]


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
