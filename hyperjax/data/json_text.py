"""JSON from files, parsed with errors that say where it stands."""

import codecs
import json
from typing import Any

# Lists and objects within one another: no file that is read here has ten, and
# what walks through a value does so by recursion.
DEEPEST = 64
_NAMES = {dict: "object", list: "list"}
_MOST_SHOWN = 200  # characters of a value in a message


def parsed(where: str, content: bytes, kind: type = dict) -> Any:
  """The value that a file, or a line of it, holds.

  Args:
    where: it stands, for messages.
    content: UTF-8 without a byte order mark.
    kind: `dict` or `list`.

  Raises:
    ValueError: it is no JSON, of another kind, or nested deeper than `DEEPEST`.
  """
  text = decoded(where, content)
  try:
    value = json.loads(text)
  except RecursionError as error:
    raise _too_deep(where) from error
  except json.JSONDecodeError as error:
    # Of one line the place says already which it is.
    line = f"line {error.lineno}, " if "\n" in text.strip() else ""
    raise ValueError(
      f"{where}: not JSON: {error.msg} ({line}column {error.colno})"
    ) from error
  except ValueError as error:
    raise ValueError(f"{where}: not JSON: {error}") from error
  if not isinstance(value, kind):
    start = content[:40].decode(errors="replace")
    raise ValueError(f"{where}: a JSON {_NAMES[kind]} is needed, got {start!r}")
  # The brackets are counted first: most lines have few.
  if content.count(b"[") + content.count(b"{") > DEEPEST and _is_deep(value):
    raise _too_deep(where)
  return value


def decoded(where: str, content: bytes) -> str:
  """Text of a file or a line of it.

  A byte order mark, which some editors put first, would be part of the text.

  Raises:
    ValueError: it begins with one, or is not UTF-8.
  """
  if content.startswith(codecs.BOM_UTF8):
    raise ValueError(
      f"{where} begins with a byte order mark: UTF-8 without one is needed"
    )
  try:
    return content.decode()
  except UnicodeDecodeError as error:
    raise ValueError(f"{where}: not UTF-8: {error}") from error


def shown(value: Any) -> str:
  """A value as a message has it: cut where it is long."""
  return cut(repr(value))


def cut(text: str) -> str:
  """Text of a file as a message has it: not too long, and fit to be printed."""
  if len(text) > _MOST_SHOWN:
    text = f"{text[:_MOST_SHOWN]} ..."
  return text.encode(errors="backslashreplace").decode()


def _is_deep(value: Any) -> bool:
  level = [value]
  for _ in range(DEEPEST):
    level = [
      inner
      for outer in level
      for inner in (outer.values() if isinstance(outer, dict) else outer)
      if isinstance(inner, dict | list)
    ]
    if not level:
      return False
  return True


def _too_deep(where: str) -> ValueError:
  return ValueError(f"{where}: nested deeper than {DEEPEST} levels")
