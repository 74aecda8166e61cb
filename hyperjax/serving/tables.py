"""Rows of files as people have them: JSON, tables of text, Parquet; or standard input.

A file is known by its name, and by what it begins with: an array of JSON may be in a
.jsonl, and a .csv may be divided by semicolons or tabs. Text is UTF-8, or UTF-16
with its mark.
"""

import codecs
import csv
import io
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from hyperjax import paths
from hyperjax.serving import rows
from hyperjax.serving.rows import Row

STDIN = pathlib.Path("-")
JSON, TEXT = (".jsonl", ".json"), (".csv", ".tsv")
PARQUET, PLAIN = ".parquet", ".txt"
DELIMITERS = ",;\t"
_LOOKED_AT = 50  # rows, to tell what divides them
# What Excel, and others, say first of what divides a table.
_SEPARATOR = re.compile(r'"?sep=([^"\r\n])"?[ ,;\t]*(?=\r?\n)', re.IGNORECASE)
_BOOKS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_ZIP = b"PK\x03\x04"
_SEEN = 64  # bytes at the begin, to tell what they are
_SHOWN = {",": "comma", ";": "semicolon", "\t": "tab"}

# Whether the cells of a first row are names of columns.
IsHeader = Callable[[Sequence[str]], bool]


class Table(NamedTuple):
  """The rows of a file."""

  rows: list[Row]
  is_named: bool  # whether columns have names
  is_text: bool = False  # whether all that a row holds are cells of text
  header: str | None = None  # where a table of text names its columns
  has_quotes: bool = True  # whether quotes around a cell are none of its text


def is_known(path: pathlib.Path) -> bool:
  """Whether a file's name says that it holds rows."""
  return ending(path) in (*JSON, *TEXT, PARQUET)


def ending(path: pathlib.Path) -> str:
  """What a file's name ends with, in small letters: some systems write large ones."""
  return path.suffix.lower()


def shown(path: pathlib.Path) -> str:
  """How a file is called in messages."""
  return "standard input" if path == STDIN else str(path)


def content(path: pathlib.Path) -> bytes:
  """A file's bytes; those of standard input once.

  Raises:
    ValueError: it cannot be read.
  """
  if path == STDIN:
    return sys.stdin.buffer.read()
  try:
    return paths.fetched(path).read_bytes()
  except OSError as error:
    raise ValueError(f"{path} cannot be read: {error}") from error


def read(
  path: pathlib.Path, held: bytes, is_header: IsHeader, what: str
) -> Table:
  """The rows of a file.

  Args:
    path: of the file.
    held: its bytes.
    is_header: of a table of text.
    what: is read from it, for messages.

  Raises:
    ValueError: a row breaks a rule; the message names file, line and rule.
  """
  name, kind = shown(path), ending(path)
  if kind == PARQUET:
    return Table(list(rows.of_parquet(name, held)), True)
  if path != STDIN and not is_known(path) and kind != PLAIN:
    known = ", ".join((*JSON, *TEXT, PARQUET))
    is_book = kind in _BOOKS
    raise ValueError(
      f"{path}: {what} are read from {known} files, by name"
      + ("; save the sheet as CSV (UTF-8)" if is_book else "")
    )
  text = decoded(name, held)
  first = text.lstrip()[:1]
  if kind in JSON or (path == STDIN and first in ("[", "{")):
    return Table(rows.of_json(name, text), True)
  return _of_text(name, text, kind or ".csv", is_header)


def decoded(name: str, held: bytes) -> str:
  """The text of a file, without a byte order mark.

  Raises:
    ValueError: it is neither UTF-8 nor UTF-16 with its mark; the message says
      what it seems to be.
  """
  remedy = "save it as UTF-8, or convert it: iconv -f {} -t UTF-8 OLD > NEW"
  if held.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
    raise ValueError(f"{name} is UTF-32, not UTF-8: {remedy.format('UTF-32')}")
  if held.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    try:
      return held.decode("utf-16")
    except UnicodeDecodeError as error:
      raise ValueError(f"{name} is no whole UTF-16: {error.reason}") from error
  if b"\0" in held:
    raise ValueError(f"{name} {_of_zeros(held, remedy)}")
  try:
    return held.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    line = held[: error.start].count(b"\n") + 1
    byte = held[error.start : error.start + 1]
    character = byte.decode("cp1252", "replace")
    raise ValueError(
      f"{name}, line {line}: not UTF-8; byte 0x{byte.hex()} is {character!r} in "
      f"Latin-1 (Windows-1252): {remedy.format('WINDOWS-1252')}"
    ) from error


def _of_zeros(held: bytes, remedy: str) -> str:
  """What a file with bytes of 0, which no text has in UTF-8, seems to be."""
  if held.startswith(_ZIP):
    return "is no text but a zip file, as books of sheets are: save the sheet as CSV (UTF-8)"
  # UTF-16 has a 0 beside each Western letter, always on the same side.
  begin = held[:_SEEN]
  even, odd = begin[::2].count(0), begin[1::2].count(0)
  if max(even, odd) >= 2 and not min(even, odd):
    kind = "UTF-16LE" if odd else "UTF-16BE"
    return f"is UTF-16, not UTF-8: {remedy.format(kind)}"
  line = held.partition(b"\0")[0].count(b"\n") + 1
  return f"is no text: line {line} has a byte 0"


def separated(text: str) -> tuple[str | None, str]:
  """What a first line `sep=;` says divides a table, and the text without it."""
  found = _SEPARATOR.match(text)
  return (found[1], text[found.end() :]) if found else (None, text)


def _of_text(name: str, text: str, kind: str, is_header: IsHeader) -> Table:
  """A table of cells, whose delimiter and header are found."""
  delimiter, text = separated(text)
  delimiter = delimiter or _delimiter(text, kind, is_header)
  found: list[Row] = []
  header: list[str] | None = None
  named_at: str | None = None
  is_first = True
  for line, cells in _cells(name, text, kind, delimiter):
    if is_first and is_header(cells):
      header = [cell.strip() for cell in cells]
      named_at = f"{name}, line {line}"
      twice = sorted({x for x in header if x and header.count(x) > 1})
      if twice:
        raise ValueError(f"{named_at}: two columns are named {twice[0]!r}")
    elif header is None:
      values: dict[str, Any] = {str(i): x for i, x in enumerate(cells)}
      found.append(Row(line, values, f"{name}, line {line}"))
    elif len(cells) != len(header):
      raise ValueError(
        f"{name}, line {line}: its header has {len(header)} columns divided by "
        f"a {_SHOWN.get(delimiter, delimiter)}, this row {len(cells)}: {cells!r:.60}"
      )
    else:
      values = dict(zip(header, cells, strict=True))
      found.append(Row(line, values, f"{name}, line {line}"))
    is_first = False
  return Table(
    found,
    header is not None,
    is_text=True,
    header=named_at,
    has_quotes=kind != ".tsv",
  )


def _delimiter(text: str, kind: str, is_header: IsHeader) -> str:
  """What divides a table: best a header, then two columns, then several."""
  known = "\t" if kind == ".tsv" else DELIMITERS

  def merit(delimiter: str) -> tuple[bool, bool, bool]:
    widths: set[int] = set()
    begins = False
    try:
      for number, (_, cells) in enumerate(_cells("", text, kind, delimiter), 1):
        begins = begins or (number == 1 and is_header(cells))
        widths.add(len(cells))
        if number == _LOOKED_AT:
          break
    except ValueError:
      return begins, False, False
    return begins, widths == {2}, len(widths) == 1 and widths != {1}

  return max(known, key=merit)  # of equals the first


def _cells(
  name: str, text: str, kind: str, delimiter: str
) -> Iterator[tuple[int, list[str]]]:
  """Rows of cells with the lines that they begin on; blank ones are skipped."""
  has_quotes = kind != ".tsv"
  reader = csv.reader(
    io.StringIO(text, newline=""),
    delimiter=delimiter,
    quoting=csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE,
    strict=True,
  )
  line = 0
  try:
    for cells in reader:
      begins, line = line + 1, reader.line_num
      if any(cell.strip() for cell in cells):
        yield begins, cells
  except csv.Error as error:
    said = str(error)
    if said.startswith("unexpected end"):
      said = (
        'a cell that begins with a quote (") has no other that ends it; within '
        'quotes, "" is one'
      )
    raise ValueError(f"{name}, line {line + 1}: {said}") from error
