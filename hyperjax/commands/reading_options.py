"""Options that say which columns of a file are inputs and outputs."""

import argparse
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from hyperjax.serving.fields import Fields

FORMATS = (
  "JSON lines or an array (.jsonl, .json), a table (.csv, .tsv), .parquet, or - "
  "for standard input"
)


def add(parser: argparse.ArgumentParser) -> None:
  for name, known in (
    ("input", "input, question, text and others"),
    ("output", "output, answer, label and others"),
  ):
    parser.add_argument(
      f"--{name}_field",
      metavar="NAME",
      help=f"the column of each {name}, where it is none of those known ({known})",
    )


def read(arguments: argparse.Namespace) -> "Fields":
  from hyperjax.serving import fields

  return fields.Fields(arguments.input_field, arguments.output_field)


def warn(command: str, warnings: Iterable[str]) -> None:
  """Says at once, and not among results, what may have been misread."""
  for line in warnings:
    print(f"hyperjax {command}: warning: {line}", file=sys.stderr, flush=True)
