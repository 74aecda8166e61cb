"""A few examples of a task: read from files, and as a hypermodel reads them."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import numpy as np

from hyperjax.batch import Lengths
from hyperjax.data import instructions, joining
from hyperjax.data.store import store
from hyperjax.data.vocabulary import Vocabulary
from hyperjax.serving import fields as columns
from hyperjax.serving import tables
from hyperjax.serving.fields import Fields


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


def read(path: pathlib.Path, fields: Fields = columns.ANY) -> list[Example]:
  """The examples of a file, at least one.

  Args:
    path: of the file; "-" is standard input.
    fields: which columns they are.

  Raises:
    ValueError: a line breaks a rule; the message names file, line and rule.
  """
  return read_noted(path, fields).found


def read_noted(
  path: pathlib.Path, fields: Fields = columns.ANY
) -> columns.Noted[Example]:
  """The same, and what is to be known of how columns were found."""
  needed = (columns.INPUT, columns.OUTPUT)
  table = tables.read(
    path,
    tables.content(path),
    functools.partial(columns.is_header, fields, needed),
    "examples",
  )
  if not table.rows:
    raise ValueError(f"{tables.shown(path)} holds no example")
  chosen = columns.chosen(table, fields, needed)
  found = []
  for row in table.rows:
    given, output = (columns.value(row, chosen[x], x) for x in needed)
    if not output.strip():
      raise ValueError(
        f"{row.where}: 'output' must not be blank, got {output!r}"
      )
    found.append(Example(given, output, row.line))
  return columns.Noted(
    found, columns.notes(table, chosen), columns.warnings(table)
  )


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


def distinct(given: Sequence[Example]) -> list[Example]:
  """Each example once: a copy would take the room of another."""
  first: dict[tuple[str, str], Example] = {}
  for example in given:
    first.setdefault((example.input, example.output), example)
  return list(first.values())


def copies(given: Sequence[Example]) -> list[Example]:
  """Examples that stand before already, input and output alike."""
  known: set[tuple[str, str]] = set()
  found = []
  for example in given:
    pair = example.input, example.output
    found += [example] if pair in known else []
    known.add(pair)
  return found


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
