"""Options that say which model is used, and how its T5 is held."""

import argparse
from typing import TYPE_CHECKING

from hyperjax import checks

if TYPE_CHECKING:
  from hyperjax.serving.model import Model


def add(parser: argparse.ArgumentParser, what: str) -> None:
  """What says which model is used."""
  parser.add_argument("--model", required=True, metavar="RUN", help=what)
  parser.add_argument(
    "--backbone", metavar="FOLDER", help="where its T5 lies, if it has moved"
  )
  parser.add_argument(
    "--vocabulary",
    metavar="FILE",
    help="where its tokenizer lies, if it has moved",
  )
  parser.add_argument(
    "--quantization",
    choices=checks.QUANTIZATIONS,
    help="of the T5's projections, in eight bits but for the feed-forward layers' "
    "wo, or all of them (as in training)",
  )
  parser.add_argument(
    "-v", "--verbose", action="store_true", help="more log, tracebacks"
  )


def load(arguments: argparse.Namespace) -> "Model":
  """The hypermodel that the options of `add` name."""
  from hyperjax import serving  # imports jax

  return serving.load(
    arguments.model,
    arguments.backbone,
    arguments.vocabulary,
    quantization=arguments.quantization,
  )
