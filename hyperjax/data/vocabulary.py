"""What a tokenizer is here, and SentencePiece's: the ids of seqio without seqio."""

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from hyperjax import checks
from hyperjax.data import added_tokens, lfs, sentencepiece_json


class Vocabulary(Protocol):
  """What stored tokens need of a vocabulary."""

  @property
  def size(self) -> int:
    """How many ids there are, extra ids counted."""
    ...

  @property
  def eos_id(self) -> int | None: ...

  @property
  def description(self) -> dict[str, Any]:
    """What identifies it, as JSON; `vocabularies.open_described` reads it back."""
    ...

  def encode(self, text: str) -> list[int]:
    """Ids of `text`, without an end of sequence."""
    ...

  def decode(self, ids: Iterable[int]) -> str:
    """Text up to the first end of sequence."""
    ...


class Tokenizer(Vocabulary, Protocol):
  """A vocabulary whose files are at hand: of training and serving alike."""

  @property
  def pad_id(self) -> int: ...

  @property
  def start_id(self) -> int | None:
    """What `encode` puts before every text, if anything."""
    ...

  @property
  def unknown_id(self) -> int | None:
    """What stands for text that there is no token for, if there can be such."""
    ...

  @property
  def identity(self) -> str:
    """Hexadecimal hash of all that decides ids."""
    ...

  @property
  def shown(self) -> str:
    """Which one it is, for messages."""
    ...

  def check(self) -> None:
    """Refuses files that cannot be read, with a ValueError."""
    ...

  def lost_whitespace(self, text: str) -> int:
    """How many characters of whitespace `decode` does not give back of `text`."""
    ...

  def files(self) -> dict[str, str | bytes]:
    """By name, what transformers needs of it in a folder."""
    ...

  def hf_settings(self) -> dict[str, Any]:
    """What tokenizer_config.json says of it."""
    ...


@dataclasses.dataclass(frozen=True)
class SentencePiece:
  """A SentencePiece model file, with T5's extra ids on top, and added tokens.

  `<extra_id_0>` has the highest id, as in T5 and by default in seqio. Text is split
  at these and at the tokens of `added`, each given with its id, before pieces are
  made of it, as transformers does. Those of `special` are left out of decoded text.
  """

  path: str
  extra_ids: checks.ExtraIds = 100
  added: added_tokens.Given = ()
  special: Sequence[str] = ()  # of `added`

  def __post_init__(self):
    checks.fields(self)

  @property
  def size(self) -> int:
    return added_tokens.size(self._processor.get_piece_size(), self.added)

  @property
  def pad_id(self) -> int:
    return max(self._processor.pad_id(), 0)

  @property
  def start_id(self) -> None:
    return None

  @property
  def shown(self) -> str:
    return self.path

  @property
  def eos_id(self) -> int | None:
    eos_id = self._processor.eos_id()
    return eos_id if eos_id >= 0 else None

  @property
  def unknown_id(self) -> int | None:
    """What stands for text that the model has no piece for."""
    unknown_id = self._processor.unk_id()
    return unknown_id if unknown_id >= 0 else None

  @property
  def identity(self) -> str:
    """Hash of the model file, the extra ids, and tokens that were added."""
    status = os.stat(self.path)
    plain = _identity(
      self.path, self.extra_ids, status.st_size, status.st_mtime_ns
    )
    if not self.added:
      return plain
    added = json.dumps([plain, self.added])
    return hashlib.sha256(added.encode()).hexdigest()

  @property
  def description(self) -> dict[str, Any]:
    found: dict[str, Any] = {
      "kind": "sentencepiece",
      "path": self.path,
      "extra_ids": self.extra_ids,
      "identity": self.identity,
      "size": self.size,
    }
    return found | added_tokens.described(self.added, self.special)

  def check(self) -> None:
    """Refuses a file that cannot be read.

    Raises:
      ValueError: it is no SentencePiece model, or a damaged one.
    """
    _load(self.path, self.extra_ids)

  def piece(self, number: int) -> str | None:
    """The piece of an id, added ones left out; None if it has none."""
    processor = self._processor
    is_piece = number < processor.get_piece_size()
    return processor.id_to_piece(number) if is_piece else None

  def encode(self, text: str) -> list[int]:
    """Ids of `text`, without an end of sequence."""
    numbers = _split_at(self.path, self.extra_ids, tuple(self.added))
    ids: list[int] = []
    for i, part in enumerate(added_tokens.split(text, tuple(numbers))):
      ids += [numbers[part]] if i % 2 else self._processor.encode(part)
    return ids

  def decode(self, ids: Iterable[int]) -> str:
    """Text up to the first end of sequence."""
    processor = self._processor
    size = processor.get_piece_size()
    contents = added_tokens.shown(self.added, self.special)
    known = [
      int(i) if i < size or i in contents else processor.unk_id() for i in ids
    ]
    if self.eos_id is not None and self.eos_id in known:
      known = known[: known.index(self.eos_id)]
    if not contents:
      return processor.decode(known)
    return self._joined(known, contents)

  def _joined(self, ids: list[int], contents: dict[int, str]) -> str:
    """Pieces between added tokens; the blank before a word is kept there."""
    text = ""
    pieces: list[int] = []
    for number in [*ids, None]:
      if number is not None and number not in contents:
        pieces.append(number)
        continue
      if pieces:
        begins_word = self._processor.id_to_piece(pieces[0]).startswith("▁")
        text += " " if text and begins_word else ""
        text += self._processor.decode(pieces)
        pieces = []
      text += contents.get(number, "") if number is not None else ""
    return text

  def lost_whitespace(self, text: str) -> int:
    """How many characters of whitespace `decode` does not give back of `text`.

    Of T5's model these are line breaks and tabs, which it reads as spaces, and
    spaces at an end or beside others.
    """
    # What stands for an unknown character comes with spaces of its own.
    known = self.decode(self.encode(text)).replace(self._unknown_text, "")
    given, kept = [Counter(filter(str.isspace, x)) for x in (text, known)]
    return (given - kept).total()

  def fitted(self, vocab_size: int) -> "SentencePiece":
    """Without T5's extra ids where a T5's embedding has no room for them."""
    if self.size <= vocab_size or self.added:
      return self
    return SentencePiece(self.path, 0)

  def files(self) -> dict[str, str | bytes]:
    """By name, what transformers needs of it in a folder."""
    found: dict[str, str | bytes] = {
      "spiece.model": pathlib.Path(self.path).read_bytes()
    }
    if self.added:
      found[added_tokens.ADDED] = json.dumps(dict(self.added), indent=2)
    same = sentencepiece_json.written(
      self.path, self.extra_ids, self._processor.encode
    )
    return found if same is None else found | {added_tokens.TOKENIZER: same}

  def hf_settings(self) -> dict[str, Any]:
    """What tokenizer_config.json says of it."""
    processor = self._processor
    named = {
      "eos_token": processor.eos_id(),
      "pad_token": processor.pad_id(),
      "unk_token": processor.unk_id(),
    }
    tokens: dict[str, Any] = {
      name: processor.id_to_piece(number)
      for name, number in named.items()
      if number >= 0
    }
    tokens |= added_tokens.special_settings(self.added, self.special)
    is_of_words = sentencepiece_json.is_of_words(self.path)
    kind = "PreTrainedTokenizerFast" if is_of_words else "T5Tokenizer"
    return {"tokenizer_class": kind, "extra_ids": self.extra_ids} | tokens

  @property
  def _unknown_text(self) -> str:
    return self._processor.decode([self._processor.unk_id()])

  @property
  def _processor(self) -> Any:
    return _load(self.path, self.extra_ids)


@functools.lru_cache(maxsize=32)
def _identity(path: str, extra_ids: int, size: int, changed: int) -> str:
  """Hundreds of tasks have one vocabulary: it is read once, and after changes."""
  del size, changed
  content = pathlib.Path(path).read_bytes()
  return hashlib.sha256(b"%d " % extra_ids + content).hexdigest()


@functools.lru_cache(maxsize=8)
def _split_at(
  path: str, extra_ids: int, added: tuple[tuple[str, int], ...]
) -> dict[str, int]:
  """Ids of what text is split at: sentinels, and tokens that were added."""
  last = _load(path, extra_ids).get_piece_size() - 1
  extra = {f"<extra_id_{i}>": last - i for i in range(extra_ids)}
  return extra | dict(added)


@functools.lru_cache(maxsize=8)
def _load(path: str, extra_ids: int) -> Any:
  import sentencepiece  # not every command tokenises
  from sentencepiece import sentencepiece_model_pb2

  protos: Any = sentencepiece_model_pb2

  try:
    content = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise ValueError(f"vocabulary {path} cannot be read: {error}") from error
  lfs.check(pathlib.Path(path))
  model = protos.ModelProto()
  try:
    model.ParseFromString(content)
  except Exception as error:
    # protobuf's own error class depends on its version.
    raise ValueError(f"{path} is not a SentencePiece model") from error
  _check_pieces(path, model)
  kind = protos.ModelProto.SentencePiece.USER_DEFINED
  for i in reversed(range(extra_ids)):
    model.pieces.add(piece=f"▁<extra_id_{i}>", score=0.0, type=kind)
  processor = sentencepiece.SentencePieceProcessor()
  try:
    processor.load_from_serialized_proto(model.SerializeToString())
  except (RuntimeError, ValueError) as error:
    # What its library says begins with the place in its own source.
    reason = str(error).rpartition("] ")[2]
    raise ValueError(
      f"{path} is a damaged SentencePiece model: {reason}"
    ) from error
  return processor


def _check_pieces(path: str, model: Any) -> None:
  """Refuses what would only fail when text is encoded or decoded."""
  if not model.pieces:
    raise ValueError(f"{path} is not a SentencePiece model: it has no piece")
  try:
    for text in (x.piece for x in model.pieces):
      _encodable(text)
    _encodable(model.trainer_spec.unk_surface)
  except UnicodeError as error:
    raise ValueError(
      f"{path} is a damaged SentencePiece model: not UTF-8: {error}"
    ) from error


def _encodable(text: str | bytes) -> None:
  """Raises where it is not UTF-8, which protobuf gives as it stands."""
  if isinstance(text, bytes):
    text.decode()
  else:
    text.encode()
