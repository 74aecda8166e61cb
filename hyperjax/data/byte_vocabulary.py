"""ByT5's tokenizer: a token is a byte of UTF-8, after three special ones."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hyperjax import checks
from hyperjax.data import added_tokens

SPECIAL = 3  # padding, end of sequence, unknown
FIRST_EXTRA_ID = SPECIAL + 256


@dataclasses.dataclass(frozen=True)
class Bytes:
  """Bytes + 3, and `<extra_id_0>` and so on after them, as in transformers.

  Tokens of `added` are each given with their id; those of `special` are left out
  of decoded text.
  """

  extra_ids: checks.ExtraIds = 125
  added: added_tokens.Given = ()
  special: Sequence[str] = ()  # of `added`

  def __post_init__(self):
    checks.fields(self)

  @property
  def size(self) -> int:
    return added_tokens.size(FIRST_EXTRA_ID + self.extra_ids, self.added)

  @property
  def pad_id(self) -> int:
    return 0

  @property
  def eos_id(self) -> int:
    return 1

  @property
  def start_id(self) -> None:
    return None

  @property
  def unknown_id(self) -> None:
    return None  # every text has bytes

  @property
  def identity(self) -> str:
    added = json.dumps(self.added) if self.added else ""
    decided = f"bytes {self.extra_ids}{added}"
    return hashlib.sha256(decided.encode()).hexdigest()

  @property
  def description(self) -> dict[str, Any]:
    found: dict[str, Any] = {
      "kind": "bytes",
      "extra_ids": self.extra_ids,
      "identity": self.identity,
      "size": self.size,
    }
    return found | added_tokens.described(self.added, self.special)

  @property
  def shown(self) -> str:
    return "the vocabulary of bytes"

  def check(self) -> None:
    pass

  def encode(self, text: str) -> list[int]:
    """Ids of `text`, without an end of sequence."""
    numbers = _numbers(self)
    ids: list[int] = []
    for i, part in enumerate(added_tokens.split(text, tuple(numbers))):
      # What is no Unicode, such as half of a surrogate pair, cannot be written.
      ids += (
        [numbers[part]]
        if i % 2
        else [SPECIAL + byte for byte in part.encode(errors="replace")]
      )
    return ids

  def decode(self, ids: Iterable[int]) -> str:
    """Text up to the first end of sequence; bytes that are no UTF-8 are left out."""
    contents = {number: content for content, number in _numbers(self).items()}
    contents |= added_tokens.shown(self.added, self.special)
    text = bytearray()
    for number in map(int, ids):
      if number == self.eos_id:
        break
      if number in contents:
        text += contents[number].encode()
      elif SPECIAL <= number < FIRST_EXTRA_ID:
        text.append(number - SPECIAL)
    return text.decode(errors="ignore")

  def lost_whitespace(self, text: str) -> int:
    del text
    return 0

  def files(self) -> dict[str, str | bytes]:
    """By name, what transformers needs of it in a folder."""
    return {added_tokens.ADDED: json.dumps(dict(_numbers(self)), indent=2)}

  def hf_settings(self) -> dict[str, Any]:
    """What tokenizer_config.json says of it."""
    return {
      "tokenizer_class": "ByT5Tokenizer",
      "extra_ids": self.extra_ids,
      "eos_token": "</s>",
      "pad_token": "<pad>",
      "unk_token": "<unk>",
      **added_tokens.special_settings(self.added, self.special),
    }


@functools.lru_cache(maxsize=8)
def _numbers(vocabulary: Bytes) -> Mapping[str, int]:
  """Ids of what is a token besides bytes."""
  extra = {
    f"<extra_id_{i}>": FIRST_EXTRA_ID + i for i in range(vocabulary.extra_ids)
  }
  return extra | dict(vocabulary.added)
