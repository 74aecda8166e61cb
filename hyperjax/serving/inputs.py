"""Inputs to answer, from files as examples are in, or one on each line of a .txt."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

from hyperjax.data import files
from hyperjax.scores import answer_rows
from hyperjax.serving import fields as columns
from hyperjax.serving import tables
from hyperjax.serving.fields import Fields


@dataclasses.dataclass(frozen=True)
class Question:
  """An input, and what its line says besides."""

  input: str
  # The whole line, its input and output by these names.
  fields: dict[str, Any]
  line: int
  adapter: str | None = None
  output: str | None = None
  choices: Sequence[str] = ()


def read(
  path: pathlib.Path, fields: Fields = columns.ANY, held: bytes | None = None
) -> list[Question]:
  """The questions of a file, at least one.

  A line of plain text is an input as it stands, also an empty one, so that
  answers keep the lines of their inputs.

  Args:
    path: of the file; "-" is standard input.
    fields: which columns are inputs and outputs.
    held: its bytes, where they were read before.

  Raises:
    ValueError: a line breaks a rule; the message names file, line and rule.
  """
  return read_noted(path, fields, held).found


def read_noted(
  path: pathlib.Path, fields: Fields = columns.ANY, held: bytes | None = None
) -> columns.Noted[Question]:
  """The same, and what is to be known of how columns were found."""
  name = tables.shown(path)
  held = tables.content(path) if held is None else held
  if tables.ending(path) == tables.PLAIN or _is_plain(path, held, fields):
    lines = _lines(tables.decoded(name, held))
    found = columns.Noted(
      [
        Question(text, {columns.INPUT: text}, line)
        for line, text in enumerate(lines, 1)
      ]
    )
  else:
    found = _of_table(path, held, fields)
  if not found.found:
    raise ValueError(f"{name} holds no input")
  return found


def _is_plain(path: pathlib.Path, held: bytes, fields: Fields) -> bool:
  """Whether standard input is lines of text: neither JSON nor with a header."""
  if path != tables.STDIN:
    return False
  text = tables.decoded(tables.shown(path), held).lstrip()
  if tables.separated(text)[0] is not None:
    return False
  first = text.partition("\n")[0].rstrip("\r")
  return not text.startswith(("[", "{")) and not any(
    columns.is_header(fields, (columns.INPUT,), first.split(delimiter))
    for delimiter in tables.DELIMITERS
  )


def _lines(text: str) -> list[str]:
  lines = text.replace("\r\n", "\n").split("\n")
  return lines if lines[-1] else lines[:-1]


def _of_table(
  path: pathlib.Path, held: bytes, fields: Fields
) -> columns.Noted[Question]:
  needed = (columns.INPUT,)
  is_header = functools.partial(columns.is_header, fields, needed)
  table = tables.read(path, held, is_header, "inputs")
  if not table.rows:
    return columns.Noted([])
  chosen = columns.chosen(table, fields, needed)
  return columns.Noted(
    [_question(row, chosen, table) for row in table.rows],
    columns.notes(table, chosen),
    columns.warnings(table),
  )


def _question(
  row: tables.Row, chosen: dict[str, str], table: tables.Table
) -> Question:
  own = dict(row.values) if table.is_named else {}
  own[columns.INPUT] = columns.value(row, chosen[columns.INPUT], "input")
  output, column = None, chosen.get(columns.OUTPUT, "")
  # Lines need not all have one; where all have the cell it is empty.
  if not answer_rows.is_missing(row.values.get(column)):
    text = columns.value(row, column, "output")
    if text.strip() or not table.is_text:
      output = own[columns.OUTPUT] = text
    elif columns.OUTPUT in own:
      own[columns.OUTPUT] = None
  adapter = row.values.get("adapter") or None
  if adapter is not None:
    files.check_text(adapter, f"{row.where}: 'adapter'")
  choices = row.values.get("choices")
  if choices is not None:
    if not isinstance(choices, list) or not choices:
      raise ValueError(
        f"{row.where}: 'choices' must be a list of texts, got {choices!r}"
      )
    for choice in choices:
      files.check_text(choice, f"{row.where}: each of 'choices'")
  return Question(
    input=own[columns.INPUT],
    fields=own,
    line=row.line,
    adapter=adapter,
    output=output,
    choices=choices or (),
  )
