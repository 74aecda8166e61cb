"""Files of inputs to answer: JSON lines, or plain text with one on each line."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from hyperjax import paths
from hyperjax.data import files


@dataclasses.dataclass(frozen=True)
class Question:
  """An input, and what its line says besides."""

  input: str
  fields: dict[str, Any]  # the whole line; of plain text, the input
  line: int
  adapter: str | None = None
  output: str | None = None
  choices: Sequence[str] = ()


def read(path: pathlib.Path) -> list[Question]:
  """The questions of a .jsonl or .txt file, at least one.

  A line of plain text is an input as it stands, also an empty one, so that
  answers keep the lines of their inputs.

  Raises:
    ValueError: a line breaks a rule; the message names file, line and rule.
  """
  path = paths.fetched(path)
  if path.suffix == ".jsonl":
    found = [
      _question(f"{path}, line {line}", line, row)
      for line, row in files.read_json_lines(path)
    ]
  elif path.suffix == ".txt":
    found = [
      Question(text, {"input": text}, line)
      for line, text in enumerate(_lines(path), 1)
    ]
  else:
    raise ValueError(
      f"{path}: inputs are read from .jsonl and .txt files, by name"
    )
  if not found:
    raise ValueError(f"{path} holds no input")
  return found


def _lines(path: pathlib.Path) -> list[str]:
  try:
    text = path.read_bytes().decode("utf-8-sig")
  except OSError as error:
    raise ValueError(f"{path} cannot be read: {error}") from error
  except UnicodeDecodeError as error:
    raise ValueError(f"{path}: not UTF-8: {error}") from error
  lines = text.replace("\r\n", "\n").split("\n")
  return lines if lines[-1] else lines[:-1]


def _question(where: str, line: int, row: dict[str, Any]) -> Question:
  for name in ("adapter", "output"):
    if row.get(name) is not None:
      files.check_text(row[name], f"{where}: {name!r}")
  choices = row.get("choices")
  if choices is not None:
    if not isinstance(choices, list) or not choices:
      raise ValueError(
        f"{where}: 'choices' must be a list of texts, got {choices!r}"
      )
    for choice in choices:
      files.check_text(choice, f"{where}: each of 'choices'")
  return Question(
    input=files.text_field(row, "input", where),
    fields=row,
    line=line,
    adapter=row.get("adapter"),
    output=row.get("output"),
    choices=choices or (),
  )
