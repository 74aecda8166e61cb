"""SentencePiece vocabularies without seqio: the same ids, a fast start."""

import dataclasses
import functools
import hashlib
import os
import pathlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from hyperjax import checks, paths
from hyperjax.data import files

_DESCRIBED = "the description of a vocabulary"
_MOST_EXTRA_IDS = 1 << 20


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
    """What identifies it, as JSON; `open_described` reads it back."""
    ...

  def encode(self, text: str) -> list[int]:
    """Ids of `text`, without an end of sequence."""
    ...

  def decode(self, ids: Iterable[int]) -> str:
    """Text up to the first end of sequence."""
    ...


@dataclasses.dataclass(frozen=True)
class SentencePiece:
  """A SentencePiece model file, with T5's extra ids on top.

  `<extra_id_0>` has the highest id, as in T5 and by default in seqio.
  """

  path: str
  extra_ids: checks.ExtraIds = 100

  def __post_init__(self):
    checks.fields(self)

  @property
  def size(self) -> int:
    return self._processor.get_piece_size()

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
    """Hash of the model file and the extra ids."""
    status = os.stat(self.path)
    return _identity(
      self.path, self.extra_ids, status.st_size, status.st_mtime_ns
    )

  @property
  def description(self) -> dict[str, Any]:
    return {
      "kind": "sentencepiece",
      "path": self.path,
      "extra_ids": self.extra_ids,
      "identity": self.identity,
      "size": self.size,
    }

  def check(self) -> None:
    """Refuses a file that cannot be read.

    Raises:
      ValueError: it is no SentencePiece model, or a damaged one.
    """
    _load(self.path, self.extra_ids)

  def encode(self, text: str) -> list[int]:
    """Ids of `text`, without an end of sequence."""
    return self._processor.encode(text)

  def decode(self, ids: Iterable[int]) -> str:
    processor = self._processor
    known = [int(i) if i < self.size else processor.unk_id() for i in ids]
    if self.eos_id is not None and self.eos_id in known:
      known = known[: known.index(self.eos_id)]
    return processor.decode(known)

  def lost_whitespace(self, text: str) -> int:
    """How many characters of whitespace `decode` does not give back of `text`.

    Of T5's model these are line breaks and tabs, which it reads as spaces, and
    spaces at an end or beside others.
    """
    # What stands for an unknown character comes with spaces of its own.
    known = self.decode(self.encode(text)).replace(self._unknown_text, "")
    given, kept = [Counter(filter(str.isspace, x)) for x in (text, known)]
    return (given - kept).total()

  @property
  def _unknown_text(self) -> str:
    return self._processor.decode([self._processor.unk_id()])

  @property
  def _processor(self) -> Any:
    return _load(self.path, self.extra_ids)


def open_described(
  description: Mapping[str, Any] | None, folder: pathlib.Path
) -> SentencePiece | None:
  """The vocabulary that a store describes; None where it is no SentencePiece.

  The copy in `folder`, which travels with the store, comes before the path
  where the store was made.

  Raises:
    ValueError: its file is gone, or is not the one the store was made with.
  """
  if description is None:
    return None
  if files.field(description, "kind", _DESCRIBED) != "sentencepiece":
    return None
  for name in ("identity", "path"):
    files.text_field(description, name, _DESCRIBED)
  files.whole_field(description, "extra_ids", _DESCRIBED, 0, _MOST_EXTRA_IDS)
  copy = folder / f"{description['identity'][:16]}.model"
  for path in (copy, pathlib.Path(description["path"])):
    if files.is_file(path):
      here = paths.fetched(path)  # of this machine
      vocabulary = SentencePiece(str(here), description["extra_ids"])
      if vocabulary.identity != description["identity"]:
        raise ValueError(
          f"{path} is not the vocabulary these tokens were made with: its "
          f"identity is {vocabulary.identity[:16]}, theirs "
          f"{description['identity'][:16]}"
        )
      return vocabulary
  raise ValueError(
    f"the vocabulary of these tokens is neither at {copy} nor at "
    f"{description['path']}"
  )


def keep_copy(vocabulary: Vocabulary, folder: pathlib.Path) -> None:
  """Puts a SentencePiece model beside stored tokens, so that both travel."""
  if not isinstance(vocabulary, SentencePiece):
    return
  copy = folder / f"{vocabulary.identity[:16]}.model"
  if not copy.is_file():
    folder.mkdir(parents=True, exist_ok=True)
    files.replace(copy, pathlib.Path(vocabulary.path).read_bytes())


@functools.lru_cache(maxsize=32)
def _identity(path: str, extra_ids: int, size: int, changed: int) -> str:
  """Hundreds of tasks have one vocabulary: it is read once, and after changes."""
  del size, changed
  content = pathlib.Path(path).read_bytes()
  return hashlib.sha256(b"%d " % extra_ids + content).hexdigest()


@functools.lru_cache(maxsize=8)
def _load(path: str, extra_ids: int) -> Any:
  import sentencepiece  # not every command tokenises
  from sentencepiece import sentencepiece_model_pb2

  protos: Any = sentencepiece_model_pb2

  try:
    content = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise ValueError(f"vocabulary {path} cannot be read: {error}") from error
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
