"""Rows of JSON and of Parquet, as values that JSON can write."""

import io
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from hyperjax.data import json_text

PAIR = ("input", "output")  # the fields of a row that is a list of two


class Row(NamedTuple):
  """A row of a file."""

  line: int  # from 1; of an array or of Parquet its number among the others
  values: dict[str, Any]  # by name; where a table has no header by number
  where: str  # for messages


def of_json(name: str, text: str) -> list[Row]:
  """Rows of one array, of one object, or of a value on each line.

  Raises:
    ValueError: it is none of these, or a row is neither an object nor a pair.
  """
  kind = {"[": list, "{": dict}.get(text.lstrip()[:1])
  first = text.lstrip().partition("\n")[0]
  # Of what begins as one value, which goes beyond its line or is all there is.
  if kind is not None and (kind is list or not _is_json(first)):
    try:
      whole = json_text.parsed(name, text.encode(), kind)
    except ValueError:
      if _is_json(first) or kind is dict:
        return list(_lines(name, text))
      raise
    if kind is dict:
      return [_row(1, whole, name)]
    if not _is_pair(whole):
      return [
        _row(number, value, f"{name}, item {number}")
        for number, value in enumerate(whole, 1)
      ]
  return list(_lines(name, text))


def of_parquet(name: str, held: bytes) -> Iterator[Row]:
  """Rows of a Parquet file.

  Raises:
    ValueError: it is none, or pyarrow is not installed.
  """
  try:
    import pyarrow  # optional
    from pyarrow import parquet
  except ImportError as error:
    raise ValueError(
      f"{name}: Parquet files need pyarrow: pip install 'hyperjax[parquet]'"
    ) from error
  try:
    rows = parquet.read_table(io.BytesIO(held)).to_pylist()
  except (pyarrow.ArrowException, OSError) as error:
    raise ValueError(f"{name} is no readable Parquet file: {error}") from error
  for number, row in enumerate(rows, 1):
    yield Row(number, plain(row), f"{name}, row {number}")


def plain(value: Any) -> Any:
  """A value of Parquet as JSON has it: dates and decimals as they are written."""
  if value is None or isinstance(value, str | bool | int | float):
    return value
  if isinstance(value, dict):
    return {str(name): plain(x) for name, x in value.items()}
  if isinstance(value, list | tuple):
    return [plain(x) for x in value]
  if isinstance(value, bytes):
    return value.decode("utf-8", "backslashreplace")
  return str(value)


def _lines(name: str, text: str) -> Iterator[Row]:
  for number, line in enumerate(text.split("\n"), 1):
    if line.strip():
      where = f"{name}, line {number}"
      kind = list if line.lstrip()[0] == "[" else dict
      yield _row(number, json_text.parsed(where, line.encode(), kind), where)


def _row(number: int, value: Any, where: str) -> Row:
  if _is_pair(value):
    value = dict(zip(PAIR, value, strict=True))
  if not isinstance(value, dict):
    raise ValueError(
      f"{where}: a JSON object is needed, or a list of an input and its output, "
      f"got {json_text.cut(json.dumps(value, ensure_ascii=False))}"
    )
  return Row(number, value, where)


def _is_pair(value: Any) -> bool:
  """Whether it is a list of two texts or numbers."""
  return (
    isinstance(value, list)
    and len(value) == len(PAIR)
    and all(isinstance(x, str | bool | int | float) for x in value)
  )


def _is_json(line: str) -> bool:
  """Whether a line is a value by itself."""
  try:
    json.loads(line)
  except (ValueError, RecursionError):
    return False
  return True
