"""What a name that does not exist was probably meant to be, for messages."""

import difflib
import pathlib
from collections.abc import Iterable

from hyperjax import paths

_LEAST = 0.7  # of alikeness


def name(wrong: str, known: Iterable[str], least: float = _LEAST) -> str:
  """The nearest of some names, whatever its case, as a question; or ""."""
  near = _nearest(wrong, known, least)
  return f"; did you mean {near!r}?" if near else ""


def folder(wrong: pathlib.Path, file: str) -> str:
  """The same of the folders beside one that have a file of that name."""
  if paths.is_bucket(wrong) or not wrong.parent.is_dir():
    return ""
  others = (x.parent.name for x in wrong.parent.glob(f"*/{file}"))
  near = _nearest(wrong.name, others)
  return f"; did you mean {wrong.parent / near}?" if near else ""


def _nearest(
  wrong: str, known: Iterable[str], least: float = _LEAST
) -> str | None:
  by_lower = {x.strip().lower(): x for x in known}
  near = difflib.get_close_matches(wrong.strip().lower(), by_lower, 1, least)
  return by_lower[near[0]] if near else None
