"""Options of the command line, with the rules that their values obey."""

import argparse
from typing import Any

from hyperjax.checks import declared


class Option:
  """The `type` of an option: what its text means, if that is allowed.

  argparse shows the sentence of what is refused, and exits with status 2.
  """

  def __init__(self, name: str, hint: Any):
    self.name, self.rule = name, declared.rule_of(hint)

  def __call__(self, text: str) -> Any:
    value = self.rule.parse(text)
    fault = self.rule.fault(self.name, value)
    if fault is None:
      return value
    # As it was written. Without argparse's own name for it, which would stand before.
    shown = fault.replace(f"got {value!r}", f"got {text!r}")
    raise argparse.ArgumentError(None, shown)


def add_option(
  parser: Any, name: str, hint: Any, summary: str, **settings: Any
) -> None:
  """Adds an option whose values are as a declaration says; so says its help."""
  option = Option(name, hint)
  text = f"{summary}; {option.rule.words}"
  settings = {"metavar": "N"} | settings
  parser.add_argument(name, type=option, help=text, **settings)
