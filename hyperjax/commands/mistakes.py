"""What is wrong with a command line, and what was probably meant."""

import argparse
import difflib
import functools
import re
from collections.abc import Iterable, Sequence

from hyperjax.commands import gin_package, shown
from hyperjax.commands.gin_values import UsageError


def check(parser: argparse.ArgumentParser, given: Sequence[str]) -> None:
  """Refuses commands and options that do not exist, before others are missed.

  Raises:
    UsageError: with the nearest that does exist.
  """
  commands = shown.subcommands(parser)
  named = [text for text in given if not text.startswith("-")]
  if not named or given[0].startswith("-"):
    return
  if given[0] not in commands:
    hint = did_you_mean(given[0], [x for x in commands if " " not in x])
    raise UsageError(f"there is no command {given[0]}{hint}")
  own = commands[given[0]]
  if len(named) > 1:
    own = commands.get(" ".join(named[:2]), own)
  inner = [
    x.partition(" ")[2] for x in commands if x.startswith(f"{given[0]} ")
  ]
  if inner and given[1:2] == named[1:2] and given[1] not in inner:
    hint = did_you_mean(given[1], inner) or f"; there are {', '.join(inner)}"
    raise UsageError(f"there is no {given[0]} {given[1]}{hint}")
  options = set(own._option_string_actions)  # noqa: SLF001 - listed nowhere else
  takes_gin = "--gin_file" in options
  for text in given[1:]:
    name = text.partition("=")[0]
    if not name.startswith("--") or name in options or name == "--":
      continue
    if takes_gin and name.startswith("--gin."):
      continue
    known = sorted(options - {"--gin.NAME"})
    hint = did_you_mean(name, known)
    if not hint and takes_gin:
      hint = _as_macro(name.removeprefix("--"))
    raise UsageError(f"unknown option {text}{hint}")


def left_over(
  parser: argparse.ArgumentParser, command: str | None, rest: Sequence[str]
) -> None:
  """Refuses what stands alone, where every value belongs to an option.

  Raises:
    UsageError: with the option that it may belong to.
  """
  if command is None:
    if rest:
      raise UsageError(f"{rest[0]} stands before the command that it is for")
    return
  own = shown.subcommands(parser)[command]
  takes_gin = "--gin_file" in own._option_string_actions  # noqa: SLF001
  before = ""
  for text in rest:
    if takes_gin and text.startswith("--gin."):
      before = text
      continue
    if takes_gin and before and "=" not in before:
      raise UsageError(f"{before} needs a value: {before}={text}")
    raise UsageError(
      f"{text} stands without an option" + _option_of(own, takes_gin, text)
    )


def _option_of(own: argparse.ArgumentParser, takes_gin: bool, text: str) -> str:
  """Which option a text may be the value of, in words."""
  if takes_gin and text.endswith(".gin"):
    return f"; did you mean --gin_file={text}?"
  if takes_gin and re.match(r"[A-Za-z_][\w.]*=", text):
    return f"; did you mean --gin.{text}?"
  wanted = [
    action.option_strings[0]
    for action in own._actions  # noqa: SLF001
    if action.option_strings and action.nargs != 0 and action.metavar
  ]
  return f"; it takes {', '.join(x for x in wanted if x != '--gin.NAME')}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
  """The nearest of what there is, in words, or ""."""
  near = difflib.get_close_matches(name, list(known), 1, 0.7)
  return f"; did you mean {near[0]}?" if near else ""


def _as_macro(name: str) -> str:
  """A macro of the package's gin files that may be meant by an option."""
  known = _macros()
  wanted = name.upper()
  near = [wanted] if wanted in known else []
  near = near or [x for x in known if x.endswith(f"_{wanted}")]
  near = near or difflib.get_close_matches(wanted, known, 1, 0.7)
  listed = " or ".join(f"--gin.{x}=..." for x in near[:3])
  return f"; did you mean {listed}?" if near else ""


@functools.cache
def _macros() -> list[str]:
  """That gin files of the package bind."""
  found = set()
  for path in gin_package.FOLDER.glob("*/*.gin"):
    found |= set(re.findall(r"^([A-Z][A-Z_]+) = ", path.read_text(), re.M))
  return sorted(found)
