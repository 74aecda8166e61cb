"""What rows were answered, as OpenAI's clients read it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from hyperjax.data.vocabulary import Tokenizer
from hyperjax.server.jobs import Answered

_DIGITS = 6


@dataclasses.dataclass(frozen=True)
class Reader:
  """Text of tokens, up to where it is to stop."""

  vocabulary: Tokenizer
  ends: frozenset[int]  # ids that are no text
  stop: Sequence[str] = ()

  def text(self, tokens: Sequence[int]) -> str:
    return self.vocabulary.decode([i for i in tokens if i not in self.ends])

  def cut(self, text: str) -> tuple[str, bool]:
    """What is before the first of the stops, and whether there was one."""
    found = [at for stop in self.stop if (at := text.find(stop)) >= 0]
    return (text[: min(found)], True) if found else (text, False)

  def safe(self, text: str) -> str:
    """What of an answer that goes on will stay, whatever comes."""
    text = text.rstrip("\ufffd")  # the first bytes of a character
    for length in range(max(map(len, self.stop), default=1) - 1, 0, -1):
      if any(stop.startswith(text[-length:]) for stop in self.stop):
        return text[:-length] if length <= len(text) else ""
    return text

  def choice(
    self, index: int, answered: Answered, logprobs: int | None
  ) -> dict[str, Any]:
    """A whole answer."""
    text, is_stopped = self.cut(self.text(answered.tokens))
    is_over = is_stopped or answered.has_ended
    told = (
      None if logprobs is None else self._logprobs(answered, logprobs, text)
    )
    return {
      "index": index,
      "text": text,
      "logprobs": told,
      "finish_reason": "stop" if is_over else "length",
    }

  def _logprobs(
    self, answered: Answered, count: int, text: str
  ) -> dict[str, Any]:
    """Of each token that is in the text, as far as one is one piece of it."""
    tokens: list[str] = []
    values: list[float] = []
    tops: list[dict[str, float]] | None = [] if count else None
    offsets: list[int] = []
    before = ""
    for place, token in enumerate(answered.tokens):
      if token in self.ends or len(before) > len(text):
        break
      so_far = list(answered.tokens[:place])
      now = self.text([*so_far, token])
      if len(before) >= len(text) and len(now) > len(text):
        break  # behind a stop
      tokens.append(now[len(before) :])
      values.append(round(answered.log_probs[place], _DIGITS))
      offsets.append(len(before))
      if tops is not None and answered.top is not None:
        tops.append(
          {
            self._piece(so_far, before, i): round(value, _DIGITS)
            for i, value in answered.top[place][:count]
          }
        )
      before = now
    return {
      "tokens": tokens,
      "token_logprobs": values,
      "top_logprobs": tops,
      "text_offset": offsets,
    }

  def _piece(self, so_far: Sequence[int], before: str, token: int) -> str:
    """What a token would have added; the end of an answer has a name of its own."""
    if token in self.ends:
      return "</s>"
    return self.text([*so_far, token])[len(before) :]


class Follower:
  """Pieces of answers while they grow; one for all rows of a request."""

  def __init__(self, reader: Reader, num_rows: int):
    self._reader = reader
    self._told = [""] * num_rows

  def more(self, row: int, answered: Answered) -> tuple[str, bool]:
    """What can be told now, and whether nothing will follow but the end."""
    text, is_over = self._reader.cut(self._reader.text(answered.tokens))
    is_over = is_over or answered.has_ended
    return self._new(row, text if is_over else self._reader.safe(text)), is_over

  def rest(self, row: int, text: str) -> str:
    """What was not yet told of the whole answer."""
    return self._new(row, text)

  def _new(self, row: int, text: str) -> str:
    told = self._told[row]
    if not text.startswith(told):
      return ""  # later tokens have changed what stood there
    self._told[row] = text
    return text[len(told) :]
