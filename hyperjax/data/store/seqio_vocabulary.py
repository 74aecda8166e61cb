"""Tokenizers as seqio's vocabularies: the ids of training are those of serving."""

from collections.abc import Sequence
from typing import Any

import seqio
import tensorflow as tf

from hyperjax.data.vocabulary import Tokenizer


class SeqioTokenizer(seqio.Vocabulary):
  """A tokenizer where seqio wants a vocabulary; two of one identity are equal."""

  def __init__(self, tokenizer: Tokenizer):
    super().__init__(extra_ids=0)
    self.tokenizer = tokenizer

  @property
  def bos_id(self) -> int | None:
    return self.tokenizer.start_id

  @property
  def eos_id(self) -> int | None:
    return self.tokenizer.eos_id

  @property
  def unk_id(self) -> int:
    """What ids that are none decode as: padding where no text is unknown."""
    unknown_id = self.tokenizer.unknown_id
    return self.tokenizer.pad_id if unknown_id is None else unknown_id

  @property
  def _base_vocab_size(self) -> int:
    return self.tokenizer.size

  def _encode(self, s: str) -> Sequence[int]:
    return self.tokenizer.encode(s)

  def _decode(self, ids: Any) -> str:
    return self.tokenizer.decode(ids)

  def _encode_tf(self, s: Any) -> Any:
    def encoded(text: Any) -> Any:
      return tf.constant(self._encode(text.numpy().decode()), tf.int32)

    ids = tf.py_function(encoded, [s], tf.int32)
    ids.set_shape([None])
    return ids

  def _decode_tf(self, ids: Any) -> Any:
    def decoded(own: Any) -> Any:
      if own.ndim > 1:
        return tf.stack([decoded(row) for row in own])
      return tf.constant(self._decode(own.numpy().tolist()))

    return tf.py_function(decoded, [ids], tf.string)

  def __eq__(self, other: object) -> bool:
    return (
      isinstance(other, SeqioTokenizer)
      and self.tokenizer.identity == other.tokenizer.identity
    )

  def __hash__(self) -> int:
    return hash(self.tokenizer.identity)

  def __str__(self) -> str:
    return f"SeqioTokenizer({self.tokenizer.shown})"
