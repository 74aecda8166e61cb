"""Rows of text made rows of ids by a tokenizer alone: no seqio, no TensorFlow."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from hyperjax.data.vocabulary import Tokenizer

Row = Mapping[str, Any]  # str, Tokenized, or what its field says


class Tokenized(NamedTuple):
  """A feature's text with the ids that its pipeline makes of it."""

  text: str
  ids: np.ndarray  # with the end of sequence, where the feature adds one


class Feature(NamedTuple):
  vocabulary: Tokenizer
  add_eos: bool


def tokenised(
  read: Callable[[], Iterable[Row]],
  features: Mapping[str, Feature],
  where: str = "rows",
) -> Iterator[dict[str, Any]]:
  """What `read` yields, as `store.write` takes it: the ids of seqio's pipeline.

  A feature that comes with its ids is not tokenised again.

  Args:
    read: the rows.
    features: what is tokenised of each.
    where: they come from, for messages.

  Raises:
    ValueError: a row lacks a feature, or has something else than a text.
  """
  ends = {
    name: [of.vocabulary.eos_id]
    if of.add_eos and of.vocabulary.eos_id is not None
    else []
    for name, of in features.items()
  }
  for number, fields in enumerate(read(), 1):
    row: dict[str, Any] = {"record": dict(fields)}
    for name, of in features.items():
      text = row["record"].pop(name, None)
      if not isinstance(text, str | Tokenized):
        raise ValueError(
          f"{where}: row {number:,} must have a text as {name!r}, got {text!r:.80}"
        )
      if isinstance(text, Tokenized):
        text, row[name] = text
      else:
        row[name] = of.vocabulary.encode(text) + ends[name]
      row["record"][f"{name}_pretokenized"] = text
    yield row
