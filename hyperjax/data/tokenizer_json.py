"""Tokenizers of a tokenizer.json, by the library that wrote it.

What transformers 5 saves. Beside it may lie tokens that were added, and which of
them ends a text: the files of `added_tokens`.
"""

import dataclasses
import functools
import hashlib
import importlib
import json
import os
import pathlib
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from hyperjax.data import added_tokens, files, lfs

# A tokenizer.json and what lay beside it, in one file; then its name.
_WHOLE = "hyperjax_tokenizer"
# What transformers takes for a tokenizer's own spaces in decoded text.
_CLEANED = (
  (" .", "."),
  (" ?", "?"),
  (" !", "!"),
  (" ,", ","),
  (" ' ", "'"),
  (" n't", "n't"),
  (" 'm", "'m"),
  (" 's", "'s"),
  (" 've", "'ve"),
  (" 're", "'re"),
)


@dataclasses.dataclass(frozen=True)
class TokenizerJson:
  """A tokenizer.json with what lies beside it, or a copy that has both in one."""

  path: str

  @property
  def size(self) -> int:
    """One more than the highest id."""
    return self._loaded.size

  @property
  def pad_id(self) -> int:
    return self._loaded.pad_id

  @property
  def eos_id(self) -> int | None:
    return self._loaded.eos_id

  @property
  def start_id(self) -> int | None:
    """What stands before a text, if anything does; `encode` puts it there."""
    return self._loaded.start_id

  @property
  def unknown_id(self) -> int | None:
    return self._loaded.unknown_id

  @property
  def identity(self) -> str:
    """Hash of all that decides ids."""
    return self._loaded.identity

  @property
  def description(self) -> dict[str, Any]:
    return {
      "kind": "tokenizer_json",
      "path": self.path,
      "identity": self.identity,
      "size": self.size,
    }

  @property
  def shown(self) -> str:
    return self.path

  def check(self) -> None:
    """Refuses a file that cannot be read.

    Raises:
      ValueError: it is no tokenizer, or needs a library that is not installed.
    """
    self._loaded  # noqa: B018 - a property that reads

  def encode(self, text: str) -> list[int]:
    """Ids of `text`, its start if it has one, without an end of sequence."""
    loaded = self._loaded
    ids = loaded.tokenizer.encode(text).ids
    return ids[: len(ids) - loaded.num_ends]

  def decode(self, ids: Iterable[int]) -> str:
    """Text up to the first end of sequence, without special tokens."""
    loaded = self._loaded
    known = [int(i) for i in ids]
    if loaded.eos_id is not None and loaded.eos_id in known:
      known = known[: known.index(loaded.eos_id)]
    known = [i for i in known if i < loaded.size]
    text = loaded.tokenizer.decode(known, skip_special_tokens=True)
    for spaced, clean in _CLEANED if loaded.is_cleaned else ():
      text = text.replace(spaced, clean)
    return text

  def lost_whitespace(self, text: str) -> int:
    """How many characters of whitespace `decode` does not give back of `text`."""
    known = self.decode(self.encode(text))
    given, kept = [Counter(filter(str.isspace, x)) for x in (text, known)]
    return (given - kept).total()

  def files(self) -> dict[str, str | bytes]:
    """By name, what transformers needs of it in a folder."""
    loaded = self._loaded
    text = loaded.text or loaded.tokenizer.to_str(pretty=True)
    return {added_tokens.TOKENIZER: text}

  def hf_settings(self) -> dict[str, Any]:
    """What tokenizer_config.json says of it."""
    kept = self._loaded.settings
    return {"tokenizer_class": "PreTrainedTokenizerFast"} | dict(kept)

  def whole(self) -> str:
    """It and what lies beside it as one file, which is the same tokenizer."""
    return json.dumps({_WHOLE: _read(pathlib.Path(self.path))}, indent=1)

  @property
  def _loaded(self) -> "_Loaded":
    folder = pathlib.Path(self.path).parent
    names = (added_tokens.CONFIG, added_tokens.SPECIAL, added_tokens.ADDED)
    stamps = tuple(
      (status.st_size, status.st_mtime_ns)
      for file in (pathlib.Path(self.path), *(folder / name for name in names))
      if file.is_file() and (status := os.stat(file))
    )
    return _load(self.path, stamps)


class _Loaded(NamedTuple):
  tokenizer: Any
  text: str | None  # of its file, where nothing had to be added
  identity: str
  size: int
  pad_id: int
  eos_id: int | None
  start_id: int | None
  unknown_id: int | None
  num_ends: int  # that the library puts after a text: 0 or 1
  is_cleaned: bool
  settings: dict[str, Any]


_SETTINGS = (
  "clean_up_tokenization_spaces",
  "bos_token",
  "eos_token",
  "pad_token",
  "unk_token",
)


def _read(path: pathlib.Path) -> dict[str, Any]:
  """All that decides ids: the tokenizer's text, added tokens, special ones."""
  lfs.check(path)
  found = files.read_json(path)
  if _WHOLE in found:
    return found[_WHOLE]
  said = added_tokens.settings(path.parent)
  return {
    "tokenizer": path.read_text(encoding="utf-8"),
    "added": [list(token) for token in added_tokens.of_folder(path.parent)],
    "settings": {
      name: added_tokens.text_of(said[name])
      if name.endswith("_token")
      else said[name]
      for name in _SETTINGS
      if said.get(name) is not None
    },
  }


@functools.lru_cache(maxsize=8)
def _load(path: str, stamps: Any) -> _Loaded:
  del stamps
  try:
    tokenizers: Any = importlib.import_module("tokenizers")
  except ImportError as error:
    raise ValueError(
      f"{path} is read by the package tokenizers, which is not installed: pip "
      "install 'tokenizers>=0.22,<0.24'"
    ) from error
  if not pathlib.Path(path).is_file():
    raise ValueError(f"vocabulary {path}: there is no such file")
  content = _read(pathlib.Path(path))
  text, added, settings = (
    files.field(content, name, path)
    for name in ("tokenizer", "added", "settings")
  )
  try:
    tokenizer = tokenizers.Tokenizer.from_str(text)
  except Exception as error:  # the library raises no narrower class
    raise ValueError(f"{path} is no tokenizer.json: {error}") from error
  # How its owner once cut and filled rows is no part of it.
  tokenizer.no_truncation()
  tokenizer.no_padding()
  whole: str | None = text
  for token, number, is_special in added:
    if tokenizer.token_to_id(token) is None:
      whole = None
      made = tokenizers.AddedToken(
        token, special=is_special, normalized=not is_special
      )
      tokenizer.add_tokens([made])
    if tokenizer.token_to_id(token) != number:
      raise ValueError(
        f"{path}: the added token {token!r} must have the id {number}, gets "
        f"{tokenizer.token_to_id(token)}: files beside it are another "
        "tokenizer's, or tokens before it are lacking"
      )
  identity = hashlib.sha256(
    json.dumps([text, added, settings], sort_keys=True).encode()
  ).hexdigest()
  return _with_ids(tokenizer, whole, identity, settings)


def _with_ids(
  tokenizer: Any, text: str | None, identity: str, settings: dict[str, Any]
) -> _Loaded:
  def named(setting: str, default: str) -> int | None:
    return tokenizer.token_to_id(settings.get(setting) or default)

  around = tokenizer.encode("").ids
  eos_id = named("eos_token", "</s>")
  # transformers' T5Tokenizer puts its own end, whichever it is, where the file has
  # "</s>".
  ends = {eos_id, tokenizer.token_to_id("</s>")}
  num_ends = int(bool(around) and around[-1] in ends - {None})
  starts = around[: len(around) - num_ends]
  pad_id = named("pad_token", "<pad>")
  return _Loaded(
    tokenizer,
    text,
    identity,
    1 + max(tokenizer.get_vocab(with_added_tokens=True).values()),
    0 if pad_id is None else pad_id,
    eos_id,
    starts[0] if starts else None,
    named("unk_token", "<unk>"),
    num_ends,
    settings.get("clean_up_tokenization_spaces") is True
    # As transformers, which from 5 on spares byte pairs.
    and type(tokenizer.model).__name__ != "BPE",
    settings,
  )
