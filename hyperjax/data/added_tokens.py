"""Tokens that were added to a tokenizer, as Hugging Face's files name them."""

import functools
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from hyperjax import checks
from hyperjax.data import files, lfs

TOKENIZER = "tokenizer.json"
CONFIG = "tokenizer_config.json"
SPECIAL = "special_tokens_map.json"
ADDED = "added_tokens.json"


# Tokens with their ids, as a tokenizer is given them.
Given = tuple[tuple[str, Annotated[int, checks.Whole(0)]], ...]


class Added(NamedTuple):
  """A token that text is split at before anything else is made of it."""

  content: str
  id: int
  is_special: bool = False  # left out of decoded text


def of_folder(folder: pathlib.Path) -> list[Added]:
  """Those that any file of a folder gives an id, by their ids.

  Raises:
    ValueError: a file is damaged, or two of them contradict each other.
  """
  found: dict[str, Added] = {}
  for file, token in _listed(folder):
    before = found.setdefault(token.content, token)
    if before.id != token.id:
      raise ValueError(
        f"{folder / file} gives {token.content!r} the id {token.id}, another file "
        f"of the folder {before.id}"
      )
  return sorted(found.values(), key=lambda token: token.id)


def size(plain: int, added: Given) -> int:
  """How many ids there are with tokens that were added to `plain` ones."""
  return max(plain, *(number + 1 for _, number in added), 0)


def described(added: Given, special: Sequence[str]) -> dict[str, Any]:
  """Of a tokenizer's description, where there are any."""
  found: dict[str, Any] = {"added": dict(added)} if added else {}
  return found | {"special": list(special)} if special else found


def shown(added: Given, special: Sequence[str]) -> dict[int, str]:
  """What their ids decode to: those that are special to nothing."""
  return {
    number: "" if content in special else content for content, number in added
  }


def special_settings(added: Given, special: Sequence[str]) -> dict[str, Any]:
  """What tokenizer_config.json says of those that are special."""
  plain = dict.fromkeys(
    ("lstrip", "normalized", "rstrip", "single_word"), False
  )
  found = {
    str(number): {"content": content, **plain, "special": True}
    for content, number in added
    if content in special
  }
  return {"added_tokens_decoder": found} if found else {}


def settings(folder: pathlib.Path) -> dict[str, Any]:
  """What tokenizer_config.json says, else special_tokens_map.json."""
  return _read(folder / SPECIAL) | {
    name: value
    for name, value in _read(folder / CONFIG).items()
    if value is not None
  }


def text_of(token: Any) -> str | None:
  """A token that a file gives by its text alone, or with its settings."""
  if isinstance(token, Mapping):
    token = token.get("content")
  return token if isinstance(token, str) else None


def split(text: str, contents: tuple[str, ...]) -> list[str]:
  """A text in parts, those at odd places being of `contents`; the longest first."""
  return _pattern(contents).split(text) if contents else [text]


@functools.lru_cache(maxsize=32)
def _pattern(contents: tuple[str, ...]) -> re.Pattern[str]:
  longest = sorted(contents, key=len, reverse=True)
  return re.compile(f"({'|'.join(map(re.escape, longest))})")


def _listed(folder: pathlib.Path) -> Iterator[tuple[str, Added]]:
  for entry in _read(folder / TOKENIZER).get("added_tokens") or ():
    yield TOKENIZER, _token(entry, entry.get("id"), folder / TOKENIZER)
  decoder = _read(folder / CONFIG).get("added_tokens_decoder") or {}
  for number, entry in decoder.items():
    is_number = isinstance(number, str) and number.isdecimal()
    own = int(number) if is_number else number
    yield CONFIG, _token(entry, own, folder / CONFIG)
  for content, number in _read(folder / ADDED).items():
    yield ADDED, _token({"content": content}, number, folder / ADDED)


def _token(entry: Any, number: Any, file: pathlib.Path) -> Added:
  content = text_of(entry)
  if not content or type(number) is not int or not 0 <= number < 2**31:
    raise ValueError(
      f"{file}: an added token must have a text and an id, got {entry!r:.80}, "
      f"{number!r:.20}"
    )
  return Added(content, number, entry.get("special") is True)


def _read(file: pathlib.Path) -> dict[str, Any]:
  if not file.is_file():
    return {}
  lfs.check(file)
  return files.read_json(file)
