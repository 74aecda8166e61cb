"""Which tokenizer a path, a folder or a record names."""

import json
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hyperjax import paths
from hyperjax.data import added_tokens, files
from hyperjax.data.byte_vocabulary import FIRST_EXTRA_ID, Bytes
from hyperjax.data.tokenizer_json import TokenizerJson
from hyperjax.data.vocabulary import SentencePiece, Tokenizer, Vocabulary

BYTES = "bytes"  # in place of a path
SENTENCEPIECE = "spiece.model"
# Its files in a folder of Hugging Face, which travel together.
FILES = (
  SENTENCEPIECE,
  added_tokens.TOKENIZER,
  added_tokens.CONFIG,
  added_tokens.SPECIAL,
  added_tokens.ADDED,
)
_CONFIG = "config.json"
_DESCRIBED = "the description of a vocabulary"
_MOST_EXTRA_IDS = 1 << 20
_MOST_IDS = 1 << 31
_BYTE_CLASS = "ByT5Tokenizer"
_SENTINEL = re.compile(r"<extra_id_\d+>")


def named(path: str, extra_ids: int | None = None) -> Tokenizer:
  """The tokenizer at a path: a SentencePiece model, a tokenizer.json, or "bytes".

  Args:
    path: a file. A last part "bytes" that is no file means ByT5's bytes.
    extra_ids: of a SentencePiece model, on top of it; by default T5's 100.
  """
  name = pathlib.Path(path).name
  if name == BYTES and not files.is_file(paths.at(path)):
    return Bytes()
  path = _here(path)
  if name.endswith(".json"):
    return TokenizerJson(path)
  return (
    SentencePiece(path) if extra_ids is None else SentencePiece(path, extra_ids)
  )


def named_as(path: str, description: Mapping[str, Any]) -> Tokenizer:
  """The tokenizer at a path, with the extra and added tokens of a description."""
  found = named(path)
  kind = description.get("kind")
  if kind == "sentencepiece" and isinstance(found, SentencePiece):
    return SentencePiece(
      found.path, _extra_ids(description), *_added(description)
    )
  if kind == "bytes" and isinstance(found, Bytes):
    return Bytes(_extra_ids(description), *_added(description))
  return found  # perhaps another one, as its identity shows


def _here(path: str) -> str:
  """A file of this machine; out of a bucket it is copied with what it goes by."""
  if not paths.is_remote(path):
    return str(paths.at(path))
  file = paths.at(path)
  names = {file.name, *FILES}
  return str(paths.fetched(file.parent, names.__contains__) / file.name)


def is_here(path: str) -> bool:
  """Whether `named` would find something to read."""
  return pathlib.Path(path).name == BYTES or files.is_file(paths.at(path))


def check_here(path: str) -> None:
  """Refuses what is asked for on a command line, and is not there.

  Raises:
    ValueError: as it says.
  """
  if not is_here(path):
    raise ValueError(f"--vocabulary {path}: there is no such file")


def beside(
  folder: pathlib.Path, vocab_size: int | None = None
) -> Tokenizer | None:
  """The tokenizer that lies beside a T5 in a folder; None where there is none.

  A SentencePiece model goes before a tokenizer.json, from which it then has added
  tokens alone: its ids are the same, and those that runs here know.

  Args:
    folder: of Hugging Face.
    vocab_size: rows of the T5's embedding. T5's extra ids, where no file says how
      many there are, are there only where they have rows.

  Raises:
    ValueError: files are damaged, or of two tokenizers.
  """
  if paths.is_bucket(folder):
    try:
      folder = paths.fetched(folder, {*FILES, _CONFIG}.__contains__)
    except FileNotFoundError:
      return None
  said = added_tokens.settings(folder)
  if (folder / SENTENCEPIECE).is_file():
    return _with_added(folder, said, vocab_size)
  if (folder / added_tokens.TOKENIZER).is_file():
    return TokenizerJson(str(folder / added_tokens.TOKENIZER))
  classes = {said.get("tokenizer_class"), _model_class(folder)}
  if _BYTE_CLASS not in classes:
    return None
  return _bytes(folder)


def _with_added(
  folder: pathlib.Path, said: Mapping[str, Any], vocab_size: int | None
) -> SentencePiece:
  path = str(folder / SENTENCEPIECE)
  extra_ids = said.get("extra_ids")
  if type(extra_ids) is int:
    plain = SentencePiece(path, extra_ids)
  else:
    plain = SentencePiece(path)
    if vocab_size is not None:
      plain = plain.fitted(vocab_size)
  tokens = added_tokens.of_folder(folder)
  # Where extra ids are listed otherwise than T5's are, they are as they are listed.
  for tokenizer in (plain, SentencePiece(path, 0)):
    pieces = [(token, tokenizer.piece(token.id)) for token in tokens]
    added = tuple((x.content, x.id) for x, own in pieces if own is None)
    wrong = [
      (token, own)
      for token, own in pieces
      if own not in (None, token.content, f"▁{token.content}")
    ]
    if not wrong:
      special = _special(token for token, own in pieces if own is None)
      return SentencePiece(path, tokenizer.extra_ids, added, special)
  token, own = wrong[0]
  raise ValueError(
    f"{folder}: a token {token.content!r} was added with the id {token.id}, "
    f"which is {own!r} in {SENTENCEPIECE}: they are of two tokenizers"
  )


def _bytes(folder: pathlib.Path) -> Bytes:
  """ByT5's, with as many extra ids as its files list."""
  known = {"<pad>", "</s>", "<unk>"}
  listed = added_tokens.of_folder(folder)
  others = [t for t in listed if t.content not in known]
  places = {f"<extra_id_{t.id - FIRST_EXTRA_ID}>": t.id for t in others}
  extra = [t for t in others if t.content in places]
  added = tuple((t.content, t.id) for t in others if t.content not in places)
  special = _special(t for t in others if t.content not in places)
  # What lists tokens, or says that there are no extra ids and names none, has none.
  said = added_tokens.settings(folder)
  is_told = len(others) < len(listed) or (
    said.get("extra_ids") == 0 and not said.get("additional_special_tokens")
  )
  if extra or is_told:
    return Bytes(len(extra), added, special)
  return Bytes(added=added, special=special)


def _special(tokens: Iterable[added_tokens.Added]) -> tuple[str, ...]:
  return tuple(
    t.content
    for t in tokens
    if t.is_special and not _SENTINEL.fullmatch(t.content)
  )


def _model_class(folder: pathlib.Path) -> Any:
  if not (folder / _CONFIG).is_file():
    return None
  return files.read_json(folder / _CONFIG).get("tokenizer_class")


def written(tokenizer: Tokenizer) -> dict[str, str | bytes]:
  """By name, the files of a folder from which transformers has this tokenizer."""
  settings = json.dumps(tokenizer.hf_settings(), indent=2, sort_keys=True)
  return tokenizer.files() | {added_tokens.CONFIG: settings + "\n"}


def open_described(
  description: Mapping[str, Any] | None, folder: pathlib.Path
) -> Tokenizer | None:
  """The vocabulary that a store describes; None where it is one of seqio's alone.

  The copy in `folder`, which travels with the store, comes before the path
  where the store was made.

  Raises:
    ValueError: its file is gone, or is not the one the store was made with.
  """
  if description is None:
    return None
  kind = files.field(description, "kind", _DESCRIBED)
  if kind not in ("sentencepiece", "tokenizer_json", "bytes"):
    return None
  identity = files.text_field(description, "identity", _DESCRIBED)
  if kind == "bytes":
    own = Bytes(_extra_ids(description), *_added(description))
    return _checked(own, identity, "it")
  path = files.text_field(description, "path", _DESCRIBED)
  copy = folder / f"{identity[:16]}{_SUFFIXES[kind]}"
  for place in (copy, paths.at(path)):
    if files.is_file(place):
      here = str(paths.fetched(place))
      return _checked(_opened(kind, here, description), identity, str(place))
  raise ValueError(
    f"the vocabulary of these tokens is neither at {copy} nor at {path}"
  )


_SUFFIXES = {"sentencepiece": ".model", "tokenizer_json": ".json"}


def _opened(kind: str, path: str, description: Mapping[str, Any]) -> Tokenizer:
  if kind == "tokenizer_json":
    return TokenizerJson(path)
  return SentencePiece(path, _extra_ids(description), *_added(description))


def _added(
  description: Mapping[str, Any],
) -> tuple[tuple[tuple[str, int], ...], tuple[str, ...]]:
  """Tokens with their ids, and which of them are special."""
  added = description.get("added") or {}
  if not isinstance(added, Mapping):
    raise ValueError(
      f"{_DESCRIBED}: added must be an object, got {added!r:.80}"
    )
  for content in added:
    files.whole_field(added, content, f"{_DESCRIBED}: added", 0, _MOST_IDS)
  special = description.get("special") or []
  if not isinstance(special, list | tuple) or not added.keys() >= set(special):
    raise ValueError(
      f"{_DESCRIBED}: special must be a list of those added, got {special!r:.80}"
    )
  return tuple(added.items()), tuple(special)


def _extra_ids(description: Mapping[str, Any]) -> int:
  return files.whole_field(
    description, "extra_ids", _DESCRIBED, 0, _MOST_EXTRA_IDS
  )


def _checked(found: Tokenizer, identity: str, where: str) -> Tokenizer:
  if found.identity != identity:
    raise ValueError(
      f"{where} is not the vocabulary these tokens were made with: its "
      f"identity is {found.identity[:16]}, theirs {identity[:16]}"
    )
  return found


def keep_copy(vocabulary: Vocabulary, folder: pathlib.Path) -> None:
  """Puts a tokenizer's file beside stored tokens, so that both travel."""
  if isinstance(vocabulary, SentencePiece):
    content: str | bytes = pathlib.Path(vocabulary.path).read_bytes()
    suffix = _SUFFIXES["sentencepiece"]
  elif isinstance(vocabulary, TokenizerJson):
    content, suffix = vocabulary.whole(), _SUFFIXES["tokenizer_json"]
  else:
    return
  copy = folder / f"{vocabulary.identity[:16]}{suffix}"
  if not copy.is_file():
    folder.mkdir(parents=True, exist_ok=True)
    paths.replace(copy, content)
