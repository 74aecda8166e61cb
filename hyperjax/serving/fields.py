"""Which columns of people's files are inputs and outputs, and what they hold."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar

from hyperjax.data import files, json_text, nearest
from hyperjax.serving import rows, tables

INPUT, OUTPUT = rows.PAIR
# Names by which columns are known where nobody says, the likeliest first.
NAMES = {
  INPUT: (
    "input",
    "inputs",
    "question",
    "text",
    "sentence",
    "prompt",
    "source",
  ),
  OUTPUT: (
    *("output", "outputs", "answer", "label", "target", "targets"),
    *("completion", "response"),
  ),
}


@dataclasses.dataclass(frozen=True)
class Fields:
  """The names of columns, as somebody gave them; None: found by `NAMES`."""

  input: str | None = None
  output: str | None = None

  def of(self, name: str) -> str | None:
    return self.input if name == INPUT else self.output


ANY = Fields()

T = TypeVar("T")


class Noted(NamedTuple, Generic[T]):
  """What a file holds, and what is to be known of how columns were found."""

  found: list[T]
  notes: Sequence[str] = ()
  # Of what nobody may pass over: a header may have been taken for a row.
  warnings: Sequence[str] = ()


def is_header(
  fields: Fields, needed: Sequence[str], cells: Sequence[str]
) -> bool:
  """Whether cells name the columns that are needed, those that were given first."""
  names = [cell.strip() for cell in cells]
  if fields.input is not None or fields.output is not None:
    return True  # a table without them is refused
  return all(_known(name, names) for name in needed)


def chosen(
  table: tables.Table, fields: Fields, needed: Sequence[str]
) -> dict[str, str]:
  """The column of each name; of OUTPUT, where it is not needed, if it is there.

  Args:
    table: of at least one row.
    fields: as somebody gave them.
    needed: of INPUT and OUTPUT.

  Raises:
    ValueError: one that is needed or was given is not there, there are several of
      its names, or both are the same.
  """
  if not table.is_named:
    return _by_place(table, needed)
  where = table.header or table.rows[0].where
  # Rows of JSON need not all have the same: what is not needed may come later.
  columns = list(
    dict.fromkeys(name for row in table.rows for name in row.values)
  )
  if fields.input is not None and fields.input == fields.output:
    raise ValueError(
      f"--input_field and --output_field both say {fields.input!r}: an output that "
      "is its input teaches nothing"
    )
  found = {}
  for name, other in ((INPUT, OUTPUT), (OUTPUT, INPUT)):
    given = fields.of(name)
    known = [x for x in _known(name, columns) if x != fields.of(other)]
    if given is not None and given not in columns:
      raise ValueError(
        f"{where} has no {given!r}, only {json_text.cut(', '.join(columns))}"
        + nearest.name(given, columns)
      )
    if given is not None:
      found[name] = given
    elif len(known) == 1 or (known and known[0].lower() == name):
      found[name] = known[0]
    elif known and name in needed:
      raise ValueError(
        f"{where}: {' and '.join(map(repr, known))} may all be the "
        f"{name}: --{name}_field says which one is"
      )
    elif name in needed:
      raise ValueError(
        f"{where} has no {name!r}, only "
        f"{json_text.cut(', '.join(columns)) or 'nothing'}: "
        + (_inner(table, needed) or f"--{name}_field says which column it is")
      )
  return found


def notes(table: tables.Table, columns: Mapping[str, str]) -> list[str]:
  """Which columns are read as what, where their names do not say so."""
  if not table.is_named:
    return []
  others = {name: x for name, x in columns.items() if x.lower() != name}
  if not others:
    return []
  return [", ".join(f"{x!r} is read as {name}" for name, x in others.items())]


def _inner(table: tables.Table, needed: Sequence[str]) -> str | None:
  """Which list within a single object the rows are, in words."""
  if len(table.rows) > 1:
    return None
  for name, held in table.rows[0].values.items():
    inner = held[0] if isinstance(held, list) and held else None
    if isinstance(inner, dict) and all(_known(x, list(inner)) for x in needed):
      return f"the list in {name!r} is to be the whole file"
  return None


def warnings(table: tables.Table) -> list[str]:
  """What may have been misread: a header that is not known, quotes that are kept."""
  return [*_of_header(table), *_of_quotes(table)]


def _of_quotes(table: tables.Table) -> list[str]:
  """That cells stand in quotes, of a table in which these are text."""
  if table.has_quotes:
    return []
  quoted = [
    (row.where, cell)
    for row in table.rows
    for cell in row.values.values()
    if len(cell) > 1 and cell[0] == cell[-1] == '"'
  ]
  if not quoted:
    return []
  where, cell = quoted[0]
  return [
    f"{where}: the quotes around {json_text.cut(cell):.60} are taken as text, as in "
    f"all of a .tsv ({len(quoted)} such cells); in a .csv, which tabs may divide "
    "too, they are not"
  ]


def _of_header(table: tables.Table) -> list[str]:
  if table.is_named:
    return []
  first = table.rows[0]
  cells = " | ".join(first.values.values())
  return [
    f"{first.where}, is no header, by its words, and read as the rest "
    f"({json_text.cut(cells)!r:.60}); where it is one, name its columns input and "
    "output, or say which they are (--input_field, --output_field)"
  ]


def value(row: tables.Row, column: str, name: str) -> str:
  """What a column holds, as text: also numbers, and true and false.

  Raises:
    ValueError: it is not there, or something else.
  """
  held = files.field(row.values, column, row.where)
  is_missing = isinstance(held, float) and not math.isfinite(held)
  if held is None or is_missing:  # as pandas writes a cell without a value
    raise ValueError(
      f"{row.where}: {name!r} must be a string or a number, got "
      f"{json_text.cut(json.dumps(held))}"
    )
  if isinstance(held, bool | int | float):
    return json.dumps(held)
  files.check_text(held, f"{row.where}: {name!r}")
  return held


def _known(name: str, columns: Sequence[str]) -> list[str]:
  """Those columns that have one of a name's names, whatever their case."""
  by_lower = {column.strip().lower(): column for column in columns}
  return [by_lower[x] for x in NAMES[name] if x in by_lower]


def _by_place(table: tables.Table, needed: Sequence[str]) -> dict[str, str]:
  """Of a table without a header: its first column, and its second."""
  first = table.rows[0]
  cells = list(first.values.values())
  for name in (INPUT, OUTPUT):
    if known := _known(name, cells):
      other = OUTPUT if name == INPUT else INPUT
      raise ValueError(
        f"{first.where}: a first row with {known[0]!r} seems to name columns, but "
        f"none of them is known as {other}: --{other}_field says which one it is"
      )
  for row in table.rows:
    if len(row.values) != 2 and len(row.values) != len(needed):
      cells = list(row.values.values())
      raise ValueError(
        f"{row.where}: two columns are needed, input and output; got "
        f"{len(cells)}: {cells!r:.60}; of more a first row with their names says "
        "which are meant"
      )
  widths = {len(row.values) for row in table.rows}
  return {INPUT: "0", **({OUTPUT: "1"} if widths == {2} else {})}
